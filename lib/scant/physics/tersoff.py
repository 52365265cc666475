"""Tersoff energy and gradient of carbon on a fixed bond table: what the annealer uses as its prior.

J. Tersoff, Phys. Rev. B 37, 6991 (1988), with the parameters of L. Lindsay and D. A. Broido, Phys. Rev. B 81, 205441
(2010) (LAMMPS's `BNC.tersoff`, entry C C C). A fixed table makes the energy a fixed sequence of gathers and element-wise
operations: it runs unchanged on NumPy and CuPy, batches over frames and chains, and is deterministic (the gradient
gathers through the reverse edge; nothing is scattered).

Cut-off: bonds of the table are always bonded, f_C = 1. A bond stretched by a bad start or a wild proposal then pulls
back, where the original would let the atom fly away. Energy and forces equal LAMMPS's whenever every bond is shorter
than `cutoff_start_angstrom` (1.8 A) and every other pair farther than `cutoff_end_angstrom` (2.1 A). Atoms without a bond
between them do not repel each other.

Boundary: where the table ends because the model does (not the crystal), an atom has fewer bonds than in reality. Left so,
its bonds would shorten and strain the sheet: at 300 K the free edge of a 51 A view costs 1,500 k_B T against the true
structure. `coordination` says how many bonds each atom has in reality; every one that is missing enters the bond order as a
neighbour at 120 degrees, so that the cut sheet has the bond length of the endless one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np

from scant.errors import InputError
from scant.xp import array_module

FLAT_ANGLE_COSINE = -0.5


@dataclass(frozen=True)
class TersoffParameters:
    """One-species Tersoff potential with lambda3 = 0 and gamma = 1; the defaults are C of Lindsay and Broido (2010)."""

    repulsion_ev: float = 1393.6
    attraction_ev: float = 430.0
    repulsion_decay_per_angstrom: float = 3.4879
    attraction_decay_per_angstrom: float = 2.2119
    beta: float = 1.5724e-7
    n: float = 0.72751
    c: float = 3.8049e4
    d: float = 4.3484
    cosine_0: float = -0.93
    cutoff_start_angstrom: float = 1.8
    cutoff_end_angstrom: float = 2.1

    @property
    def lattice_constant_angstrom(self) -> float:
        """Equilibrium lattice constant of the flat honeycomb sheet: closed form, since b is constant at 120 degrees."""
        zeta = 2 * _angular(FLAT_ANGLE_COSINE, self)
        bond_order = (1 + (self.beta * zeta) ** self.n) ** (-0.5 / self.n)
        repulsion = self.repulsion_decay_per_angstrom * self.repulsion_ev
        attraction = self.attraction_decay_per_angstrom * self.attraction_ev * bond_order
        bond_angstrom = math.log(repulsion / attraction) / (self.repulsion_decay_per_angstrom - self.attraction_decay_per_angstrom)
        return math.sqrt(3) * bond_angstrom


def scaled(parameters: TersoffParameters, lattice_constant_angstrom: float) -> TersoffParameters:
    """The same potential with lengths scaled, U'(x) = U(x a0 / a), so that the flat sheet's lattice constant is the given one.

    A prior whose lattice constant differs from the sample's buckles the sheet. Raises InputError outside 2.2 to 2.8 A.
    """
    if not 2.2 <= lattice_constant_angstrom <= 2.8:
        raise InputError(f"lattice constant {lattice_constant_angstrom} A is outside 2.2 to 2.8 A (graphene: 2.46); check the pixel size")
    stretch = lattice_constant_angstrom / parameters.lattice_constant_angstrom
    return replace(
        parameters,
        repulsion_decay_per_angstrom=parameters.repulsion_decay_per_angstrom / stretch,
        attraction_decay_per_angstrom=parameters.attraction_decay_per_angstrom / stretch,
        cutoff_start_angstrom=parameters.cutoff_start_angstrom * stretch,
        cutoff_end_angstrom=parameters.cutoff_end_angstrom * stretch,
    )


@dataclass(frozen=True)
class NeighbourTable:
    """Who is bonded to whom, for one structure of N atoms or for F padded structures of N atoms each.

    `neighbours` (F, N, K): the atom at the other end of each bond, within its own structure; the atom itself where
    `mask` (F, N, K) is False. `reverse` (F, N, K): flat edge index n * K + slot of the same bond seen from its other end.
    The remaining fields are the same facts laid out for the kernel: edges slot-first, structures one after another.
    """

    neighbours: Any
    mask: Any
    reverse: Any
    stacked: bool
    gather_index: Any
    reverse_index: Any
    present: Any
    lost: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing axes that positions must have, less the last one: (N,) or (F, N)."""
        return self.neighbours.shape[:-1] if self.stacked else self.neighbours.shape[1:-1]

    @property
    def slots(self) -> int:
        """Neighbours per atom that the table has room for."""
        return self.neighbours.shape[-1]

    def on(self, xp: Any) -> NeighbourTable:
        """The same table in the memory of another array module (CuPy or NumPy)."""
        arrays = {f.name: xp.asarray(getattr(self, f.name)) for f in fields(self) if f.name != "stacked"}
        return replace(self, **arrays)


