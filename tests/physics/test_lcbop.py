"""The annealer's LCBOP against LAMMPS and finite differences, its rim, and the array form against the compiled one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scant.inference.prior import build_prior
from scant.physics import lcbop, lcbop_pairs
from scant.physics.lammps import POTENTIALS, Simulation, potential_file
from scant.physics.lattice import flat_sites, honeycomb, pairs_within, stone_wales
from scant.physics.lcbop import LcbopTable, energy_and_gradient, lcbop_table, stack_lcbop_tables
from scant.physics.lcbop_pairs import pair_energy_and_slope, pair_terms, pair_terms_by_arrays
from scant.physics.sheet import SheetSettings, thermal_sheet
from scant.physics.tersoff import neighbour_table, site_major, stack_tables
from scipy.optimize import minimize

LATTICE = lcbop.FLAT_LATTICE_CONSTANT_ANGSTROM


def table_of(positions: np.ndarray, coordination: np.ndarray | None = None) -> LcbopTable:
    bonds = pairs_within(positions, 1.9)
    return lcbop_table(neighbour_table(bonds, len(positions), coordination=coordination), positions[:, :2])


@pytest.fixture(scope="module")
def sheet() -> np.ndarray:
    """A cut-out of a rippled sheet at 300 K with vacancies and a turned bond (LAMMPS, LCBOP)."""
    settings = SheetSettings(
        30,
        26,
        1,
        equilibration_ps=1.0,
        vacancies=2,
        stone_wales=1,
        margin_angstrom=3.0,
        lattice_constant_angstrom=LATTICE,
        potential="lcbop",
    )
    return thermal_sheet(settings, 3).positions[0]


def test_constants_are_those_of_the_potential_file():
    lines = potential_file(POTENTIALS["lcbop"]).read_text().splitlines()
    numbers = [float(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]
    assert numbers[3:9] == pytest.approx([lcbop.A_EV, lcbop.B1_EV, lcbop.B2_EV, lcbop.ALPHA, lcbop.BETA1, lcbop.BETA2])
    assert numbers[9:17] == [
        lcbop.H_D, lcbop.H_C1, lcbop.H_C4, lcbop.H_C6, lcbop.H_L, lcbop.H_KAPPA, lcbop.H_R0, lcbop.H_R1,
    ]  # fmt: skip
    assert numbers[17:20] == [lcbop_pairs.LR_R0, lcbop_pairs.LR_START, lcbop_pairs.LR_END]
    assert numbers[20:26] == [*lcbop_pairs.LR_V, *lcbop_pairs.LR_EPSILON, *lcbop_pairs.LR_LAMBDA]


def test_energy_and_forces_equal_those_of_lammps(sheet):
    energy, gradient = energy_and_gradient(sheet, table_of(sheet))
    with Simulation(sheet, np.full(len(sheet), "C"), potential="lcbop", lattice_constant_angstrom=LATTICE) as simulation:
        assert energy == pytest.approx(simulation.atom_energies().sum(), abs=1e-6)
        np.testing.assert_allclose(-gradient, simulation.forces(), atol=1e-6)


def test_gradient_equals_finite_differences_where_h_leaves_its_polynomial():
    """Bonds off by up to 0.3 A: all three pieces of H and all pieces of G that a sheet meets."""
    rng = np.random.default_rng(5)
    xy = honeycomb(9.0, 7.0, LATTICE, rotation_rad=0.4)
    atoms = np.column_stack([xy, 0.3 * np.sin(xy[:, 0])])
    table = table_of(atoms, np.full(len(atoms), 3))
    atoms = atoms + rng.normal(0, 0.1, atoms.shape)
    _, gradient = energy_and_gradient(atoms, table)
    steps = 1e-5 * np.eye(atoms.size).reshape(-1, *atoms.shape)
    up, down = (np.array([energy_and_gradient(atoms + sign * step, table)[0] for step in steps]) for sign in (1, -1))
    np.testing.assert_allclose((up - down) / 2e-5, gradient.ravel(), atol=2e-5 * np.abs(gradient).max())


def test_a_cut_sheet_stays_flat_and_keeps_its_lattice():
    """Complete coordination and the rim's tension: no net force on the flat cut-out, and none on its copy turned out of the plane."""
    xy = honeycomb(30.0, 26.0, LATTICE, rotation_rad=0.2)
    bonds = pairs_within(xy, 1.9)
    keep = np.bincount(bonds.ravel(), minlength=len(xy)) > 1
    flat = np.column_stack([xy, np.zeros(len(xy))])[keep]
    table = table_of(flat, np.full(len(flat), 3))
    _, gradient = energy_and_gradient(flat, table)
    assert np.abs(gradient).max() < 1e-3
    c, s = np.cos(0.3), np.sin(0.3)
    tilted = flat @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    assert np.abs(energy_and_gradient(tilted, table)[1]).max() < 1e-3


