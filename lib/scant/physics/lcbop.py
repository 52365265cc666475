"""LCBOP energy and gradient of carbon on a fixed bond table: the annealer's default prior.

J. H. Los and A. Fasolino, Phys. Rev. B 68, 024107 (2003), with the constants of LAMMPS's `C.lcbop` (pair_style lcbop).
Bonds of the table are always bonded (f_C = 1) and every other pair is long-ranged, so energy and forces equal LAMMPS's
whenever every bond is shorter than 1.7 A and every other pair farther apart than 2.2 A. The conjugation term depends on
coordination alone and is a constant of each bond.

Boundary: where the table ends because the model does, an atom lacks bonds and long-range partners that the crystal has.
A lost bond enters the bond order at 120 degrees (as in `tersoff`). What else is lost would pull and push on the rim, and a cut
sheet without it would shrink. `rim_tension` finds energies linear in the distances of first and second neighbours that cancel
the net forces on the flat lattice: they depend on distances alone, so a tilted sheet feels no spurious torque.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import lsqr
from scipy.spatial import cKDTree

from scant.physics.lcbop_pairs import pair_terms
from scant.physics.tersoff import FLAT_ANGLE_COSINE, NeighbourTable, bond_vectors, check_shape, push_and_pull, site_major
from scant.xp import array_module

FLAT_LATTICE_CONSTANT_ANGSTROM = 2.45932
A_EV, ALPHA = 35652.94452, 6.26781252
B1_EV, BETA1, B2_EV, BETA2 = 18614.83652, 5.83045680, 32.01993977, 1.16864228
H_D, H_C1, H_C4, H_C6, H_L, H_KAPPA, H_R0, H_R1 = 0.14, 3.3, 220.0, -5434.715, 0.688316, 1.619070, 1.612316, 5.485568
G_KNOTS = (-0.5, -1 / 3, 0.0, 0.5)
G_ORIGINS = (-1.0, -0.5, -0.33333333, 0.0, 0.5)
G_COEFFICIENTS = np.array([
    [0.00548948, 0.08188859, 0.15709129, 0.772, 6.78],
    [0.0, 0.3, 0.68633951, 5.91323569, 23.61845],
    [0.59857864, 0.565, 1.779436125, 1.20615724, 116.9662],
    [-1.14954304, -0.6884406900001245, -16.01676405, 21.99874276, -187.4462],
    [1.12715728, 27.10545012, 63.311805765, 0.0, 0.0],
    [0.0, -63.91264068, 0.0, 0.0, 0.0],
])  # fmt: skip
# F_conj at whole numbers of other neighbours (rows N_ij, columns N_ji), for N_conj = 0 and 1.
CONJUGATION = np.array([
    [[0.0, 0.034993, -0.009085, -0.229403], [0.034993, 0.0, -0.058546, -0.147667],
     [-0.009085, -0.058546, 0.0, -0.083991], [-0.229403, -0.147667, -0.083991, 0.0]],
    [[0.0, 0.100921, 0.071525, -0.229403], [0.100921, 0.239564, 0.010324, -0.147667],
     [0.071525, 0.010324, 0.161180, -0.083991], [-0.229403, -0.147667, -0.083991, 0.0]],
])  # fmt: skip
CONJUGATION_EPSILON = 1e-3
PAIR_REACH_ANGSTROM = 6.4
SECOND_NEIGHBOUR_ANGSTROM = 2.7
RIM_REACH_ANGSTROM = 7.5
OFF_LATTICE, RIM_FREE_ANGSTROM = 0.02, 3.0


@dataclass(frozen=True)
class LcbopTable:
    """Bonds, the constant conjugation term of each bond, the long-range pairs, and the rim's linear energies.

    Laid out slot-first as in NeighbourTable: conjugation and bond_tension (K, sites), partner_index (P * sites,), partner_present and
    partner_tension (P, sites), tensions in eV/A.
    """

    bonds: NeighbourTable
    conjugation: Any
    partner_index: Any
    partner_present: Any
    bond_tension: Any
    partner_tension: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bonds.shape

    def on(self, xp: Any) -> LcbopTable:
        """The same table in the memory of another array module (CuPy or NumPy)."""
        arrays = {f.name: xp.asarray(getattr(self, f.name)) for f in fields(self) if f.name != "bonds"}
        return replace(self, bonds=self.bonds.on(xp), **arrays)


def lcbop_table(bonds: NeighbourTable, sites_angstrom: np.ndarray) -> LcbopTable:
    """Table of one structure from its bonds and the flat sites (N, 2) of its atoms, in angstrom of the potential's own lattice."""
    partners, present = _partners(bonds, sites_angstrom)

    def laid_out(*tension: np.ndarray) -> LcbopTable:
        by_partner = (np.ascontiguousarray(array.T).astype(np.float32) for array in (present, *tension))
        return LcbopTable(bonds, conjugation_terms(bonds).astype(np.float32), partners.T.ravel(), *by_partner)

    free = laid_out(np.zeros((len(sites_angstrom), bonds.slots)), np.zeros(partners.shape))
    ends = np.asarray(bonds.lost) > 0
    if not ends.any():
        return free
    _, gradient = energy_and_gradient(np.column_stack([sites_angstrom, np.zeros(len(sites_angstrom))]), free)
    rim = cKDTree(sites_angstrom[ends]).query(sites_angstrom)[0] < RIM_REACH_ANGSTROM
    rim &= _fits_lattice(bonds, sites_angstrom)
    return laid_out(*rim_tension(bonds, partners, present, sites_angstrom, np.where(rim[:, None], gradient[:, :2], 0)))


