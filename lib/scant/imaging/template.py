"""An image of atoms as a sum of equal, round templates: the template from its transfer function, rendering, responses, overlaps.

The template is kept as its two-dimensional Fourier transform H(k), radial. Its image h(r) = 2 pi int H(k) J0(2 pi k r) k dk is faded out
towards the sides of a square and written as a sum of products (`separable`); the overlap of two atoms a distance d apart, C(d) = 2 pi int
H(k)^2 J0(2 pi k d) k dk, is tabulated against d^2, so the normal equations cost no pixels. With the optics known, H is the linear contrast
transfer of one atom; without, a mixture of Gaussians that has no integral (a weak phase object puts nothing into its own low frequencies).
Both signs and rings are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import j0, j1

from scant.imaging.separable import RANK, SeparableImage, sampled_offsets_px

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

GAUSSIAN_WIDTHS = (0.21, 0.36, 0.7)
REACH = 2.6
# An atom's image is sampled on so many nodes a side, and spanned by so many functions of one coordinate.
NODES, FUNCTIONS = 101, 16
OVERLAP_STEPS = 750
FREQUENCY_STEPS = 256
TAPER = 0.85
GAUSSIAN_CUTOFF = 2.5
CORRECTION = 0.1


@dataclass(frozen=True)
class TemplateBasis:
    """Transfer functions H_m(k), (m, nk), at `k_per_px` (nk,).

    `penalty` (m,) is the inverse prior variance of each weight relative to the first one; 0 leaves it free. `atoms` (m,) are the
    components' images, one by one. `value` and `slope`
    (steps + 1, f, width) tabulate f functions of one coordinate as in a `SeparableImage`, and `couplings` (m, f, f) say how much of the
    product of any two of them is in each component's image. `waves` (3, nd, nk): what a power at each frequency adds to C, C'/d and
    (C'' - C'/d)/d^2 (see `Template`) at distances whose squares go in steps of `step_px2`.
    """

    k_per_px: Array
    transfer: Array
    penalty: Array
    atoms: tuple[SeparableImage, ...]
    value: Array
    slope: Array
    couplings: Array
    before: int
    waves: Array
    step_px2: float


@dataclass(frozen=True)
class Template:
    """Image of one `atom` in electrons.

    `overlap_e2` (3, nq) holds C, C'/d and (C'' - C'/d)/d^2 against d^2 in steps of `overlap_step_px2`, high-passed and per unit pixel
    weight, up to twice the radius: what the normal equations are made of.
    """

    atom: SeparableImage
    overlap_e2: Array
    overlap_step_px2: float


@lru_cache(maxsize=4)
def gaussian_basis(bond_px: float) -> TemplateBasis:
    """Mixture for unknown optics: Gaussians, each less the widest one so that its integral vanishes."""
    k = np.linspace(0, GAUSSIAN_CUTOFF / bond_px, FREQUENCY_STEPS)
    return _tabulate(k, _gaussians(k, bond_px), np.zeros(len(GAUSSIAN_WIDTHS) - 1), bond_px)


def optical_basis(k_per_angstrom: Array, transfer: Array, bond_px: float, pixel_size_angstrom: float) -> TemplateBasis:
    """Basis from the linear transfer of one atom, `transfer` (nk,) in any scale at `k_per_angstrom` (nk,) rising from 0.

    Nominal optics and a linear transfer are never exact, so the Gaussians follow as small corrections (prior sd `CORRECTION`).
    """
    k = np.linspace(0, min(float(k_per_angstrom[-1]), 0.5 / pixel_size_angstrom), FREQUENCY_STEPS) * pixel_size_angstrom
    row = np.interp(k / pixel_size_angstrom, k_per_angstrom, transfer)
    rows = np.concatenate([row[None] / np.abs(row).max(), _gaussians(k, bond_px)])
    return _tabulate(k, rows, np.array([0.0] + [1 / CORRECTION**2] * (len(GAUSSIAN_WIDTHS) - 1)), bond_px)


def _gaussians(k_per_px: Array, bond_px: float) -> Array:
    sigma = np.array(GAUSSIAN_WIDTHS) * bond_px
    rows = np.exp(-2 * (np.pi * sigma[:, None] * k_per_px) ** 2)
    rows = rows[:-1] - rows[-1]
    return np.asarray(rows / rows.max(axis=1, keepdims=True))


def combine(basis: TemplateBasis, weights: Array, high_pass_px: float) -> Template:
    """Template of given weights, and its overlap tables behind the high-pass 1 - Gaussian of width `high_pass_px`."""
    k, transfer = basis.k_per_px, weights @ basis.transfer
    power = (transfer * (1 - np.exp(-2 * (np.pi * high_pass_px * k) ** 2))) ** 2 * 2 * np.pi * k * np.gradient(k)
    atom = _strongest_products(np.tensordot(weights, basis.couplings, 1), basis.value, basis.slope, basis.before)
    return Template(atom, basis.waves @ power, basis.step_px2)


def _strongest_products(couplings: Array, value: Array, slope: Array, before: int) -> SeparableImage:
    """The image in which two of the tabulated functions (f,) enter with their coupling (f, f), by its strongest products."""
    strength, mixing = np.linalg.eigh(couplings)
    strongest = np.argsort(-np.abs(strength))[:RANK]
    values, slopes = ((mixing[:, strongest].T @ table).astype(np.float32) for table in (value, slope))
    return SeparableImage(values, slopes, strength[strongest].astype(np.float32), before)


def overlaps(positions_px: Array, pairs: Ints, visible: Array, template: Template) -> Array:
    """(p, 3, 3): overlaps of (template, d/dx, d/dy) of the atoms of each pair (p, 2), per unit pixel weight times what of them is visible.

    `visible` (n,) is each atom's mean pixel weight; the pair gets the geometric mean.
    """
    out = np.empty((len(pairs), 3, 3))
    _overlaps(positions_px, pairs, visible, template.overlap_e2, template.overlap_step_px2, out)
    return out


def _tabulate(k: Array, transfer: Array, penalty: Array, bond_px: float) -> TemplateBasis:
    reach = REACH * bond_px
    nodes = np.linspace(-reach, reach, NODES)
    r = np.linspace(0, 1.5 * reach, 4 * NODES)
    profile = CubicSpline(r, (2 * np.pi * k * np.gradient(k) * j0(2 * np.pi * r[:, None] * k)) @ transfer.T)
    fade = np.cos(0.5 * np.pi * np.clip((np.abs(nodes) / reach - TAPER) / (1 - TAPER), 0, 1)) ** 2
    images = np.moveaxis(profile(np.hypot(nodes[:, None], nodes)), -1, 0) * fade[:, None] * fade
    functions, _, _ = np.linalg.svd(np.hstack([image / np.abs(image).max() for image in images]), full_matrices=False)
    functions = functions[:, :FUNCTIONS]
    offsets, before = sampled_offsets_px(reach)
    spline, inside = CubicSpline(nodes, functions), np.abs(offsets) < reach
    value, slope = (np.moveaxis(np.where(inside[..., None], spline(offsets, order), 0.0), 2, 1) for order in (0, 1))
    couplings = functions.T @ images @ functions
    atoms = tuple(_strongest_products(each, value, slope, before) for each in couplings)
    squares_px2 = np.linspace(0, (2 * reach) ** 2, OVERLAP_STEPS)
    waves = _overlap_waves(k, squares_px2)
    return TemplateBasis(k, transfer, penalty, atoms, value, slope, couplings, before, waves, float(squares_px2[1]))


def _overlap_waves(k: Array, squares_px2: Array) -> Array:
    x = 2 * np.pi * k * np.sqrt(squares_px2)[:, None]
    safe = np.maximum(x, 1e-3)
    bessel0, bessel1 = j0(x), np.where(x > 1e-3, j1(safe) / safe, 0.5)
    bessel2 = np.where(x > 1e-3, (2 * bessel1 - bessel0) / safe**2, 0.125)
    wave = (2 * np.pi * k) ** 2
    return np.stack([bessel0, -bessel1 * wave, bessel2 * wave**2])


@numba.njit(cache=True, error_model="numpy")
def _overlaps(positions, pairs, visible, tables, step, out):
    """C depends on r_j - r_i: d/dx_i = -dC/dd, d/dx_j = +dC/dd, and d2/dx_i dx_j = -d2C/dd2."""
    last = tables.shape[1] - 1
    for n in range(pairs.shape[0]):
        a, b = pairs[n, 0], pairs[n, 1]
        dx, dy = positions[b, 0] - positions[a, 0], positions[b, 1] - positions[a, 1]
        s = (dx * dx + dy * dy) / step
        i = int(s)
        seen = np.sqrt(visible[a] * visible[b]) if i < last else 0.0
        i = min(i, last - 1)
        u = s - i
        c = seen * (tables[0, i] + u * (tables[0, i + 1] - tables[0, i]))
        slope = seen * (tables[1, i] + u * (tables[1, i + 1] - tables[1, i]))
        bend = seen * (tables[2, i] + u * (tables[2, i + 1] - tables[2, i]))
        out[n, 0, 0] = c
        out[n, 1, 0], out[n, 2, 0], out[n, 0, 1], out[n, 0, 2] = -slope * dx, -slope * dy, slope * dx, slope * dy
        out[n, 1, 1], out[n, 2, 2] = -slope - bend * dx * dx, -slope - bend * dy * dy
        out[n, 1, 2] = out[n, 2, 1] = -bend * dx * dy
