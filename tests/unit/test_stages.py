"""Where reading and computing meet: facts of a dataset, materials, truth, stacks, the ledger, twins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scant.config import Acquisition
from scant.errors import DataIntegrityError, FrameFailure, InputError, ScantError
from scant.inference.anneal import Schedule
from scant.inference.problem import RefineSettings
from scant.io.ledger import failure_table, faulty_frames, good_frames, refuse_many_failures
from scant.io.manifest import check_manifest
from scant.io.source import MovieSource
from scant.io.stacks import begin_stack, finish_stack, renew_movie
from scant.io.store import read_frames, write_frames
from scant.physics.optics import Optics
from scant.physics.simulate import View
from scant.stages.calibration import optics_from, optics_values, quality_gates, read_json, write_json
from scant.stages.facts import dataset_facts
from scant.stages.materials import load_material
from scant.stages.truth import read_truth
from scant.stages.twins import TwinTask, twin_truth, twins_table

SOURCE = MovieSource(("m.tif",), 10, 64, 64, "uint16", None, None, 80.0, "tifffile", {})
BN = 'Lattice="2.504 0 0 -1.252 2.1685 0 0 0 20" Properties=species:S:1:pos:R:3 pbc="T T F"'


def test_what_is_missing_is_said():
    facts = dataset_facts(SOURCE, Acquisition(movie="m.tif"), Path())
    assert facts["optics"] is None
    assert [
        word for word in ("cs_um, defocus_angstrom", "pixel size unset", "no dark", "no flat") if word not in " ".join(facts["missing"])
    ] == []


def test_voltage_in_the_file_counts_and_acquisition_overrides():
    known = Acquisition(movie="m.tif", cs_um=-13.0, defocus_angstrom=-45.0)
    assert dataset_facts(SOURCE, known, Path())["optics"]["voltage_kv"] == 80.0
    assert dataset_facts(SOURCE, known.model_copy(update={"voltage_kV": 60.0}), Path())["optics"]["voltage_kv"] == 60.0


def test_a_pixel_size_in_the_file_that_shows_no_lattice_is_not_used():
    facts = dataset_facts(replace(SOURCE, pixel_size_angstrom=62.8), Acquisition(movie="m.tif"), Path())
    assert (facts["pixel_size_angstrom"], facts["pixel_size_in_file_angstrom"]) == (None, 62.8)
    assert "pixel size 62.8 A (none that shows a lattice)" in " ".join(facts["missing"])
    assert dataset_facts(replace(SOURCE, pixel_size_angstrom=0.2), Acquisition(movie="m.tif"), Path())["pixel_size_angstrom"] == 0.2


def test_a_crystal_without_a_prior_stays_in_two_dimensions(tmp_path):
    (tmp_path / "bn.xyz").write_text(f"2\n{BN}\nB 0 0 10\nN 0 1.4457 10\n")
    known = Acquisition(movie="m.tif", material="bn.xyz", cs_um=-13.0, defocus_angstrom=-45.0)
    facts = dataset_facts(SOURCE, known, tmp_path)
    assert facts["optics"] is None
    assert "no interatomic prior for B, N" in " ".join(facts["missing"])
    assert load_material(facts["material"]).lattice_constant_angstrom == pytest.approx(2.504, abs=0.001)


def test_unknown_materials_are_refused(tmp_path):
    with pytest.raises(InputError, match="neither built in"):
        load_material("unobtainium")
    (tmp_path / "cubic.xyz").write_text('1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3\nCu 0 0 0\n')
    with pytest.raises(InputError, match="only honeycomb cells"):
        load_material(str(tmp_path / "cubic.xyz"))


def test_truth_that_is_none_is_refused(tmp_path):
    (tmp_path / "t.extxyz").write_text("not a structure\n")
    with pytest.raises(InputError, match=r"t\.extxyz"):
        read_truth(str(tmp_path / "t.extxyz"))


def renew(path: Path, **changed: object) -> None:
    attributes = {"pixel_size_angstrom": 0.2, "frame_time_ms": 1.0, "metadata": {}, "provenance": {"code_digest": "a"}} | changed
    renew_movie(str(path), (4, 8, 8), "uint16", 2, **attributes)  # type: ignore[arg-type]


def test_renewing_a_movie_keeps_its_frames_and_stacks_take_its_scale(tmp_path):
    movie, stack = tmp_path / "movie.zarr", tmp_path / "block.zarr"
    renew(movie)
    frames = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    write_frames(str(movie), 0, frames)
    renew(movie, provenance={"code_digest": "b"})
    np.testing.assert_array_equal(read_frames(str(movie), 0, 4), frames)
    for share in (2, 4):
        begin_stack(str(stack), str(movie), 2, (2, 8, 8), {})
        finish_stack(str(stack), write_frames(str(stack), 3, (frames[3:] / share).astype(np.float32)))
    np.testing.assert_array_equal(read_frames(str(stack), 3, 4), frames[3:] / 4)
    assert np.isnan(read_frames(str(stack), 2, 3)).all()
    assert check_manifest(str(stack), str(stack / "manifest.json")) == []
    renew_movie(str(movie), (4, 8, 9), "uint16", 2, pixel_size_angstrom=None, frame_time_ms=None, metadata={}, provenance={})
    with pytest.raises(DataIntegrityError, match="missing"):
        read_frames(str(movie), 0, 4)


def test_the_ledger():
    failure = FrameFailure(3, "localise", "calibration", "lattice lost", "look at it")
    table = failure_table([failure, *faulty_frames({1: "empty", 2: None})])
    assert table.select("frame", "stage", "cause").rows() == [(1, "ingest", "empty"), (3, "localise", "calibration")]
    assert failure_table([]).schema == table.schema
    assert good_frames(pl.DataFrame({"frame": [0, 1], "fault": [None, "dim"]})) == [0]
    refuse_many_failures([failure], 10, 0.1)
    with pytest.raises(ScantError, match="1 of 9 frames"):
        refuse_many_failures([failure], 9, 0.1)


def test_json_keeps_numbers_and_turns_nan_into_null(tmp_path):
    path = str(tmp_path / "deep" / "facts.json")
    write_json(path, {"a": np.float64(1.5), "b": np.array([1, 2]), "c": float("nan"), "d": (np.int64(3), None)})
    assert read_json(path) == {"a": 1.5, "b": [1, 2], "c": None, "d": [3, None]}
    with pytest.raises(DataIntegrityError, match=r"gone\.json"):
        read_json(str(tmp_path / "gone.json"))


def test_optics_survive_the_disk():
    optics = Optics(80.0, -130000.0, -45.0, 10.0, 52.2, 1.0, -2.0, 0.5, 0.9)
    assert optics_from(optics_values(optics) | {"sigma_defocus_angstrom": 1.0}) == optics


def test_gates_fail_when_they_should():
    calibration = {
        "pixel_size_angstrom": 0.2, "lattice": {"pixel_size_angstrom": 0.21, "anisotropy": 0.01, "reflection_snr": 9.0, "noise_snr": 10.0},
        "detector": {"dose_ratio_to_nominal": 1.0, "signal_noise": 1.0}, "optics": None,
    }  # fmt: skip
    assert {g["name"]: g["passed"] for g in quality_gates(calibration)} == {
        "pixel size against the lattice": False, "dose against nominal": True, "anisotropy of the lattice": True,
        "highest noise over the weakest reflection": False,
    }  # fmt: skip


def test_a_twin_is_reconstructed_and_scored():
    settings = RefineSettings(Schedule(4.0, 3, 3, 6, 8, 6), 2, "lcbop", 300.0, 2.46, 0.0, 3)
    view = View(90, 0.2, 0.1)
    task = TwinTask(0, twin_truth(view, settings, 0), Optics(80.0, -130000.0, -45.0, 10.0, 52.2), view, 0.5, 1.0, 3.0, settings)
    row, alone = task(20000.0)
    assert (row["window"], alone["window"]) == (5, 1)
    assert alone["succeeded"]
    assert row["succeeded"]
    assert row["recall"] > 0.97
    assert row["sigma_x_angstrom"] < 0.06
    assert row["rmsd_3d_angstrom"] < 1.2
    assert twins_table([row])["dose_e_per_angstrom2"].to_list() == [20000.0]
    assert not any(r["succeeded"] for r in task(0.5))
