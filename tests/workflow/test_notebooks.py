"""The notebooks on a finished run: each runs, makes its figures and says nothing to stderr; none is committed with outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from scant.errors import InputError
from scant.stages.finished import open_results

FIGURES = {"preprocessing": 7, "estimation": 11, "analysis": 9, "results": 1}
"""At least so many; the tiny movie has no atom 9 A from its rim, so no density of states."""


def notebooks(repository: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted((repository / "workflow/notebooks").glob("*.ipynb"))}


@pytest.fixture
def execute(repository, tmp_path, monkeypatch):
    """Execute a notebook where it lies, on the results given; its outputs."""
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")

    def run(name: str, results: Path) -> list[nbformat.NotebookNode]:
        monkeypatch.setenv("SCANT_RESULTS", str(results))
        path = notebooks(repository)[name]
        book = nbformat.read(path, as_version=4)
        NotebookClient(book, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
        return [output for cell in book.cells for output in cell.get("outputs", [])]

    return run


def printed(outputs: list[nbformat.NotebookNode], stream: str) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == stream)


@pytest.mark.parametrize("name", FIGURES)
def test_a_notebook_runs_and_makes_its_figures(name, execute, finished_once):
    outputs = execute(name, finished_once / "results/tiny")
    assert printed(outputs, "stderr") == ""
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= FIGURES[name]


def test_a_movie_without_a_truth_has_its_estimation_all_the_same(execute, finished_once, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(finished_once / "results/tiny", results, ignore=shutil.ignore_patterns("simulated"))
    outputs = execute("estimation", results)
    assert "no truth is known of this movie" in printed(outputs, "stdout")
    assert sum("image/png" in output.get("data", {}) for output in outputs) == FIGURES["estimation"] - 1


def test_every_notebook_is_tried_and_none_has_outputs(repository):
    assert notebooks(repository).keys() == FIGURES.keys()
    for path in notebooks(repository).values():
        for cell in nbformat.read(path, as_version=4).cells:
            message = f"{path}: clear all outputs (in JupyterLab: Edit, Clear Outputs of All Cells) before it is committed"
            assert not cell.get("outputs") and cell.get("execution_count") is None, message


def test_a_run_is_found_from_anywhere_below_it(finished_once, monkeypatch):
    monkeypatch.chdir(finished_once / "workflow/rules")
    assert open_results("results/tiny").folder == finished_once / "results/tiny"
    with pytest.raises(InputError, match="no finished run"):
        open_results("results/nothing")


def test_products_of_a_run_by_their_names(finished_once):
    run = open_results(str(finished_once / "results/tiny"))
    structure, samples = run.structure(2), run.samples(2)
    assert run.used("anneal")["n_chains"] == 2 and run.used("average")["window"] == 5 and run.used("nothing") == {}
    assert samples.shape == (len(samples), structure.ids.size, 3)
    assert np.abs(samples.mean(axis=0) - structure.xyz_angstrom)[:, :2].max() < 0.3
    lengths = np.linalg.norm(np.diff(structure.xyz_angstrom[run.bonded(2)], axis=1)[:, 0], axis=1)
    np.testing.assert_allclose(lengths, run.table("bonds", 2)["length_angstrom"])
    (mean, count), denoised = run.averaged(2), run.denoised(2)
    assert count == 5 and denoised.std() < mean.std() < run.examples.corrected(2).image_e.std()
    with pytest.raises(InputError, match="frame 99 has no structure"):
        run.structure(99)