def stack_lcbop_tables(tables: Sequence[LcbopTable], bonds: NeighbourTable) -> LcbopTable:
    """One table for F structures; `bonds` is the stack of their bond tables (`tersoff.stack_tables`)."""
    frames, n = bonds.shape
    width = max(len(t.partner_present) for t in tables)
    partner = np.broadcast_to(np.arange(frames * n), (width, frames * n)).reshape(width, frames, n).copy()
    by_bond, by_partner = np.zeros((2, bonds.slots, frames, n), np.float32), np.zeros((2, width, frames, n), np.float32)
    for f, table in enumerate(tables):
        held, k, p = table.shape[-1], table.bonds.slots, len(table.partner_present)
        partner[:p, f, :held] = table.partner_index.reshape(p, held) + f * n
        by_bond[:, :k, f, :held] = table.conjugation, table.bond_tension
        by_partner[:, :p, f, :held] = table.partner_present, table.partner_tension
    conjugation, bond_tension = by_bond.reshape(2, bonds.slots, -1)
    present, partner_tension = by_partner.reshape(2, width, -1)
    return LcbopTable(bonds, conjugation, partner.ravel(), present, bond_tension, partner_tension)


def energy_and_gradient(positions: Any, table: LcbopTable) -> tuple[Any, Any]:
    """Potential energy (...) in eV, float64, and its gradient (..., N, 3) in eV/A; shapes as in `tersoff.energy_and_gradient`."""
    xp = array_module(positions)
    check_shape(positions, table.bonds)
    xyz = site_major(xp, positions, table.bonds)
    unit, length = bond_vectors(xp, xyz, table.bonds)
    energy, radial, angular, cosines = _bond_terms(xp, unit, length, table)
    energy = energy + 0.5 * table.bond_tension * length
    radial = radial + 0.5 * table.bond_tension
    gradient = push_and_pull(xp, unit, length, radial, angular, cosines, table.bonds)
    pair_energy, pair_gradient = pair_terms(xyz, table.partner_index, table.partner_present, table.partner_tension)
    by_atom = (energy.sum(axis=1) + pair_energy).reshape(positions.shape[:-1])
    return by_atom.sum(axis=-1, dtype=np.float64), xp.moveaxis(gradient + pair_gradient, 0, -1).reshape(positions.shape)