def neighbour_table(bonds: np.ndarray, n_atoms: int, max_neighbours: int = 3, coordination: np.ndarray | None = None) -> NeighbourTable:
    """Table of one structure from its bonds (M, 2), each pair once, atoms numbered from 0.

    coordination (N,): bonds of each atom in reality, where the table ends with the model; None: the table is complete.

    Raises InputError for an atom number out of range, a bond of an atom with itself, a bond given twice, or an atom with
    more than `max_neighbours` bonds.
    """
    bonds = np.asarray(bonds, dtype=np.intp).reshape(-1, 2)
    _check_bonds(bonds, n_atoms)
    start = np.concatenate([bonds[:, 0], bonds[:, 1]])
    end = np.concatenate([bonds[:, 1], bonds[:, 0]])
    counts = np.bincount(start, minlength=n_atoms)
    if n_atoms and counts.max() > max_neighbours:
        worst = int(counts.argmax())
        raise InputError(f"atom {worst} has {counts[worst]} bonds, allowed are {max_neighbours}; drop its longest bond")
    order = np.lexsort((end, start))
    slot = np.empty(start.size, dtype=np.intp)
    slot[order] = np.arange(start.size) - np.repeat(np.cumsum(counts) - counts, counts)
    flat = start * max_neighbours + slot
    neighbours = np.repeat(np.arange(n_atoms), max_neighbours)
    mask = np.zeros(n_atoms * max_neighbours, dtype=bool)
    reverse = np.arange(n_atoms * max_neighbours)
    neighbours[flat], mask[flat] = end, True
    reverse[flat] = np.roll(flat, len(bonds))
    shape = (1, n_atoms, max_neighbours)
    lost = np.zeros(n_atoms) if coordination is None else np.maximum(np.asarray(coordination) - counts, 0)
    return _lay_out(neighbours.reshape(shape), mask.reshape(shape), reverse.reshape(shape), lost, stacked=False)


def stack_tables(tables: Sequence[NeighbourTable]) -> NeighbourTable:
    """One table for F structures in one batch: positions (..., F, N, 3), N the largest atom count.

    Shorter structures are padded at the end with atoms without bonds: they may stand anywhere finite, have no energy and
    no gradient.
    """
    slots = max(table.slots for table in tables)
    shape = (len(tables), max(table.shape[-1] for table in tables), slots)
    neighbours = np.broadcast_to(np.arange(shape[1])[:, None], shape).copy()
    mask = np.zeros(shape, dtype=bool)
    reverse = np.broadcast_to(np.arange(shape[1] * slots).reshape(shape[1:]), shape).copy()
    lost = np.zeros(shape[:2])
    for frame, table in enumerate(tables):
        n, k = table.shape[-1], table.slots
        neighbours[frame, :n, :k], mask[frame, :n, :k] = table.neighbours[0], table.mask[0]
        lost[frame, :n] = table.lost
        wider = table.reverse[0] // k * slots + table.reverse[0] % k
        reverse[frame, :n, :k] = np.where(table.mask[0], wider, reverse[frame, :n, :k])
    return _lay_out(neighbours, mask, reverse, lost, stacked=True)


