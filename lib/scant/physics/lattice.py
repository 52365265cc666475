"""Two-dimensional crystals as points and bonds: perfect lattices, bond graphs, rings, the Stone-Wales rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, identity
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

from scant.errors import InputError

HEXAGONAL_CELL = ((1.0, 0.0), (0.5, math.sqrt(3) / 2))
# A bond within this share of the lattice constant of its ideal vector fits; others lose their say.
FITS = 1e-3
FLAT_SITES_ROUNDS = 12
HONEYCOMB_BASIS = ((0.0, 0.0), (1 / 3, 1 / 3))


@dataclass(frozen=True)
class Material:
    """A flat crystal: cell vectors (2, 2) in units of the lattice constant, basis (n, 2) in fractions of the cell."""

    name: str
    species: tuple[str, ...]
    lattice_constant_angstrom: float
    basis: tuple[tuple[float, float], ...] = HONEYCOMB_BASIS
    cell: tuple[tuple[float, float], tuple[float, float]] = HEXAGONAL_CELL

    def __post_init__(self) -> None:
        if len(self.species) != len(self.basis):
            raise InputError(f"material {self.name}: {len(self.species)} species for {len(self.basis)} basis atoms; give one each")
        if not (math.isfinite(self.lattice_constant_angstrom) and 1.0 <= self.lattice_constant_angstrom <= 20.0):
            raise InputError(f"material {self.name}: lattice constant {self.lattice_constant_angstrom} A is outside 1 to 20 A")


GRAPHENE = Material("graphene", ("C", "C"), 2.46)


def crystal_patch(
    material: Material,
    width_angstrom: float,
    height_angstrom: float,
    *,
    rotation_rad: float = 0.0,
    origin: tuple[float, float] = (0.0, 0.0),
    margin_angstrom: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 2) in A and species (N,) of the crystal's atoms inside a rectangle.

    The rectangle is 0 <= x <= width, 0 <= y <= height, widened by the margin on every side; the first basis atom of one
    cell sits at `origin` (A), and the first cell vector points along x before the rotation.
    """
    cell = material.lattice_constant_angstrom * np.asarray(material.cell)
    cosine, sine = math.cos(rotation_rad), math.sin(rotation_rad)
    cell = cell @ np.array([[cosine, sine], [-sine, cosine]])
    low = np.full(2, -margin_angstrom)
    high = np.array([width_angstrom, height_angstrom]) + margin_angstrom
    corners = np.array([(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])]) - origin
    reach = corners @ np.linalg.inv(cell)
    first, last = np.floor(reach.min(axis=0)).astype(int) - 1, np.ceil(reach.max(axis=0)).astype(int) + 1
    steps = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first, last)), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    positions = ((steps + np.asarray(material.basis)) @ cell).reshape(-1, 2) + origin
    species = np.tile(np.array(material.species), len(steps))
    inside = ((positions >= low) & (positions <= high)).all(axis=1)
    return positions[inside], species[inside]


def honeycomb(
    width_angstrom: float,
    height_angstrom: float,
    lattice_constant_angstrom: float = GRAPHENE.lattice_constant_angstrom,
    rotation_rad: float = 0.0,
    origin: tuple[float, float] = (0.0, 0.0),
    margin_angstrom: float = 0.0,
) -> np.ndarray:
    """Positions (N, 2) in A of a carbon honeycomb covering a rectangle; at rotation 0 its zigzag rows run along x.

    See `crystal_patch` for the rectangle and the origin.
    """
    carbon = Material("honeycomb", ("C", "C"), lattice_constant_angstrom)
    return crystal_patch(
        carbon, width_angstrom, height_angstrom, rotation_rad=rotation_rad, origin=origin, margin_angstrom=margin_angstrom
    )[0]