def _bond_terms(xp: Any, unit: Any, length: Any, table: LcbopTable) -> tuple[Any, Any, Any, list[Any]]:
    """Half-bond energies, their derivatives by length, dE/d cos for each pair of bonds of a site, and the cosines."""
    present = table.bonds.present
    pairs = list(combinations(range(table.bonds.slots), 2))
    coefficients = xp.asarray(G_COEFFICIENTS, length.dtype)
    zeta = xp.zeros_like(length)
    zeta += float(_angular(np.array([FLAT_ANGLE_COSINE]), np, G_COEFFICIENTS)[0][0]) * table.bonds.lost * present
    kept = []
    for s, t in pairs:
        cosine = (unit[:, :, s] * unit[:, :, t]).sum(axis=0)
        both = present[s] * present[t]
        g, g_slope = _angular(cosine, xp, coefficients)
        (h_s, dh_s), (h_t, dh_t) = (_length_difference(sign * (length[:, s] - length[:, t]), xp) for sign in (1, -1))
        zeta[:, s] += both * g * h_s
        zeta[:, t] += both * g * h_t
        kept.append((cosine, both * g, both * g_slope, h_s, dh_s, h_t, dh_t))
    order = 1 / xp.sqrt(1 + zeta)
    repulsion = 0.5 * A_EV * xp.exp(-ALPHA * length) * present
    core, tail = 0.5 * B1_EV * xp.exp(-BETA1 * length) * present, 0.5 * B2_EV * xp.exp(-BETA2 * length) * present
    attraction, strength = core + tail, order + 0.5 * table.conjugation
    radial = (BETA1 * core + BETA2 * tail) * strength - ALPHA * repulsion
    by_zeta = 0.5 * attraction * order**3
    angular = []
    for (s, t), (_, g, g_slope, h_s, dh_s, h_t, dh_t) in zip(pairs, kept, strict=True):
        angular.append((by_zeta[:, s] * h_s + by_zeta[:, t] * h_t) * g_slope)
        stretch = g * (by_zeta[:, s] * dh_s - by_zeta[:, t] * dh_t)
        radial[:, s] += stretch
        radial[:, t] -= stretch
    return repulsion - attraction * strength, radial, angular, [k[0] for k in kept]


def _angular(cosine: Any, xp: Any, coefficients: Any) -> tuple[Any, Any]:
    """G(cos theta), a piecewise polynomial of degree five, and its slope."""
    piece = sum((cosine >= knot).astype(np.intp) for knot in G_KNOTS)
    offset = cosine - xp.asarray(np.array(G_ORIGINS), cosine.dtype)[piece]
    c = coefficients[:, piece]
    value, slope = c[5], xp.zeros_like(cosine)
    for power in range(4, -1, -1):
        slope = slope * offset + value
        value = value * offset + c[power]
    return value, slope


def _length_difference(delta: Any, xp: Any) -> tuple[Any, Any]:
    """H(r_ij - r_ik) (eq. 10 of the paper) and its slope: a polynomial within 0.14 A, saturating below, linear above."""
    square = delta * delta
    value = 1 + H_C1 * delta + square * (0.5 * H_C1**2 + square * (H_C4 + H_C6 * square))
    slope = H_C1 + delta * (H_C1**2 + square * (4 * H_C4 + 6 * H_C6 * square))
    if not bool((abs(delta) > H_D).any()):
        return value, slope
    z = H_KAPPA * xp.minimum(delta + H_D, 0)
    y = z**10
    w = (1 + y) ** -0.1
    value = xp.where(delta < -H_D, H_L * (1 + z * w), xp.where(delta > H_D, H_R0 + H_R1 * (delta - H_D), value))
    slope = xp.where(delta < -H_D, H_KAPPA * H_L * w / (1 + y), xp.where(delta > H_D, H_R1, slope))
    return value.astype(delta.dtype), slope.astype(delta.dtype)


