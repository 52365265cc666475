"""The annealer's Tersoff against the formula in loops, finite differences and LAMMPS."""

from __future__ import annotations

import ast
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scant.errors import InputError
from scant.physics import tersoff
from scant.physics.lammps import POTENTIALS, Simulation, load_lammps, potential_file
from scant.physics.lattice import honeycomb, pairs_within
from scant.physics.sheet import SheetSettings, thermal_sheet
from scant.physics.tersoff import (
    NeighbourTable,
    TersoffParameters,
    atom_energy_and_gradient,
    energy_and_gradient,
    neighbour_table,
    scaled,
    stack_tables,
)

PARAMETERS = scaled(TersoffParameters(), 2.46)


def table_of(positions: np.ndarray) -> NeighbourTable:
    return neighbour_table(pairs_within(positions, 1.9), len(positions))


@pytest.fixture(scope="module")
def flake() -> np.ndarray:
    """Free edges, an isolated atom, a lone pair and noise: every kind of atom, nothing symmetric."""
    rng = np.random.default_rng(5)
    xy = honeycomb(9.0, 7.0, rotation_rad=0.4)
    atoms = np.column_stack([xy, 0.3 * np.sin(xy[:, 0])]) + rng.normal(0, 0.03, (len(xy), 3))
    return np.vstack([atoms, [[20.0, 0, 0], [25.0, 3.0, 0.1], [26.2, 3.5, -0.2]]])


@pytest.fixture(scope="module")
def sheet() -> np.ndarray:
    """A cut-out of a rippled sheet at 300 K with vacancies (LAMMPS), 800 atoms."""
    made = thermal_sheet(
        SheetSettings(40, 40, 1, equilibration_ps=1.0, vacancies=3, margin_angstrom=3.0, lattice_constant_angstrom=2.492), 3
    )
    return made.positions[0]


def loop_energy(positions: np.ndarray, p: TersoffParameters) -> float:
    """Tersoff (1988), eqs. 1 to 3, in loops, cut-off included."""

    def cutoff(r: float) -> float:
        if r < p.cutoff_start_angstrom or r > p.cutoff_end_angstrom:
            return float(r < p.cutoff_start_angstrom)
        return 0.5 + 0.5 * math.cos(math.pi * (r - p.cutoff_start_angstrom) / (p.cutoff_end_angstrom - p.cutoff_start_angstrom))

    n = len(positions)
    total = 0.0
    for i in range(n):
        for j in set(range(n)) - {i}:
            d_ij = positions[j] - positions[i]
            r = math.dist(positions[i], positions[j])
            if cutoff(r) == 0:
                continue
            zeta = 0.0
            for k in set(range(n)) - {i, j}:
                d_ik = positions[k] - positions[i]
                s = math.dist(positions[i], positions[k])
                cosine = d_ij @ d_ik / (r * s)
                zeta += cutoff(s) * (1 + p.c**2 / p.d**2 - p.c**2 / (p.d**2 + (p.cosine_0 - cosine) ** 2))
            order = (1 + (p.beta * zeta) ** p.n) ** (-1 / (2 * p.n))
            repulsion = p.repulsion_ev * math.exp(-p.repulsion_decay_per_angstrom * r)
            total += 0.5 * cutoff(r) * (repulsion - order * p.attraction_ev * math.exp(-p.attraction_decay_per_angstrom * r))
    return total


def test_constants_are_those_of_the_potential_file() -> None:
    lines = potential_file(POTENTIALS["tersoff"]).read_text().splitlines()
    numbers = next(list(map(float, line.split()[3:])) for line in lines if line.split()[:3] == ["C", "C", "C"])
    m, gamma, lambda3, c, d, cosine_0, n, beta, lambda2, b, r, width, lambda1, a = numbers
    assert (m, gamma, lambda3) == (3.0, 1.0, 0.0)
    p = TersoffParameters()
    assert (p.c, p.d, p.cosine_0, p.n, p.beta) == (c, d, cosine_0, n, beta)
    assert (p.attraction_decay_per_angstrom, p.attraction_ev, p.repulsion_decay_per_angstrom, p.repulsion_ev) == (lambda2, b, lambda1, a)
    assert (p.cutoff_start_angstrom, p.cutoff_end_angstrom) == pytest.approx((r - width, r + width))


def test_energy_equals_the_formula_in_loops(flake: np.ndarray) -> None:
    energy, _ = energy_and_gradient(flake, table_of(flake), PARAMETERS)
    assert energy == pytest.approx(loop_energy(flake, PARAMETERS), abs=1e-9)