def atom_energy_and_gradient(positions: Any, table: NeighbourTable, parameters: TersoffParameters) -> tuple[Any, Any]:
    """Energy of each atom (..., N) in eV and gradient of the total energy (..., N, 3) in eV/A, both in the dtype of the positions.

    positions: (..., N, 3) in A, or (..., F, N, 3) for a table of F stacked structures, in float32 or float64. Raises
    InputError where the shape does not fit the table.
    """
    xp = array_module(positions)
    check_shape(positions, table)
    unit, length = bond_vectors(xp, site_major(xp, positions, table), table)
    energy, radial, angular, cosines = _bond_terms(xp, unit, length, table, parameters)
    gradient = xp.moveaxis(push_and_pull(xp, unit, length, radial, angular, cosines, table), 0, -1)
    return energy.sum(axis=1).reshape(positions.shape[:-1]), gradient.reshape(positions.shape)


def check_shape(positions: Any, table: NeighbourTable) -> None:
    """InputError unless positions (..., N, 3), or (..., F, N, 3) for stacked structures, fit the table."""
    if positions.shape[-1] != 3 or positions.shape[-1 - len(table.shape) : -1] != table.shape:
        raise InputError(f"positions have shape {positions.shape}; this table needs (..., {', '.join(map(str, table.shape))}, 3)")


def site_major(xp: Any, positions: Any, table: NeighbourTable) -> Any:
    """Positions (..., N, 3) as (3, B, sites)."""
    return xp.ascontiguousarray(xp.moveaxis(positions.reshape(-1, math.prod(table.shape), 3), -1, 0))


def push_and_pull(xp: Any, unit: Any, length: Any, radial: Any, angular: list[Any], cosines: list[Any], table: NeighbourTable) -> Any:
    """Gradient (3, B, sites) of the total energy from the derivatives of the sites' energies by length and by cosine."""
    push = _bond_gradient(xp, unit, length, radial, angular, cosines)
    pulled = xp.take(push.reshape(3, -1, push.shape[2] * push.shape[3]), table.reverse_index, axis=-1).reshape(push.shape)
    pulled -= push
    return pulled.sum(axis=2)


def energy_and_gradient(positions: Any, table: NeighbourTable, parameters: TersoffParameters) -> tuple[Any, Any]:
    """Potential energy (...) in eV and its gradient (..., N, 3) in eV/A; see `atom_energy_and_gradient` for the shapes.

    The gradient keeps the dtype of the positions; the energy is summed and returned in float64, since one unit in the
    last place of a float32 is 0.02 k_B T at the 7,400 eV of 1,000 atoms.
    """
    energy, gradient = atom_energy_and_gradient(positions, table, parameters)
    return energy.sum(axis=-1, dtype=np.float64), gradient


def _check_bonds(bonds: np.ndarray, n_atoms: int) -> None:
    if not bonds.size:
        return
    if bonds.min() < 0 or bonds.max() >= n_atoms:
        raise InputError(f"bonds name atoms {bonds.min()} to {bonds.max()}; the structure has atoms 0 to {n_atoms - 1}")
    if (bonds[:, 0] == bonds[:, 1]).any():
        raise InputError(f"atom {bonds[bonds[:, 0] == bonds[:, 1]][0, 0]} is bonded to itself; remove that bond")
    pairs, counts = np.unique(np.sort(bonds, axis=1), axis=0, return_counts=True)
    if counts.max() > 1:
        raise InputError(f"bond {tuple(map(int, pairs[counts.argmax()]))} is given {counts.max()} times; give each bond once")


