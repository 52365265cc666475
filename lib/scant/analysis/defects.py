"""Defects of one frame's bond network: rings that are no hexagons, as clusters, with the atoms that they lack.

A ring of n bonds that is no hexagon belongs to a defect; rings that share an atom are one defect. How many atoms it lacks follows
from area: the hexagonal lattice has one atom per half a cell, so a defect of area A lacks A / (cell / 2) atoms less those it has, where
an atom that also belongs to k hexagons counts 1 - k / 3. A turned bond (5-5-7-7) lacks none, a vacancy (one ring of 12, or 5-9) one.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from scant.analysis.bonds import BOND_CUTOFF_ANGSTROM
from scant.analysis.neighbours import FrameAtoms, geometric_positions, iterate_frames
from scant.imaging.candidates import FLAG_EDGE
from scant.physics.lattice import pairs_within, rings, signed_area

# A hole of some ten atoms; a longer face is an edge of the sheet.
LONGEST_RING = 24
SCHEMA = {
    "frame": pl.Int64, "x_angstrom": pl.Float64, "y_angstrom": pl.Float64, "rings": pl.String, "n_missing": pl.Int64, "n_atoms": pl.Int64,
}  # fmt: skip


def defect_table(atoms: pl.DataFrame, lattice_constant_angstrom: float) -> pl.DataFrame:
    """Defects of all frames of an atoms table: frame, centre, `rings` ("5-5-7-7"), n_missing, n_atoms around them.

    Defects that touch an atom flagged as edge of the view are left out: their rings may only look open. Rows of a frame run by y, then x.
    """
    edges = atoms.filter(pl.col("flag") & FLAG_EDGE != 0).select("frame", "id")
    at_edge = {frame: set(part["id"].to_list()) for (frame,), part in edges.group_by("frame")}
    rows = [
        row for frame in iterate_frames(atoms) for row in frame_defects(frame, lattice_constant_angstrom, at_edge.get(frame.frame, set()))
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("frame", "y_angstrom", "x_angstrom")


def frame_defects(
    atoms: FrameAtoms, lattice_constant_angstrom: float, at_edge: set[int] | frozenset[int] = frozenset()
) -> list[tuple[int, float, float, str, int, int]]:
    """Rows of `defect_table` for one frame; `at_edge` holds ids of atoms at the edge of the view."""
    xyz = geometric_positions(atoms)
    pairs = pairs_within(xyz, BOND_CUTOFF_ANGSTROM)
    if not len(pairs):
        return []
    faces = rings(pairs, xyz, longest=LONGEST_RING)
    odd = [face for face in faces if len(face) != 6]
    n_hexagons = np.bincount(np.concatenate([[], *(face for face in faces if len(face) == 6)]).astype(int), minlength=len(xyz))
    touches_edge = np.isin(atoms.ids, list(at_edge))
    found = []
    for cluster in _clusters(odd, len(xyz)):
        members = np.unique(np.concatenate(cluster))
        if touches_edge[members].any():
            continue
        area = sum(signed_area(xyz[face, :2]) for face in cluster)
        # twice the area of an atom is that of the cell
        wanted = area / (math.sqrt(3) / 4 * lattice_constant_angstrom**2)
        missing = round(wanted - float(np.sum(1 - n_hexagons[members] / 3)))
        x, y = xyz[members, :2].mean(axis=0)
        found.append((atoms.frame, float(x), float(y), "-".join(str(n) for n in sorted(map(len, cluster))), missing, len(members)))
    return found


def _clusters(faces: list[np.ndarray], n_atoms: int) -> list[list[np.ndarray]]:
    """Faces that share an atom, together."""
    if not faces:
        return []
    face_of = np.repeat(np.arange(len(faces)), [len(face) for face in faces])
    member = coo_matrix((np.ones(len(face_of)), (face_of, np.concatenate(faces))), shape=(len(faces), n_atoms)).tocsr()
    n, label = connected_components(member @ member.T, directed=False)
    return [[face for face, own in zip(faces, label) if own == which] for which in range(n)]