def pairs_within(positions: np.ndarray, cutoff_angstrom: float) -> np.ndarray:
    """All pairs (M, 2) of atoms closer than the cut-off, i < j, sorted; positions (N, 2) or (N, 3) in A.

    Raises InputError for positions that are not finite or a cut-off that is not positive.
    """
    positions = np.asarray(positions, dtype=float)
    if not np.isfinite(positions).all():
        atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        raise InputError(f"atom {atom} has position {positions[atom]} A; bonds need finite positions")
    if not cutoff_angstrom > 0:
        raise InputError(f"bond cut-off is {cutoff_angstrom} A; it must be positive (graphene: 1.9)")
    if len(positions) < 2:
        return np.empty((0, 2), dtype=np.intp)
    pairs = np.sort(cKDTree(positions).query_pairs(cutoff_angstrom, output_type="ndarray"), axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def bond_lengths(positions: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """Length (M,) in A of each bond (M, 2)."""
    return np.linalg.norm(positions[bonds[:, 1]] - positions[bonds[:, 0]], axis=1)


def flat_sites(positions: np.ndarray, bonds: np.ndarray, lattice_constant_angstrom: float) -> np.ndarray:
    """Sites (N, 2) in A on the flat honeycomb lattice that atoms at positions (N, 2 or 3) with these bonds (M, 2) come from.

    Every bond is given the nearest of the lattice's six bond directions and its length; sites follow from the bond graph, with the centre
    of the positions. Bonds that contradict the others are outvoted (reweighted least squares), so that the lattice around a turned bond
    stays perfect.
    """
    step = positions[bonds[:, 1], :2] - positions[bonds[:, 0], :2]
    angle = np.arctan2(step[:, 1], step[:, 0])
    rotation = np.angle(np.exp(6j * angle).mean()) / 6
    angle = rotation + np.round((angle - rotation) / (np.pi / 3)) * np.pi / 3
    ideal = lattice_constant_angstrom / math.sqrt(3) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rows = np.tile(np.arange(len(bonds)), 2)
    signs = np.repeat([-1.0, 1.0], len(bonds))
    along = coo_matrix((signs, (rows, bonds.T.ravel())), shape=(len(bonds), len(positions))).tocsr()
    # The weak tie to the positions fixes the sheet's place and that of pieces which no bond joins to it.
    tie = 1e-6
    weight = np.ones(len(bonds))
    for _ in range(FLAT_SITES_ROUNDS):
        weighted = along.T.multiply(weight).tocsr()
        normal = (weighted @ along + tie * identity(len(positions))).tocsc()
        sites = spsolve(normal, weighted @ ideal + tie * positions[:, :2])
        misfit = np.linalg.norm(along @ sites - ideal, axis=1) / lattice_constant_angstrom
        if misfit.max(initial=0) < FITS:
            break
        weight = 1 / np.hypot(1, misfit / FITS)
    return np.asarray(sites)


def rings(bonds: np.ndarray, positions: np.ndarray, longest: int = 12) -> list[np.ndarray]:
    """Faces of the bond graph drawn in (x, y): each an array of atom numbers, counter-clockwise as (x, y) are drawn.

    Faces with more than `longest` edges (the outside, large holes) are left out; graphene has 6, a Stone-Wales defect two
    5 and two 7, a vacancy one 12. Sorted by the smallest atom number, which comes first in each ring.

    Walks every directed bond once: the next edge of a face is, at the bond's end, the neighbour just clockwise of the way back.
    """
    directed = np.concatenate([bonds, bonds[:, ::-1]])
    step = positions[directed[:, 1], :2] - positions[directed[:, 0], :2]
    order = np.lexsort((np.arctan2(step[:, 1], step[:, 0]), directed[:, 0]))
    directed = directed[order]
    counts = np.bincount(directed[:, 0], minlength=len(positions))
    first = np.cumsum(counts) - counts
    edge_of = {(int(i), int(j)): e for e, (i, j) in enumerate(directed)}
    back = np.array([edge_of[int(j), int(i)] for i, j in directed], dtype=np.intp)
    atom = directed[back, 0]
    follow = first[atom] + (back - first[atom] - 1) % counts[atom]
    faces = [directed[walk, 0] for walk in _cycles(follow) if len(walk) <= longest]
    faces = [np.roll(face, -int(face.argmin())) for face in faces if signed_area(positions[face, :2]) > 0]
    return sorted(faces, key=lambda face: face.tolist())


def stone_wales(positions: np.ndarray, bonds: np.ndarray, bond_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and bonds after one bond has turned by 90 degrees in (x, y): two pentagons and two heptagons, not relaxed.

    positions: (N, 2) or (N, 3) in A; the heights stay. Raises InputError unless both ends of the bond have three bonds.
    """
    a, b = (int(i) for i in bonds[bond_index])
    others = [int(j) for i in (a, b) for pair in bonds if i in pair for j in pair if j not in (a, b)]
    if len(others) != 4:
        raise InputError(f"bond {bond_index} ({a}, {b}) has {len(others)} neighbours, not 4; choose a bond away from edges")
    turned = np.array(positions, dtype=float)
    centre, half = (turned[a, :2] + turned[b, :2]) / 2, (turned[b, :2] - turned[a, :2]) / 2
    half = np.array([-half[1], half[0]])
    turned[a, :2], turned[b, :2] = centre - half, centre + half
    nearest_b = sorted(others, key=lambda j: float((turned[j, :2] - centre) @ half))
    keep = [pair for pair in bonds.tolist() if not ({a, b} & set(pair)) or set(pair) == {a, b}]
    new = keep + [sorted((a, j)) for j in nearest_b[:2]] + [sorted((b, j)) for j in nearest_b[2:]]
    return turned, np.array(sorted(new), dtype=bonds.dtype)


def _cycles(follow: np.ndarray) -> list[np.ndarray]:
    """Cycles of the permutation edge -> follow[edge]."""
    todo = np.ones(len(follow), dtype=bool)
    cycles = []
    for start in range(len(follow)):
        walk = []
        edge = start
        while todo[edge]:
            todo[edge] = False
            walk.append(edge)
            edge = int(follow[edge])
        if walk:
            cycles.append(np.array(walk))
    return cycles


def signed_area(corners: np.ndarray) -> float:
    """Area of a polygon with corners (n, 2), A^2; positive where they run counter-clockwise as (x, y) are drawn."""
    x, y = corners.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