def _lay_out(neighbours: np.ndarray, mask: np.ndarray, reverse: np.ndarray, lost: np.ndarray, *, stacked: bool) -> NeighbourTable:
    """Precompute the kernel's flat indices: sites = F * N in a row, edges numbered slot * sites + site."""
    frames, n, slots = neighbours.shape
    sites = frames * n
    base = np.arange(frames)[:, None, None] * n

    def slot_first(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values.reshape(sites, slots).T)

    return NeighbourTable(
        neighbours=neighbours,
        mask=mask,
        reverse=reverse,
        stacked=stacked,
        gather_index=slot_first(neighbours + base).ravel(),
        reverse_index=slot_first(reverse % slots * sites + reverse // slots + base).ravel(),
        # float32 so that the dtype of the positions decides that of every product; 0 and 1 are exact.
        present=slot_first(mask).astype(np.float32),
        lost=lost.reshape(sites).astype(np.float32),
    )


def bond_vectors(xp: Any, xyz: Any, table: NeighbourTable) -> tuple[Any, Any]:
    """Unit vectors (3, B, K, sites) from each site to its neighbours, and lengths; a missing bond has length 1 and vector 0."""
    vector = xp.take(xyz, table.gather_index, axis=-1).reshape(*xyz.shape[:2], table.slots, -1)
    vector -= xyz[:, :, None]
    square = vector[0] * vector[0]
    square += vector[1] * vector[1]
    square += vector[2] * vector[2]
    square += 1 - table.present
    length = xp.sqrt(square)
    vector /= length
    return vector, length


def _bond_terms(xp: Any, unit: Any, length: Any, table: NeighbourTable, p: TersoffParameters) -> tuple[Any, Any, Any, list[Any]]:
    """Bond energies, their derivatives by length, dE/d cos for each pair of bonds of a site, and the cosines."""
    pairs = list(combinations(range(table.slots), 2))
    zeta = xp.zeros_like(length)
    zeta += _angular(FLAT_ANGLE_COSINE, p) * table.lost * table.present
    cosines, slopes = [], []
    for s, t in pairs:
        cosine = unit[0, :, s] * unit[0, :, t]
        cosine += unit[1, :, s] * unit[1, :, t]
        cosine += unit[2, :, s] * unit[2, :, t]
        h = cosine - p.cosine_0
        inverse = 1 / (h * h + p.d**2)
        g = _angular(cosine, p) * (table.present[s] * table.present[t])
        zeta[:, s] += g
        zeta[:, t] += g
        cosines.append(cosine)
        slopes.append(2 * p.c**2 * (h * inverse * inverse))
    zeta = xp.maximum(zeta, 1e-30)  # a lone bond has zeta = 0; a bond with company has zeta >= 1
    u = xp.exp(p.n * xp.log(p.beta * zeta))
    order = xp.exp(-0.5 / p.n * xp.log(1 + u))
    repulsion = (0.5 * p.repulsion_ev) * xp.exp(-p.repulsion_decay_per_angstrom * length) * table.present
    attraction = (0.5 * p.attraction_ev) * xp.exp(-p.attraction_decay_per_angstrom * length) * table.present * order
    radial = p.attraction_decay_per_angstrom * attraction - p.repulsion_decay_per_angstrom * repulsion
    by_zeta = 0.5 * attraction * u / (zeta * (1 + u))
    angular = [(by_zeta[:, s] + by_zeta[:, t]) * slope for (s, t), slope in zip(pairs, slopes, strict=True)]
    return repulsion - attraction, radial, angular, cosines


def _angular(cosine: Any, p: TersoffParameters) -> Any:
    """Angular function g of the bond order, in a form without the cancellation that costs float32 seven digits."""
    h2 = (cosine - p.cosine_0) * (cosine - p.cosine_0)
    return 1 + (p.c / p.d) ** 2 * (h2 / (h2 + p.d**2))


def _bond_gradient(xp: Any, unit: Any, length: Any, radial: Any, angular: list[Any], cosines: list[Any]) -> Any:
    """Derivative (3, B, K, sites) of each site's energy by each of its bond vectors."""
    slots = unit.shape[2]
    along = radial * length
    across = xp.zeros_like(unit)
    for (s, t), force, cosine in zip(combinations(range(slots), 2), angular, cosines, strict=True):
        turn = force * cosine
        along[:, s] -= turn
        along[:, t] -= turn
        across[:, :, s] += force * unit[:, :, t]
        across[:, :, t] += force * unit[:, :, s]
    across += along * unit
    across /= length
    return across
