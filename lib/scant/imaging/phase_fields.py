"""Local complex amplitudes of the first-order reflections: where the lattice is, and how strongly, place by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Array = NDArray[np.float64]

FIRST_ORDER = np.array([(1, 0), (0, 1), (-1, -1)])
PAD_CELLS = 12


@dataclass(frozen=True)
class ReflectionFields:
    """Slowly varying complex amplitudes A_g(r) of the three first-order reflections: image ~ sum of Re A_g exp(2 pi i g.r).

    `values` (3, my, mx) on a coarse grid whose node (0, 0) lies at `offset_px` (x, y), `step_px` apart; the grid reaches `PAD_CELLS` cells
    beyond the image. `b_per_px` are the reciprocal vectors that they belong to; `support` (my, mx) is the smoothed weight in [0, 1].
    """

    values: NDArray[np.complex128]
    support: Array
    step_px: Array
    offset_px: Array
    b_per_px: Array
    width_px: float

    def sample(self, points_px: Array) -> NDArray[np.complex128]:
        """Amplitudes (3, n) at (n, 2) points, bilinear, held constant outside the grid."""
        nodes = ((points_px - self.offset_px) / self.step_px)[:, ::-1].T
        return np.stack([map_coordinates(v, nodes, order=1, mode="nearest") for v in self.values])


def local_reflections(
    image: NDArray[np.floating], b_per_px: Array, width_px: float, weight: NDArray[Any] | None = None, turn_degrees: float = 0.0
) -> ReflectionFields:
    """Geometric phase fields (Hytch, Snoeck & Kilaas 1998) of the three first-order reflections.

    The image (ny, nx) is demodulated at each reflection and smoothed by a Gaussian of standard deviation `width_px`, normalised by the
    equally smoothed `weight`, so that edges and masked pixels do not bias the phase. `turn_degrees` turns the reflections: at 30 degrees
    there is nothing but noise.
    """
    values = np.asarray(image, dtype=np.float64)
    w = np.ones_like(values) if weight is None else np.asarray(weight, dtype=np.float64)
    cell = max(int(width_px / 4), 1)
    sigma = width_px / cell
    norm = np.maximum(gaussian_filter(_binned(w, cell), sigma, mode="constant"), 1e-9)
    mean = gaussian_filter(_binned(values * w, cell), sigma, mode="constant") / norm
    ny, nx = values.shape
    y, x = np.arange(ny), np.arange(nx)
    rows, columns = np.minimum(y // cell, ny // cell) + PAD_CELLS, np.minimum(x // cell, nx // cell) + PAD_CELLS
    flat = (values - mean[np.ix_(rows, columns)]) * w
    fields = []
    for g in FIRST_ORDER @ b_per_px @ rotation(turn_degrees):
        binned = np.zeros(norm.shape, dtype=np.complex128)
        _demodulate(flat, np.exp(-2j * np.pi * g[1] * y) / cell**2, np.exp(-2j * np.pi * g[0] * x), cell, binned)
        fields.append(gaussian_filter(binned, sigma, mode="constant") / norm)
    corner = np.full(2, (cell - 1) / 2 - PAD_CELLS * cell)
    return ReflectionFields(np.array(fields), norm, np.full(2, float(cell)), corner, b_per_px, width_px)


def _binned(values: NDArray[Any], cell: int) -> NDArray[Any]:
    """Sums over cell x cell pixels (a last partial cell included), with PAD_CELLS empty cells around."""
    ny, nx = values.shape
    padded = np.pad(values, ((0, -ny % cell), (0, -nx % cell)))
    sums = padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell).sum(axis=(1, 3))
    return np.pad(sums, PAD_CELLS) / cell**2


@njit(cache=True)
def _demodulate(image, along_y, along_x, cell, binned):
    """Adds to each cell, `PAD_CELLS` of them around, the sum of its pixels times both factors."""
    for y in range(image.shape[0]):
        row = binned[y // cell + PAD_CELLS]
        for column in range((image.shape[1] + cell - 1) // cell):
            total = 0.0 + 0.0j
            for x in range(column * cell, min((column + 1) * cell, image.shape[1])):
                total += image[y, x] * along_x[x]
            row[column + PAD_CELLS] += along_y[y] * total


def rotation(degrees: float) -> Array:
    """Matrix that turns row vectors by an angle."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, s], [-s, c]])
