"""The judge and the thermal sheets: potentials, verdicts on good and damaged structures, ripples, determinism."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scant.errors import InputError
from scant.physics.lammps import POTENTIALS, Simulation
from scant.physics.lattice import bond_lengths, honeycomb, pairs_within
from scant.physics.md import MdSettings, in_plane_displacement, judge_structure, rim_atoms
from scant.physics.sheet import SheetSettings, ThermalSheet, thermal_sheet

SHORT = MdSettings(length_ps=0.3)
SMALL = SheetSettings(26.0, 22.0, 6, frame_interval_ps=0.1, equilibration_ps=1.0)


def flat_patch(size_angstrom: float = 28.0) -> np.ndarray:
    xy = honeycomb(size_angstrom, size_angstrom)
    return np.column_stack([xy, np.zeros(len(xy))])


@pytest.fixture(scope="module")
def sheet() -> ThermalSheet:
    return thermal_sheet(SMALL, seed=11)


@pytest.fixture(scope="module")
def estimate(shared_data: Path) -> np.ndarray:
    """The first true frame of the open movie with the errors of a good reconstruction: 0.03 A in x, y; 0.3 A in z, smooth."""
    lines = (shared_data / "graphene-open" / "truth.extxyz").read_text().splitlines()
    positions = np.array([line.split()[1:4] for line in lines[2 : 2 + int(lines[0])]], dtype=float)
    rng = np.random.default_rng(0)
    positions[:, :2] += rng.normal(0, 0.03, (len(positions), 2))
    positions[:, 2] += 0.3 * np.sin(positions[:, 0] / 4) + 0.3 * np.cos(positions[:, 1] / 5 + 1)
    return positions


def moved(positions: np.ndarray, offset: tuple[float, float, float]) -> np.ndarray:
    """The structure with the atom nearest its middle displaced."""
    atom = np.linalg.norm(positions[:, :2] - positions[:, :2].mean(axis=0), axis=1).argmin()
    changed = positions.copy()
    changed[atom] += offset
    return changed


@pytest.mark.parametrize("name", list(POTENTIALS))
def test_flat_sheet_has_the_tabulated_energy_and_is_in_equilibrium_at_the_lattice_constant_asked_for(name: str) -> None:
    energies = []
    for strain in (-0.003, 0.0, 0.003):
        a = 2.45 * (1 + strain)
        cell = (8 * a, 5 * np.sqrt(3) * a)
        xy = honeycomb(cell[0] - 0.1, cell[1] - 0.1, a, origin=(0.2, 0.2))
        flat = np.column_stack([xy, np.zeros(len(xy))])
        with Simulation(flat, ["C"] * len(flat), potential=name, lattice_constant_angstrom=2.45, cell_angstrom=cell) as simulation:
            energies.append(simulation.atom_energies().mean())
            assert np.abs(simulation.forces()).max() < 1e-5
    assert len(flat) == 8 * 5 * 4
    assert energies[1] == pytest.approx(POTENTIALS[name].flat_energy_ev, abs=1e-4)
    rise = [energies[0] - energies[1], energies[2] - energies[1]]
    assert min(rise) > 0 and rise[0] == pytest.approx(rise[1], rel=0.05)


def test_minimisation_lowers_the_energy_and_heals_noise() -> None:
    flat = flat_patch()
    noisy = flat + np.random.default_rng(0).normal(0, 0.05, flat.shape)
    inside = ~rim_atoms(flat, 9.0)
    with Simulation(noisy, ["C"] * len(flat)) as simulation:
        before = simulation.atom_energies()
        simulation.minimise()
        after = simulation.atom_energies()
        healed = simulation.positions()
    assert after.sum() < before.sum()
    assert after[inside].mean() == pytest.approx(POTENTIALS["tersoff"].flat_energy_ev, abs=2e-3)
    bonds = pairs_within(healed, 1.9)
    assert bond_lengths(healed, bonds[inside[bonds].all(axis=1)]).std() < 0.01


def test_periodic_positions_come_back_where_they_were_given() -> None:
    cell = (8 * 2.46, 5 * np.sqrt(3) * 2.46)
    xy = honeycomb(cell[0] - 0.1, cell[1] - 0.1, origin=(0.2, 0.2)) - [7.0, 31.0]
    flat = np.column_stack([xy, np.zeros(len(xy))])
    with Simulation(flat, ["C"] * len(flat), cell_angstrom=cell) as simulation:
        np.testing.assert_allclose(simulation.positions(), flat, atol=1e-9)
        simulation.start_nvt(300.0, seed=1)
        simulation.run(0.3)
        assert np.abs(simulation.positions() - flat).max() < 1.0


def test_tethered_atoms_stay_and_others_move() -> None:
    flat = flat_patch()
    held = rim_atoms(flat, 3.0)
    with Simulation(flat, ["C"] * len(flat)) as simulation:
        simulation.tether(held, 200.0)
        simulation.start_nvt(600.0, seed=1)
        simulation.run(0.2)
        path = np.linalg.norm(simulation.positions() - flat, axis=1)
    assert path[held].max() < 0.25 < path[~held].max()


def test_atoms_that_do_not_move_stay_to_the_last_bit() -> None:
    flat = flat_patch()
    held = rim_atoms(flat, 3.0)
    with Simulation(flat, ["C"] * len(flat)) as simulation:
        given = simulation.positions()
        simulation.start_nvt(600.0, seed=1, moving=~held)
        simulation.run(0.2)
        path = np.linalg.norm(simulation.positions() - given, axis=1)
        assert simulation.temperature_k() > 300
    assert path[held].max() == 0 < path[~held].min()


@pytest.mark.parametrize("timestep_fs", [0.5, 1.5])
def test_the_rim_of_a_small_patch_does_not_heat_it(timestep_fs: float) -> None:
    flat = flat_patch()
    flat[:, 2] += 0.8 * np.sin(2 * np.pi * flat[:, 0] / 18.0)
    verdict = judge_structure(flat, ["C"] * len(flat), settings=MdSettings(length_ps=10.0, timestep_fs=timestep_fs), seed=1)
    assert verdict.verdict == "stable", verdict.reason
    assert verdict.md_temperature_k == pytest.approx(300, abs=40)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_atom_0p6_angstrom_off_is_not(axis: int) -> None:
    flat = flat_patch()
    flat[:, 2] += 0.8 * np.sin(2 * np.pi * flat[:, 0] / 18.0)
    good = judge_structure(flat, ["C"] * len(flat), settings=replace(SHORT, length_ps=0.2), seed=1)
    assert good.verdict == "stable", good.reason
    flat[np.linalg.norm(flat[:, :2] - flat[:, :2].mean(axis=0), axis=1).argmin(), axis] += 0.6
    assert judge_structure(flat, ["C"] * len(flat), settings=replace(SHORT, length_ps=0.2), seed=1).verdict == "unstable"


def test_a_good_estimate_is_stable(estimate: np.ndarray) -> None:
    verdict = judge_structure(estimate, ["C"] * len(estimate), settings=replace(SHORT, length_ps=1.0), seed=1)
    assert (verdict.verdict, verdict.reason) == ("stable", "")
    assert verdict.max_displacement_angstrom < 0.4 and verdict.max_released_ev < 2
    assert verdict.md_temperature_k == pytest.approx(300, abs=30)
    assert verdict.relaxed_energy_per_atom_ev < verdict.md_energy_per_atom_ev < verdict.energy_per_atom_ev
    assert verdict.mean_bond_angstrom == pytest.approx(1.43, abs=0.01) and 0.04 < verdict.sd_bond_angstrom < 0.07
    assert "lost error" in verdict.log and verdict.n_atoms == len(estimate)


@pytest.mark.parametrize("potential", ["rebo", "lcbop"])
def test_other_potentials_agree_on_a_good_estimate(estimate: np.ndarray, potential: str) -> None:
    verdict = judge_structure(estimate, ["C"] * len(estimate), settings=replace(SHORT, length_ps=0.1, potential=potential), seed=1)
    assert verdict.verdict == "stable", verdict.reason


@pytest.mark.parametrize("angle", np.arange(8) * 0.7)
def test_one_atom_displaced_in_plane_is_unstable(estimate: np.ndarray, angle: float) -> None:
    broken = moved(estimate, (0.6 * np.cos(angle), 0.6 * np.sin(angle), 0.0))
    verdict = judge_structure(broken, ["C"] * len(broken), settings=SHORT, seed=1)
    assert verdict.verdict == "unstable" and verdict.reason
    assert np.isnan(verdict.md_temperature_k)


def test_one_atom_high_above_its_neighbours_is_unstable(estimate: np.ndarray) -> None:
    verdict = judge_structure(moved(estimate, (0.0, 0.0, 1.2)), ["C"] * len(estimate), settings=SHORT, seed=1)
    assert verdict.verdict == "unstable"


def test_one_atom_too_many_is_unstable(estimate: np.ndarray) -> None:
    middle = estimate[np.linalg.norm(estimate[:, :2] - 25.6, axis=1).argmin()]
    crowded = np.vstack([estimate, middle + [0.7, 0.3, 0.0]])
    assert judge_structure(crowded, ["C"] * len(crowded), settings=SHORT, seed=1).verdict == "unstable"


def test_a_vacancy_is_stable(estimate: np.ndarray) -> None:
    holed = np.delete(estimate, np.linalg.norm(estimate[:, :2] - 25.6, axis=1).argmin(), axis=0)
    verdict = judge_structure(holed, ["C"] * len(holed), settings=SHORT, seed=1)
    assert verdict.verdict == "stable", verdict.reason


def test_the_edge_of_the_view_does_not_decide(estimate: np.ndarray) -> None:
    worse = estimate.copy()
    worse[np.linalg.norm(estimate[:, :2] - [25.6, 0.0], axis=1).argmin()] += [0.4, 0.5, 0.5]
    verdict = judge_structure(worse, ["C"] * len(worse), settings=SHORT, seed=1)
    assert verdict.verdict == "stable", verdict.reason


def test_a_sheet_hot_enough_breaks(estimate: np.ndarray) -> None:
    # at the shipped step of 1.5 fs some of its atoms fly off, and the verdict is 'failed'
    hot = replace(SHORT, temperature_k=5000.0, length_ps=2.0, timestep_fs=1.0)
    verdict = judge_structure(estimate, ["C"] * len(estimate), settings=hot, seed=1)
    assert verdict.verdict == "unstable" and verdict.bonds_broken > 0


def test_verdict_repeats_bit_by_bit_and_depends_on_the_seed() -> None:
    flat = flat_patch()
    a, b, other = (
        asdict(replace(judge_structure(flat, ["C"] * len(flat), settings=SHORT, seed=seed), cpu_s=0, log="")) for seed in (4, 4, 5)
    )
    assert a == b
    assert a["md_energy_per_atom_ev"] != other["md_energy_per_atom_ev"]


def test_rim_is_a_band_along_the_hull() -> None:
    flat = flat_patch()
    depth = np.minimum(flat[:, :2], 28.0 - flat[:, :2]).min(axis=1)
    rim = rim_atoms(flat, 3.0)
    assert rim[depth < 2.4].all() and not rim[depth > 4.5].any()
    assert rim_atoms(flat[:2], 3.0).all()


def test_rigid_motion_is_no_displacement() -> None:
    flat = flat_patch()
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    after = flat @ turn + [5.0, -3.0, 2.0]
    np.testing.assert_allclose(in_plane_displacement(flat, after), 0, atol=1e-9)
    after[100, 0] += 0.5
    assert in_plane_displacement(flat, after)[100] == pytest.approx(0.5, abs=0.01)


def test_settings_out_of_range_are_refused() -> None:
    for change, message in (
        ({"temperature_k": -1.0}, "temperature is -1.0 K"),
        ({"timestep_fs": 5.0}, "0.01 to 2 fs"),
        ({"potential": "x"}, "airebo"),
    ):
        with pytest.raises(InputError, match=message):
            replace(SHORT, **change)
    with pytest.raises(InputError, match="length is nan ps"):
        MdSettings(length_ps=float("nan"))


def test_sheet_covers_the_view_with_bonded_rippled_atoms(sheet: ThermalSheet) -> None:
    frames, n_atoms, _ = sheet.positions.shape
    assert frames == SMALL.n_frames and sheet.species.tolist() == ["C"] * n_atoms and sheet.ids.tolist() == list(range(n_atoms))
    for positions in sheet.positions:
        assert abs(positions[:, 2].mean()) < 1e-9
        inside = (positions[:, :2] > -4).all(axis=1) & (positions[:, :2] < [30, 26]).all(axis=1)
        bonds = pairs_within(positions, 1.9)
        assert (np.bincount(bonds.ravel(), minlength=n_atoms)[inside] == 3).all()
        lengths = bond_lengths(positions, bonds)
        assert lengths.mean() == pytest.approx(1.42, abs=0.006) and 0.02 < lengths.std() < 0.035
    assert 0.2 < sheet.positions[..., 2].std() < 1.5


def test_sheet_moves_continuously_without_drift(sheet: ThermalSheet) -> None:
    steps = np.diff(sheet.positions, axis=0)
    assert np.abs(steps[..., :2]).max() < 0.5
    assert np.abs(steps.mean(axis=1)).max() < 1e-9
    assert 0.02 < steps[..., 2].std() < 0.5


def test_sheet_repeats_bit_by_bit_and_depends_on_the_seed(sheet: ThermalSheet) -> None:
    again = thermal_sheet(SMALL, seed=11)
    assert (again.positions == sheet.positions).all()
    other = thermal_sheet(replace(SMALL, n_frames=1, equilibration_ps=0.1), seed=12)
    assert not np.allclose(other.positions[0], sheet.positions[0], atol=0.01)


def test_hotter_sheets_stretch_their_bonds_more() -> None:
    spread = []
    for temperature in (150.0, 600.0):
        made = thermal_sheet(replace(SMALL, temperature_k=temperature, n_frames=3), seed=2)
        spread.append(np.std([bond_lengths(p, pairs_within(p, 1.9)) for p in made.positions]))
    assert spread[1] / spread[0] == pytest.approx(2.0, rel=0.2)


def test_defects_are_made_inside_the_view_and_counted() -> None:
    perfect = thermal_sheet(replace(SMALL, n_frames=1, equilibration_ps=0.1), seed=1).positions[0]
    made = thermal_sheet(replace(SMALL, n_frames=1, equilibration_ps=0.1, vacancies=2, stone_wales=1), seed=1).positions[0]
    assert len(made) == len(perfect) - 2
    degree = np.bincount(pairs_within(made, 1.9).ravel(), minlength=len(made))
    inside = (made[:, :2] > -3).all(axis=1) & (made[:, :2] < [29, 25]).all(axis=1)
    assert (degree[inside] == 2).sum() == 6
    with pytest.raises(InputError, match="30 defects do not fit"):
        thermal_sheet(replace(SMALL, vacancies=30), seed=1)


@pytest.mark.slow
def test_fifty_picoseconds_of_a_good_estimate(estimate: np.ndarray) -> None:
    verdict = judge_structure(estimate, ["C"] * len(estimate), settings=MdSettings(), seed=1)
    assert verdict.verdict == "stable", verdict.reason
    assert verdict.md_temperature_k == pytest.approx(300, abs=15)
