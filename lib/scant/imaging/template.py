"""An image of atoms as a sum of equal, round templates: the template from its transfer function, rendering, responses, overlaps.

The template is kept as its two-dimensional Fourier transform H(k), radial. Its profile h(r) = 2 pi int H(k) J0(2 pi k r) k dk, and the
overlap of two atoms a distance d apart, C(d) = 2 pi int H(k)^2 J0(2 pi k d) k dk, are tabulated against the squared distance, so a pixel
costs one look-up and the normal equations none. With the optics known, H is the linear contrast transfer of one atom; without, a mixture
of Gaussians that has no integral (a weak phase object puts nothing into its own low frequencies). Both signs and rings are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import j0, j1

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

GAUSSIAN_WIDTHS = (0.21, 0.36, 0.7)
REACH = 2.6
TABLE_STEPS = 1500
# Overlaps reach twice the radius; they are smooth, so every eighth node is computed.
OVERLAP_STEP = 8
FREQUENCY_STEPS = 256
TAPER = 0.85
GAUSSIAN_CUTOFF = 2.5
CORRECTION = 0.1


@dataclass(frozen=True)
class TemplateBasis:
    """Transfer functions H_m(k), (m, nk), at `k_per_px` (nk,), with profile tables (m, nq) at r^2 = 0, dq, 2 dq, ... px^2.

    `penalty` (m,) is the inverse prior variance of each weight relative to the first one; 0 leaves it free. `waves` (3, nd, nk): what a
    power at each frequency adds to C, C'/d and (C'' - C'/d)/d^2 (see `Template`) at distances in steps of 8 `step_px2`.
    """

    k_per_px: Array
    transfer: Array
    penalty: Array
    profile: Array
    waves: Array
    step_px2: float
    radius_px: int


@dataclass(frozen=True)
class Template:
    """Image of one atom in electrons: `profile_e` over r^2 in steps of `step_px2`, zero beyond `radius_px`.

    `overlap_e2` (3, nq) holds C, C'/d and (C'' - C'/d)/d^2 against d^2 in steps of `overlap_step_px2`, high-passed and per unit pixel
    weight, up to twice the radius: what the normal equations are made of.
    """

    profile_e: Array
    overlap_e2: Array
    step_px2: float
    overlap_step_px2: float
    radius_px: int

    def __call__(self, r_px: Array) -> Array:
        """Radial profile in electrons."""
        nodes = np.arange(len(self.profile_e)) * self.step_px2
        return np.asarray(np.interp(np.asarray(r_px) ** 2, nodes, self.profile_e, right=0.0))


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
    return Template(weights @ basis.profile, basis.waves @ power, basis.step_px2, OVERLAP_STEP * basis.step_px2, basis.radius_px)


def render(positions_px: Array, amplitude: Array, template: Template | TemplateBasis, shape: tuple[int, ...], component: int = 0) -> Array:
    """Sum of templates (or of one component of a basis) at (n, 2) positions (x, y), each times its amplitude, on a (ny, nx) grid."""
    image = np.zeros((shape[0], shape[1]))
    profile = template.profile_e if isinstance(template, Template) else template.profile[component]
    _render(positions_px, amplitude, profile, template.step_px2, image)
    return image


def responses(positions_px: Array, image: Array, template: Template) -> Array:
    """(n, 3): correlation of an image with each atom's template and with its derivatives by the atom's x and y."""
    out = np.zeros((len(positions_px), 3))
    _responses(positions_px, image, template.profile_e, template.step_px2, out)
    return out


def overlaps(positions_px: Array, pairs: Ints, visible: Array, template: Template) -> Array:
    """(p, 3, 3): overlaps of (template, d/dx, d/dy) of the atoms of each pair (p, 2), per unit pixel weight times what of them is visible.

    `visible` (n,) is each atom's mean pixel weight; the pair gets the geometric mean.
    """
    out = np.empty((len(pairs), 3, 3))
    _overlaps(positions_px, pairs, visible, template.overlap_e2, template.overlap_step_px2, out)
    return out


def visible_weight(positions_px: Array, weight: Array, template: Template) -> Array:
    """(n,) mean pixel weight under the squared template of each atom: falls off at the edge of the view and at masked pixels."""
    out = np.zeros(len(positions_px))
    _visible(positions_px, weight, template.profile_e, template.step_px2, template.radius_px, out)
    return out


def _tabulate(k: Array, transfer: Array, penalty: Array, bond_px: float) -> TemplateBasis:
    radius = REACH * bond_px
    q = np.linspace(0, radius**2, TABLE_STEPS)
    measure = 2 * np.pi * k * np.gradient(k)
    profile = (transfer * measure) @ j0(2 * np.pi * k[:, None] * np.sqrt(q))
    fade = np.clip((np.sqrt(q) / radius - TAPER) / (1 - TAPER), 0, 1)
    waves = _overlap_waves(k, np.arange(0, 4 * (TABLE_STEPS - 1) + OVERLAP_STEP, OVERLAP_STEP) * q[1])
    return TemplateBasis(k, transfer, penalty, profile * np.cos(0.5 * np.pi * fade) ** 2, waves, float(q[1]), int(np.ceil(radius)))


def _overlap_waves(k: Array, squares_px2: Array) -> Array:
    x = 2 * np.pi * k * np.sqrt(squares_px2)[:, None]
    safe = np.maximum(x, 1e-3)
    bessel0, bessel1 = j0(x), np.where(x > 1e-3, j1(safe) / safe, 0.5)
    bessel2 = np.where(x > 1e-3, (2 * bessel1 - bessel0) / safe**2, 0.125)
    wave = (2 * np.pi * k) ** 2
    return np.stack([bessel0, -bessel1 * wave, bessel2 * wave**2])


@numba.njit(cache=True)
def _span(centre, reach, size):
    """First and last (exclusive) pixel within the reach of a centre, inside the image."""
    return max(int(np.ceil(centre - reach)), 0), min(int(np.floor(centre + reach)) + 1, size)


# reassociated sums: `fastmath` lets the sums over a row use the processor's vectors
@numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _render(positions, amplitude, profile, step, image):
    inverse, reach2 = 1.0 / step, (profile.size - 1) * step * (1 - 1e-12)
    for n in range(positions.shape[0]):
        px, py, a = positions[n, 0], positions[n, 1], amplitude[n]
        for y in range(*_span(py, np.sqrt(reach2), image.shape[0])):
            dy2, row = (y - py) ** 2, image[y]
            for x in range(*_span(px, np.sqrt(max(reach2 - dy2, 0.0)), image.shape[1])):
                s = ((x - px) ** 2 + dy2) * inverse
                i = int(s)
                row[x] += a * (profile[i] + (s - i) * (profile[i + 1] - profile[i]))


@numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _responses(positions, image, profile, step, out):
    inverse, reach2 = 1.0 / step, (profile.size - 1) * step * (1 - 1e-12)
    for n in range(positions.shape[0]):
        px, py = positions[n, 0], positions[n, 1]
        value, along_x, along_y = 0.0, 0.0, 0.0
        for y in range(*_span(py, np.sqrt(reach2), image.shape[0])):
            dy, row, pull_y = y - py, image[y], 0.0
            for x in range(*_span(px, np.sqrt(max(reach2 - dy * dy, 0.0)), image.shape[1])):
                dx = x - px
                s = (dx * dx + dy * dy) * inverse
                i = int(s)
                rise = profile[i + 1] - profile[i]
                value += row[x] * (profile[i] + (s - i) * rise)
                along_x += row[x] * rise * dx
                pull_y += row[x] * rise
            along_y += pull_y * dy
        out[n, 0], out[n, 1], out[n, 2] = value, -2.0 * inverse * along_x, -2.0 * inverse * along_y


@numba.njit(cache=True)
def _visible(positions, weight, profile, step, radius, out):
    last, inverse = profile.size - 1, 1.0 / step
    for n in range(positions.shape[0]):
        x0, y0 = int(np.floor(positions[n, 0] + 0.5)), int(np.floor(positions[n, 1] + 0.5))
        total, seen = 0.0, 0.0
        for y in range(y0 - radius, y0 + radius + 1):
            for x in range(x0 - radius, x0 + radius + 1):
                i = int(((x - positions[n, 0]) ** 2 + (y - positions[n, 1]) ** 2) * inverse)
                if i < last:
                    square = profile[i] ** 2
                    total += square
                    if 0 <= y < weight.shape[0] and 0 <= x < weight.shape[1]:
                        seen += square * weight[y, x]
        out[n] = seen / total if total > 0 else 0.0


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