def test_array_form_equals_the_compiled_one(sheet):
    table = table_of(sheet, np.full(len(sheet), 3))
    xyz = site_major(np, sheet[None], table.bonds)
    pairs = xyz, table.partner_index, table.partner_present, table.partner_tension
    for arrays, compiled in zip(pair_terms_by_arrays(*pairs), pair_terms(*pairs)):
        np.testing.assert_allclose(arrays, compiled, atol=1e-7)


def test_a_pair_on_pieces_is_the_potentials():
    """Two atoms at distances of the whole range, nearer than the bond's 2.2 A too, where a trajectory may bring them."""
    r = np.linspace(1.1, 6.3, 2000)
    xyz = np.zeros((3, len(r), 2))
    xyz[0, :, 1] = 0.6 * r
    xyz[2, :, 1] = 0.8 * r
    energy, gradient = pair_terms(xyz, np.array([1, 0]), np.array([[1.0, 1.0]]), np.zeros((1, 2)))
    value, slope = pair_energy_and_slope(r, np)
    np.testing.assert_allclose(energy, 0.5 * value[:, None].repeat(2, axis=1), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(gradient[:, :, 1], np.stack([0.6 * slope, 0 * slope, 0.8 * slope]), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradient[:, :, 0], -gradient[:, :, 1])


def test_stacked_structures_equal_single_ones(sheet):
    parts = [sheet, sheet[sheet[:, 0] < 15.0]]
    tables = [table_of(part, np.full(len(part), 3)) for part in parts]
    stacked = stack_lcbop_tables(tables, stack_tables([t.bonds for t in tables]))
    padded = np.zeros((2, len(sheet), 3))
    padded[0], padded[1, : len(parts[1])] = parts
    energy, gradient = energy_and_gradient(padded, stacked)
    for n, (part, table) in enumerate(zip(parts, tables)):
        alone, slope = energy_and_gradient(part, table)
        assert energy[n] == pytest.approx(alone, abs=1e-6)
        np.testing.assert_allclose(gradient[n, : len(part)], slope, atol=1e-6)
    assert np.all(gradient[1, len(parts[1]) :] == 0)


def test_single_precision_is_enough_for_metropolis(sheet):
    table = table_of(sheet)
    exact, single = (energy_and_gradient(sheet.astype(dtype), table)[0] for dtype in (np.float64, np.float32))
    assert abs(exact - single) < 5e-3  # eV: a fifth of k_B T at 300 K


def test_flat_sites_are_the_lattice_that_the_atoms_come_from():
    xy = honeycomb(30.0, 26.0, 2.46, rotation_rad=0.35, origin=(0.3, 0.4))
    bonds = pairs_within(xy, 1.9)
    noisy = xy + np.random.default_rng(1).normal(0, 0.08, xy.shape)
    sites = flat_sites(noisy, bonds, 2.46)
    error = sites - xy
    assert np.abs(error - error.mean(axis=0)).max() < 0.1  # a rotation by the noise of the bonds' mean direction is left
    lengths = np.linalg.norm(sites[bonds[:, 0]] - sites[bonds[:, 1]], axis=1)
    np.testing.assert_allclose(lengths, 2.46 / np.sqrt(3), atol=1e-4)


@pytest.mark.parametrize("from_end", [4.0, 6.0, 10.0])
def test_a_turned_bond_near_the_end_relaxes_as_in_a_larger_sheet(from_end):
    """The rim's energies must not take the turned bond for a part of the rim: that tore sheets 0.4 A (rms) out of place."""
    large = honeycomb(32, 32, LATTICE, rotation_rad=0.1, margin_angstrom=14)
    bonds = pairs_within(large, 1.8)
    middle = large[bonds].mean(axis=1)
    chosen = int(((middle - [16, 32 - from_end]) ** 2).sum(axis=1).argmin())
    sheet, bonds = stone_wales(large, bonds, chosen)
    kept = ((sheet > 0) & (sheet < 32)).all(axis=1)
    inside = (np.cumsum(kept) - 1)[bonds[kept[bonds].all(axis=1)]]
    whole = relaxed_in_plane(sheet, bonds, middle[chosen])
    cut = relaxed_in_plane(sheet[kept], inside, middle[chosen])
    near = ((sheet[kept] - middle[chosen]) ** 2).sum(axis=1) < 36
    off = np.sqrt(((cut - whole[kept])[near] ** 2).sum(axis=1).mean())
    assert off < {4.0: 0.2, 6.0: 0.1, 10.0: 0.06}[from_end]
    assert off < 0.95 * np.sqrt(((whole - sheet)[kept][near] ** 2).sum(axis=1).mean())


def relaxed_in_plane(sheet: np.ndarray, bonds: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Sheet (N, 2) with the atoms within 12 A of the centre at the least energy of their bonds."""
    flat = SimpleNamespace(positions=sheet, bonds=bonds, coordination=np.full(len(sheet), 3))
    prior = build_prior([flat], 1, "lcbop", LATTICE, 300.0)
    free = ((sheet - centre) ** 2).sum(axis=1) < 144

    def energy(x: np.ndarray) -> tuple[float, np.ndarray]:
        moved = np.column_stack([sheet, np.zeros(len(sheet))])
        moved[free, :2] = x.reshape(-1, 2)
        value, gradient = prior.energy_and_gradient(moved[None])
        return float(value[0]), gradient[0][free, :2].ravel()

    relaxed = sheet.copy()
    relaxed[free] = minimize(energy, sheet[free].ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x.reshape(-1, 2)
    return relaxed


def test_the_lattice_around_a_turned_bond_stays_perfect():
    sheet = honeycomb(30, 30, 2.46, rotation_rad=0.2)
    bonds = pairs_within(sheet, 1.8)
    chosen = int(((sheet[bonds].mean(axis=1) - 15) ** 2).sum(axis=1).argmin())
    turned, bonds = stone_wales(sheet, bonds, chosen)
    off = np.linalg.norm(flat_sites(turned, bonds, 2.46) - sheet, axis=1)
    assert (off > 0.02).sum() <= 2


def test_atoms_that_meet_are_no_error():
    """A trajectory that has run away is the sampler's to reject: an exception would end the frame's whole block."""
    xy = honeycomb(9.0, 7.0, LATTICE)
    positions = np.column_stack([xy, np.zeros(len(xy))])
    table = table_of(positions)
    apart = energy_and_gradient(positions, table)[0]
    far = int(np.linalg.norm(xy - xy[0], axis=1).argsort()[8])
    for place in (positions[0].copy(), np.full(3, np.nan)):
        positions[far] = place
        with np.errstate(all="ignore"):
            energy, _ = energy_and_gradient(positions, table)
        assert not energy < apart + 10
