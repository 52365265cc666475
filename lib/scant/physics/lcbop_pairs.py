"""LCBOP's long-range part: pairs of atoms that are not bonded, 2.2 to 6 A apart (eqs. 21 to 23 of the paper, see `lcbop`).

Compiled, a pair costs no root and no exponential: cubic pieces in the squared distance, that share values and slopes with the potential
at their ends, and whose own slope is the force. Beyond 2.2 A they differ from it by less than 1e-11 eV and 4e-8 eV/A.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numba
import numpy as np

from scant.xp import array_module

LR_R0, LR_START, LR_END = 3.716163, 5.5, 6.0
LR_V, LR_EPSILON, LR_LAMBDA = (3.475378e-3, 0.0), (6.093133e-3, 2.617755e-3), (1.359381, 2.073944)
# Pieces beyond LR_R0, where the potential's curvature jumps and one of them begins; nearer atoms than this are on the first one.
PIECES_BEYOND, NEAREST_ANGSTROM2 = 1536, 1.0
STEP_ANGSTROM2 = (LR_END**2 - LR_R0**2) / PIECES_BEYOND
PIECES_WITHIN = math.ceil((LR_R0**2 - NEAREST_ANGSTROM2) / STEP_ANGSTROM2)
FIRST_ANGSTROM2 = LR_R0**2 - PIECES_WITHIN * STEP_ANGSTROM2


def pair_energy_and_slope(r: Any, xp: Any) -> tuple[Any, Any]:
    """Long-range pair energy in eV and its slope in eV/A at distances r (A) beyond the bond's 2.2 A."""
    near = r < LR_R0
    steep = xp.exp(-xp.where(near, LR_LAMBDA[0], LR_LAMBDA[1]).astype(r.dtype) * (r - LR_R0))
    depth = xp.where(near, LR_EPSILON[0], LR_EPSILON[1]).astype(r.dtype)
    value = depth * steep * (steep - 2) + xp.where(near, LR_V[0], LR_V[1]).astype(r.dtype)
    slope = 2 * depth * xp.where(near, LR_LAMBDA[0], LR_LAMBDA[1]).astype(r.dtype) * steep * (1 - steep)
    t = xp.clip((r - LR_START) / (LR_END - LR_START), 0, 1) * r.dtype.type(math.pi)
    fade = 0.5 + 0.5 * xp.cos(t)
    return value * fade, slope * fade - value * (0.5 * math.pi / (LR_END - LR_START)) * xp.sin(t)


def pair_terms(xyz: Any, partner_index: Any, present: Any, tension: Any) -> tuple[Any, Any]:
    """Half the pair energies of each site (B, sites), and the gradient (3, B, sites); xyz (3, B, sites), the table as in `LcbopTable`."""
    if array_module(xyz) is not np:
        return pair_terms_by_arrays(xyz, partner_index, present, tension)
    energy, gradient = np.zeros(xyz.shape[1:], xyz.dtype), np.zeros_like(xyz)
    _add_pairs(xyz, partner_index.reshape(present.shape), present, tension, _pieces(), energy, gradient)
    return energy, gradient


def pair_terms_by_arrays(xyz: Any, partner_index: Any, present: Any, tension: Any) -> tuple[Any, Any]:
    """The pair terms in array operations alone: CuPy's form, and the reference of the compiled one."""
    xp = array_module(xyz)
    shape = (*xyz.shape[:2], len(present), xyz.shape[2])
    vector = xp.take(xyz, partner_index, axis=-1).reshape(shape) - xyz[:, :, None]
    r = xp.sqrt((vector * vector).sum(axis=0) + 10.0 * (1 - present))
    value, slope = pair_energy_and_slope(r, xp)
    value = value * present + tension * r
    slope = (slope * present + tension) / r
    return 0.5 * value.sum(axis=1), -(vector * slope).sum(axis=2)


@cache
def _pieces() -> np.ndarray:
    """Coefficients (pieces, 4) of energy in the place 0 to 1 within a piece, constant first (Hermite's cubics)."""
    square = FIRST_ANGSTROM2 + STEP_ANGSTROM2 * np.arange(PIECES_WITHIN + PIECES_BEYOND + 1)
    value, slope = pair_energy_and_slope(np.sqrt(square), np)
    slope = slope / (2 * np.sqrt(square)) * STEP_ANGSTROM2
    rise = np.diff(value)
    return np.stack([value[:-1], slope[:-1], 3 * rise - 2 * slope[:-1] - slope[1:], slope[:-1] + slope[1:] - 2 * rise], axis=1)


# Where a trajectory runs away two atoms may meet, or be nowhere: on the first piece, and the sampler rejects it.
@numba.njit(cache=True, fastmath={"reassoc", "contract", "arcp", "nsz"}, error_model="numpy")
def _add_pairs(
    xyz: np.ndarray,
    partners: np.ndarray,
    present: np.ndarray,
    tension: np.ndarray,
    pieces: np.ndarray,
    energy: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """Every pair once (from its lower number), in the order of the table."""
    last = len(pieces) - 1
    for b in range(xyz.shape[1]):
        for slot in range(partners.shape[0]):
            for i in range(xyz.shape[2]):
                j = partners[slot, i]
                if j <= i or present[slot, i] == 0:
                    continue
                dx, dy, dz = xyz[0, b, j] - xyz[0, b, i], xyz[1, b, j] - xyz[1, b, i], xyz[2, b, j] - xyz[2, b, i]
                square = np.float64(dx * dx + dy * dy + dz * dz)
                pulled = tension[slot, i]
                value, pull = 0.0, 0.0
                if not square >= LR_END**2:
                    at = (square - FIRST_ANGSTROM2) / STEP_ANGSTROM2
                    piece = max(0, min(int(at), last))
                    u, c = at - piece, pieces[piece]
                    value = ((c[3] * u + c[2]) * u + c[1]) * u + c[0]
                    pull = ((3 * c[3] * u + 2 * c[2]) * u + c[1]) * (2 / STEP_ANGSTROM2)
                elif pulled == 0:
                    continue
                if pulled != 0:
                    r = np.sqrt(square)
                    value += pulled * r
                    pull += pulled / r
                energy[b, i] += 0.5 * value
                energy[b, j] += 0.5 * value
                gradient[0, b, i] -= pull * dx
                gradient[1, b, i] -= pull * dy
                gradient[2, b, i] -= pull * dz
                gradient[0, b, j] += pull * dx
                gradient[1, b, j] += pull * dy
                gradient[2, b, j] += pull * dz
