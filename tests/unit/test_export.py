"""Exports: what another program reads is what the tables say, no spreadsheet runs a cell, nothing is overwritten."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.io
import numpy as np
import polars as pl
import pytest
from scant.__main__ import main
from scant.errors import InputError
from scant.io.exchange import VACUUM_ANGSTROM, write_csv
from scant.io.structures import read_extxyz

PIXEL = 0.2
N = 40


@pytest.fixture
def results(tmp_path) -> Path:
    """Frames 0, 1 and 3 of a made-up dataset with two species, atoms beyond the view, and frame 2 without a structure."""
    folder = tmp_path / "run" / "bn"
    (folder / "dose").mkdir(parents=True)
    rng = np.random.default_rng(7)
    frames = np.repeat([0, 1, 3], N)
    columns = {"frame": frames, "id": np.tile(rng.permutation(N), 3), "species": ["B", "N"] * (3 * N // 2)}
    columns |= {"x_angstrom": rng.uniform(-2, 22, 3 * N), "y_angstrom": rng.uniform(-2, 12, 3 * N), "z_angstrom": rng.normal(0, 2, 3 * N)}
    columns |= {f"sigma_{axis}_angstrom": rng.uniform(0.01, 0.5, 3 * N) for axis in "xyz"} | {"flag": np.zeros(3 * N, int)}
    atoms = pl.DataFrame(columns)
    atoms.write_parquet(folder / "atoms.parquet")
    pl.DataFrame({"frame": [0, 1, 2, 3], "status": ["ok", "ok", "failed", "ok"]}).write_parquet(folder / "frames.parquet")
    facts = {"height_px": 50, "width_px": 100, "pixel_size_angstrom": PIXEL, "frame_time_ms": 2.0}
    (folder / "calibration.json").write_text(json.dumps(facts))
    return folder


def seen(results: Path, frame: int) -> pl.DataFrame:
    inside = pl.col("x_angstrom").is_between(-0.1, 19.9) & pl.col("y_angstrom").is_between(-0.1, 9.9)
    return pl.read_parquet(results / "atoms.parquet").filter(inside, frame=frame).sort("id")


@pytest.mark.parametrize(("kind", "options"), [("lammps-data", {"atom_style": "atomic", "units": "metal"}), ("cif", {})])
def test_ase_reads_the_frame_back(results, tmp_path, kind, options):
    target = tmp_path / f"out.{kind}"
    assert main(["export", str(results), "--frame", "3", "--format", kind, "--out", str(target)]) == 0
    atoms, rows = ase.io.read(target, format=kind, **options), seen(results, 3)
    assert atoms.get_chemical_symbols() == rows["species"].to_list()
    edge = VACUUM_ANGSTROM + PIXEL / 2
    moved = rows.select("x_angstrom", "y_angstrom", "z_angstrom").to_numpy() + (edge, edge, 20)
    np.testing.assert_allclose(atoms.positions, moved, atol=1e-6)
    np.testing.assert_allclose(atoms.cell.lengths(), [30, 20, 40])
    assert (atoms.positions > 0).all() and (atoms.positions < atoms.cell.lengths()).all()
    assert list(tmp_path.glob(".*partial")) == []


def test_a_cif_keeps_ids_and_sigmas(results, tmp_path):
    pl.read_parquet(results / "atoms.parquet").with_columns(
        sigma_z_angstrom=pl.when(pl.int_range(pl.len()) % 2 == 0).then("sigma_z_angstrom")
    ).write_parquet(results / "atoms.parquet")
    assert main(["export", str(results), "--frame", "0", "--format", "cif", "--out", str(tmp_path / "a.cif")]) == 0
    tags = ase.io.read(tmp_path / "a.cif", store_tags=True).info
    rows = seen(results, 0)
    assert tags["_atom_site_label"] == [f"{s}{i}" for s, i in rows.select("species", "id").iter_rows()]
    np.testing.assert_allclose(tags["_scant_sigma_x_angstrom"], rows["sigma_x_angstrom"], atol=6e-6)
    assert [value == "?" for value in tags["_scant_sigma_z_angstrom"]] == rows["sigma_z_angstrom"].is_null().to_list()


def test_extxyz_keeps_the_coordinates(results, tmp_path):
    assert main(["export", str(results), "--frame", "1", "--format", "extxyz", "--out", str(tmp_path / "a.extxyz")]) == 0
    back = read_extxyz(str(tmp_path / "a.extxyz"))
    assert back["frame"].unique().to_list() == [1] and back["time_ms"][0] == 2.0
    np.testing.assert_allclose(back["z_angstrom"], seen(results, 1)["z_angstrom"], atol=6e-6)


def test_a_flat_dataset_is_exported_flat(results, tmp_path, capsys):
    nothing = pl.lit(None, pl.Float64)
    pl.read_parquet(results / "atoms.parquet").with_columns(z_angstrom=nothing, sigma_z_angstrom=nothing).write_parquet(
        results / "atoms.parquet"
    )
    assert main(["export", str(results), "--frame", "0", "--format", "cif", "--out", str(tmp_path / "a.cif")]) == 0
    assert "z is 0" in capsys.readouterr().out
    np.testing.assert_allclose(ase.io.read(tmp_path / "a.cif").positions[:, 2], 20)


def test_tables_as_csv(results, tmp_path):
    assert main(["export", str(results), "--format", "csv", "--out", str(tmp_path / "whole")]) == 0
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["atoms.csv", "frames.csv"]
    assert pl.read_csv(tmp_path / "whole/atoms.csv").equals(pl.read_parquet(results / "atoms.parquet"))
    assert main(["export", str(results), "--format", "csv", "--frame", "1", "--out", str(tmp_path / "one")]) == 0
    assert pl.read_csv(tmp_path / "one/atoms.csv")["frame"].unique().to_list() == [1]


def test_no_cell_is_a_formula(tmp_path):
    attacks = [
        "=1", "+1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", '=LINK("http://x","y")', "|calc", "\x00=1"
    ]  # fmt: skip
    harmless = ["C", "stable", "bond 1-2 broken", "a=b", "x, y", 'say "no"', None, ""]
    pl.DataFrame({"frame": range(len(attacks + harmless)), "reason": attacks + harmless, "z": -1.5}).write_parquet(tmp_path / "md.parquet")
    write_csv(tmp_path / "md.parquet", tmp_path / "md.csv")
    with (tmp_path / "md.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["reason"] for row in rows] == [f"'{text}" for text in attacks] + [text or "" for text in harmless]
    assert {row["z"] for row in rows} == {"-1.5"}


def test_nested_columns_are_refused(tmp_path):
    pl.DataFrame({"a": [[1, 2]]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="columns a hold lists"):
        write_csv(tmp_path / "a.parquet", tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--frame", "9", "--format", "cif"], "there is no frame 9; allowed: 0 to 3 (3 frames with a structure)"),
        (["--frame", "2", "--format", "cif"], "frame 2 is failed; allowed"), (["--frame", "-1", "--format", "csv"], "no frame -1"),
        (["--format", "lammps-data"], "lammps-data holds one frame; give --frame, 0 to 3"),
        (["--format", "cif", "--frame", "0", "--out", "."], "already there and not overwritten"),
        (["--format", "cif", "--frame", "0", "--out", "no/such/folder/a.cif"], "cannot be written"),
    ],
)  # fmt: skip
def test_faults_say_what_is_allowed(results, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(results), *arguments]) == 1
    assert words in capsys.readouterr().err


def test_a_folder_without_results_and_a_damaged_table(results, tmp_path, capsys):
    assert main(["export", str(tmp_path), "--format", "csv"]) == 1
    assert "no atoms.parquet; give the folder" in capsys.readouterr().err
    (results / "atoms.parquet").write_bytes(b"PAR1 nonsense")
    assert main(["export", str(results), "--format", "cif", "--frame", "0"]) == 1
    assert "no table can be read" in capsys.readouterr().err


def test_files_are_named_after_dataset_and_frame(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(results), "--frame", "0", "--format", "lammps-data"]) == 0
    assert (tmp_path / "bn-frame-0.data").is_file()