def conjugation_terms(bonds: NeighbourTable) -> np.ndarray:
    """F_conj (K, N) of every bond of one structure from the whole coordination numbers (eqs. 13 to 17; lost bonds count)."""
    neighbours, mask = bonds.neighbours[0], bonds.mask[0]
    coordination = mask.sum(axis=1) + np.asarray(bonds.lost).round().astype(int)
    others = np.clip(coordination - 1, 0, 3)
    # A neighbour with three others of its own (sp3) is saturated; a sheet has none, yet an overfull table may.
    saturated = np.where(mask, (others[neighbours] >= 3).astype(int), 0)
    terms = np.zeros(mask.shape)
    for i, slot in zip(*np.nonzero(mask), strict=True):
        j = neighbours[i, slot]
        n_i, n_j = others[i], others[j]
        m_i, m_j = (min(3, int(saturated[a].sum()) - int(others[b] >= 3)) for a, b in ((i, j), (j, i)))
        electrons = sum((4 - m) / (n + 1 - m) for n, m in ((n_i, m_i), (n_j, m_j)))
        wanted = (n_i + 1) * (n_j + 1) * electrons - 4 * (n_i + n_j + 2)
        share = wanted / (n_i * (3 - n_i) * (n_j + 1) + n_j * (3 - n_j) * (n_i + 1) + CONJUGATION_EPSILON)
        share = min(max(share, 0.0), 1.0)
        terms[i, slot] = (1 - share) * CONJUGATION[0, n_i, n_j] + share * CONJUGATION[1, n_i, n_j]
    return np.ascontiguousarray(terms.T)


def _partners(bonds: NeighbourTable, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Long-range partners (N, P) of every atom, itself where there are fewer, and which are real (N, P)."""
    n = len(sites)
    pairs = cKDTree(sites).query_pairs(PAIR_REACH_ANGSTROM, output_type="ndarray")
    start, end = np.concatenate([pairs, pairs[:, ::-1]]).T
    neighbours, mask = bonds.neighbours[0], bonds.mask[0]
    bonded = ((neighbours[start] == end[:, None]) & mask[start]).any(axis=1)
    start, end = start[~bonded], end[~bonded]
    order = np.lexsort((end, start))
    start, end = start[order], end[order]
    slot = np.arange(len(start)) - np.searchsorted(start, start)
    partners = np.repeat(np.arange(n)[:, None], slot.max(initial=0) + 1, axis=1)
    partners[start, slot] = end
    return partners, partners != np.arange(n)[:, None]


def _fits_lattice(bonds: NeighbourTable, sites: np.ndarray) -> np.ndarray:
    """Atoms (N,) of which no bond near by is off the flat lattice's: at a turned bond the sites are not at rest, rim or not."""
    length = np.linalg.norm(sites[bonds.neighbours[0]] - sites[:, None], axis=-1)
    off = (bonds.mask[0] & (abs(length * math.sqrt(3) / FLAT_LATTICE_CONSTANT_ANGSTROM - 1) > OFF_LATTICE)).any(axis=1)
    return cKDTree(sites[off]).query(sites)[0] > RIM_FREE_ANGSTROM if off.any() else np.ones(len(sites), bool)


def rim_tension(
    bonds: NeighbourTable, partners: np.ndarray, present: np.ndarray, sites: np.ndarray, force: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Energies per length of bonds (N, K) and of second neighbours (N, P) that push the flat sites (N, 2) as `force` (N, 2) does.

    Least squares of smallest norm, so that they stay near the rim.
    """
    distance = np.linalg.norm(sites[partners] - sites[:, None], axis=-1)
    second = present & (distance < SECOND_NEIGHBOUR_ANGSTROM)
    known = np.concatenate([bonds.mask[0], second], axis=1)
    ends = np.concatenate([bonds.neighbours[0], partners], axis=1)
    i, slot = np.nonzero(known)
    j = ends[i, slot]
    pair = np.unique(np.stack([np.minimum(i, j), np.maximum(i, j)]), axis=1, return_inverse=True)[1].ravel()
    vector = sites[j] - sites[i]
    unit = vector / np.linalg.norm(vector, axis=1, keepdims=True)
    rows, columns = np.concatenate([2 * i, 2 * i + 1]), np.concatenate([pair, pair])
    pull = coo_matrix((unit.T.ravel(), (rows, columns)), shape=(2 * len(sites), pair.max(initial=0) + 1)).tocsr()
    solution = lsqr(pull, force.ravel(), damp=1e-4, iter_lim=600)[0]
    tension = np.zeros(known.shape)
    tension[i, slot] = solution[pair]
    return tension[:, : bonds.slots], tension[:, bonds.slots :]