def test_gradient_equals_finite_differences(flake: np.ndarray) -> None:
    table = table_of(flake)
    _, gradient = energy_and_gradient(flake, table, PARAMETERS)
    steps = 1e-5 * np.eye(flake.size).reshape(-1, *flake.shape)
    up, down = (energy_and_gradient(flake + sign * steps, table, PARAMETERS)[0] for sign in (1, -1))
    np.testing.assert_allclose(gradient.ravel(), (up - down) / 2e-5, atol=2e-6)


def test_flat_sheet_is_in_equilibrium_at_the_lattice_constant_asked_for() -> None:
    assert TersoffParameters().lattice_constant_angstrom == pytest.approx(2.49205, abs=1e-5)
    p = scaled(TersoffParameters(), 2.447)
    assert p.lattice_constant_angstrom == pytest.approx(2.447, abs=1e-12)
    flat = np.column_stack([honeycomb(30, 30, 2.447), np.zeros(len(honeycomb(30, 30, 2.447)))])
    middle = np.linalg.norm(flat - flat.mean(axis=0), axis=1) < 8
    table = table_of(flat)
    energies = [atom_energy_and_gradient(flat * s, table, p)[0][middle].sum() for s in (0.999, 1.0, 1.001)]
    assert energies[1] < min(energies[0], energies[2])
    assert abs(energies[2] - energies[0]) < 0.02 * (energies[0] + energies[2] - 2 * energies[1])


