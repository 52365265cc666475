"""F22: LAMMPS loses atoms, explodes, lacks its potential or MPI: 'failed' with the reason, and the others go on."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scant.errors import InputError, SimulationError
from scant.physics.lammps import POTENTIALS, LammpsError, Simulation, potential_file
from scant.physics.lattice import honeycomb
from scant.physics.md import MdSettings, judge_structure

pytestmark = pytest.mark.fault("F22")
SETTINGS = MdSettings(length_ps=0.05)
XY = honeycomb(24.0, 24.0)
FLAT = np.column_stack([XY, np.zeros(len(XY))])
CARBON = ["C"] * len(FLAT)


def test_bad_structures_fail_and_those_after_them_are_judged_as_if_alone() -> None:
    alone = judge_structure(FLAT, CARBON, settings=SETTINGS, seed=3)
    not_finite, double = FLAT.copy(), FLAT.copy()
    not_finite[5, 2] = np.nan
    double[8] = double[9]
    batch = {
        "atom 5 has position": not_finite,
        "closer than 0.5 A": double,
        "N >= 1": FLAT[:0],
        "below 10000 A": FLAT * 1e6,
        "too small": FLAT[:3],
    }
    for reason, positions in batch.items():
        verdict = judge_structure(positions, ["C"] * len(positions), settings=SETTINGS, seed=3)
        assert verdict.verdict == "failed" and reason in verdict.reason, reason
        after = judge_structure(FLAT, CARBON, settings=SETTINGS, seed=3)
        assert replace(after, cpu_s=0, log="") == replace(alone, cpu_s=0, log="")


def test_an_exploding_structure_fails_with_the_log_kept() -> None:
    lax = replace(SETTINGS, potential="rebo", bond_range_angstrom=(0.0, 9.0), max_displacement_angstrom=99.0, max_released_ev=1e9,
                  max_excess_ev_per_atom=1e9)  # fmt: skip
    verdict = judge_structure(FLAT * 0.4, CARBON, settings=lax, seed=3)
    assert verdict.verdict == "failed" and "Lost atoms" in verdict.reason
    assert "ERROR: Lost atoms" in verdict.log and "velocity moving create" in verdict.log


def test_lost_atoms_are_an_error_and_the_log_outlives_the_scratch_folder() -> None:
    with pytest.raises(LammpsError, match="Lost atoms") as caught, Simulation(FLAT * 0.4, CARBON, potential="rebo") as simulation:
        simulation.start_nvt(5000.0, seed=1)
        simulation.run(1.0)
    assert "ERROR: Lost atoms" in caught.value.log
    assert "ERROR: Lost atoms" in simulation.log


def test_missing_potential_fails_the_verdict_and_names_the_folder(tmp_path: Path) -> None:
    verdict = judge_structure(FLAT, CARBON, settings=replace(SETTINGS, potential_folder=tmp_path), seed=3)
    assert verdict.verdict == "failed" and "BNC.tersoff" in verdict.reason and str(tmp_path) in verdict.reason
    with pytest.raises(SimulationError, match="make setup"):
        potential_file(POTENTIALS["lcbop"], tmp_path)


def test_damaged_potential_fails_the_verdict_with_the_log_kept(tmp_path: Path) -> None:
    (tmp_path / "BNC.tersoff").write_text("C C C 3.0 1.0 0.0 38049 4.3484\n")
    verdict = judge_structure(FLAT, CARBON, settings=replace(SETTINGS, potential_folder=tmp_path), seed=3)
    assert verdict.verdict == "failed" and "pair_coeff" in verdict.reason
    assert "ERROR" in verdict.log


def test_missing_mpi_library_fails_the_verdict_with_the_remedy() -> None:
    code = (
        "import sys; sys.prefix = '/nonexistent'\n"
        "import numpy as np\n"
        "from scant.physics.md import MdSettings, judge_structure\n"
        "from scant.physics.lattice import honeycomb\n"
        "xy = honeycomb(20, 20)\n"
        "verdict = judge_structure(np.column_stack([xy, 0 * xy[:, 0]]), ['C'] * len(xy), settings=MdSettings(length_ps=0.05), seed=1)\n"
        "print(verdict.verdict, verdict.reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("failed LAMMPS needs the MPI library /nonexistent/lib/libmpi.so.12")
    assert "make setup" in done.stdout


def test_scratch_folders_are_removed_after_success_and_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    judge_structure(FLAT, CARBON, settings=SETTINGS, seed=3)
    judge_structure(FLAT, CARBON, settings=replace(SETTINGS, potential_folder=tmp_path), seed=3)
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_path_with_spaces_and_dollars_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "a folder; ${HOME} $x"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    verdict = judge_structure(FLAT, CARBON, settings=SETTINGS, seed=3)
    assert verdict.verdict == "stable", verdict.reason


def test_nothing_but_carbon_and_known_names_reaches_lammps() -> None:
    with pytest.raises(InputError, match="species"):
        Simulation(FLAT, ["C\nshell touch PWNED"] * len(FLAT))
    with pytest.raises(InputError, match="unknown; choose one of"):
        Simulation(FLAT, CARBON, potential="tersoff\nshell touch PWNED")
    with pytest.raises(InputError, match="one symbol per atom"):
        Simulation(FLAT, CARBON[1:])
    with pytest.raises(InputError, match="lattice constant is 24"):
        Simulation(FLAT, CARBON, lattice_constant_angstrom=24.6)


def test_a_failed_command_leaves_the_process_usable() -> None:
    for _ in range(3):
        with pytest.raises(LammpsError), Simulation(FLAT * 0.4, CARBON, potential="rebo") as simulation:
            simulation.start_nvt(5000.0, seed=1)
            simulation.run(1.0)
    with Simulation(FLAT, CARBON) as simulation:
        assert np.isfinite(simulation.atom_energies()).all()