def test_energy_and_forces_equal_lammps_pair_style_tersoff(sheet: np.ndarray) -> None:
    lammps = load_lammps()(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    for command in (
        "units metal",
        "atom_style atomic",
        "atom_modify map array",
        "boundary m m m",
        "region b block -9 99 -9 99 -9 9",
    ):
        lammps.command(command)
    lammps.command("create_box 1 b")
    lammps.create_atoms(len(sheet), list(range(1, len(sheet) + 1)), [1] * len(sheet), (sheet + 5).ravel().tolist())
    for command in ("mass 1 12", "pair_style tersoff", f'pair_coeff * * "{potential_file(POTENTIALS["tersoff"])}" C', "run 0"):
        lammps.command(command)
    expected = lammps.get_thermo("pe")
    forces = np.array(lammps.gather_atoms("f", 1, 3)).reshape(-1, 3)
    lammps.close()
    energy, gradient = energy_and_gradient(sheet, table_of(sheet), TersoffParameters())
    assert abs(energy - expected) / len(sheet) < 1e-9
    np.testing.assert_allclose(-gradient, forces, atol=1e-8)


def test_scaled_potential_equals_the_judge_atom_by_atom(sheet: np.ndarray) -> None:
    small = sheet * (2.46 / 2.492)
    energies, gradient = atom_energy_and_gradient(small, table_of(small), PARAMETERS)
    with Simulation(small, ["C"] * len(small), lattice_constant_angstrom=2.46) as judge:
        theirs, forces = judge.atom_energies(), judge.forces()
    # LAMMPS shares pair and triple energies out among the atoms in its own way: only sums can agree
    assert abs(energies.sum() - theirs.sum()) / len(small) < 1e-6
    np.testing.assert_allclose(-gradient, forces, atol=1e-4)


def test_energy_does_not_change_under_rotation_and_shift(sheet: np.ndarray) -> None:
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    table = table_of(sheet)
    energy, gradient = energy_and_gradient(sheet, table, PARAMETERS)
    turned, turned_gradient = energy_and_gradient(sheet @ q + [3.0, -8.0, 1.0], table, PARAMETERS)
    assert turned == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(turned_gradient, gradient @ q, atol=1e-9)
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cross(sheet, gradient).sum(axis=0), 0, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_equals_loop_bit_by_bit(flake: np.ndarray, dtype: type) -> None:
    batch = (flake + np.random.default_rng(2).normal(0, 0.05, (2, 3, *flake.shape))).astype(dtype)
    table = table_of(flake)
    energies, gradients = energy_and_gradient(batch, table, PARAMETERS)
    assert energies.shape == (2, 3) and gradients.shape == batch.shape and gradients.dtype == dtype
    for index in np.ndindex(2, 3):
        energy, gradient = energy_and_gradient(batch[index], table, PARAMETERS)
        assert energy == energies[index] and (gradient == gradients[index]).all()


def test_float32_stays_within_a_hundredth_of_room_temperature(sheet: np.ndarray) -> None:
    table = table_of(sheet)
    energy, gradient = energy_and_gradient(sheet, table, PARAMETERS)
    single, single_gradient = energy_and_gradient(sheet.astype(np.float32), table, PARAMETERS)
    assert abs(single - energy) < 0.02 * 0.0259
    assert np.abs(single_gradient - gradient).max() < 2e-3


def test_stacked_tables_equal_each_structure_alone(flake: np.ndarray) -> None:
    structures = [flake, np.delete(flake, [4, 11], axis=0), flake[3:40]]
    table = stack_tables([table_of(s) for s in structures])
    padded = np.full((2, 3, len(flake), 3), 7.0)
    for frame, structure in enumerate(structures):
        padded[:, frame, : len(structure)] = structure
    padded[1] *= 1.01
    energies, gradients = energy_and_gradient(padded, table, PARAMETERS)
    assert energies.shape == (2, 3)
    for frame, structure in enumerate(structures):
        energy, gradient = energy_and_gradient(structure * 1.01, table_of(structure), PARAMETERS)
        assert energies[1, frame] == pytest.approx(energy, abs=1e-10)
        np.testing.assert_allclose(gradients[1, frame, : len(structure)], gradient, atol=1e-12)
        assert (gradients[:, frame, len(structure) :] == 0).all()


def test_a_fourth_neighbour_needs_room_and_then_counts() -> None:
    star = np.array([[0, 0, 0], [0.8, 0.82, 0.9], [0.85, -0.8, -0.85], [-0.85, 0.8, -0.8], [-0.8, -0.88, 0.82]])
    bonds = np.array([[0, 1], [0, 2], [0, 3], [4, 0]])
    with pytest.raises(InputError, match="atom 0 has 4 bonds, allowed are 3"):
        neighbour_table(bonds, 5)
    energy, _ = energy_and_gradient(star, neighbour_table(bonds, 5, max_neighbours=4), TersoffParameters())
    assert energy == pytest.approx(loop_energy(star, TersoffParameters()), abs=1e-9)


def test_table_names_neighbours_and_reverse_edges(flake: np.ndarray) -> None:
    bonds = pairs_within(flake, 1.9)
    table = table_of(flake)
    edges = {(i, int(j)) for i in range(len(flake)) for j, here in zip(table.neighbours[0, i], table.mask[0, i]) if here}
    assert edges == set(map(tuple, np.vstack([bonds, bonds[:, ::-1]]).tolist()))
    i, slot = np.nonzero(table.mask[0])
    back = table.reverse[0, i, slot]
    assert (back // 3 == table.neighbours[0, i, slot]).all() and (table.neighbours[0].ravel()[back] == i).all()


def test_a_stretched_bond_of_the_table_pulls_back() -> None:
    table = neighbour_table(np.array([[0, 1]]), 2)
    for length in (1.9, 2.5, 4.0):
        _, gradient = energy_and_gradient(np.array([[0.0, 0, 0], [length, 0, 0]]), table, PARAMETERS)
        assert gradient[1, 0] > 0 and gradient[0, 0] == -gradient[1, 0]


def test_bad_bonds_and_shapes_are_refused(flake: np.ndarray) -> None:
    for bonds, message in (([[0, 5]], "atoms 0 to 5"), ([[2, 2]], "atom 2 is bonded to itself"), ([[0, 1], [1, 0]], "given 2 times")):
        with pytest.raises(InputError, match=message):
            neighbour_table(np.array(bonds), 5)
    with pytest.raises(InputError, match="this table needs"):
        energy_and_gradient(flake[:-1], table_of(flake), PARAMETERS)
    with pytest.raises(InputError, match=r"2\.2 to 2\.8 A"):
        scaled(TersoffParameters(), 24.6)


def test_the_table_moves_between_array_modules_unchanged(flake: np.ndarray) -> None:
    table = table_of(flake).on(np)
    assert energy_and_gradient(flake, table, PARAMETERS)[0] == energy_and_gradient(flake, table_of(flake), PARAMETERS)[0]
    assert replace(table).shape == (len(flake),)


def test_the_kernel_imports_nothing_that_a_bare_gpu_image_lacks() -> None:
    tree = ast.parse(Path(tersoff.__file__).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= {"__future__", "math", "collections.abc", "dataclasses", "itertools", "typing", "numpy", "scant.errors", "scant.xp"}
