"""Fisher information of one frame's image about its atoms: what the data alone know, atom by atom and coherently between atoms.

For atoms of a flat sheet the information between coordinate a of atom i and b of atom j depends on their separation alone: the correlation
of the two derivatives of the image of one atom. Near the view's edge each atom counts by the share of its image that is seen.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_matrix, csr_matrix
from scipy.spatial import cKDTree

from scant.physics.forward import ForwardModel
from scant.xp import to_numpy

REACH_ANGSTROM = 9.0


def signal_to_noise2(counts_e: np.ndarray, inverse_variance: np.ndarray) -> float:
    """Squared ratio of a pixel's mean intensity to its noise; maps (H, W), pixels of weight 0 do not count."""
    used = inverse_variance > 0
    return float(counts_e[used].mean() ** 2 * inverse_variance[used].mean())


def image_information(
    model: ForwardModel, xy_angstrom: np.ndarray, counts_e: np.ndarray, inverse_variance: np.ndarray, axes: str
) -> csr_matrix:
    """Information matrix (n N, n N) in 1/A^2 on the coordinates `axes` (of "xyz", n of them; atom by atom) of atoms (N, 2).

    From the linear image at height 0 of the model's first element.
    """
    derivatives = _derivative_bands(model)
    chosen = ["xyz".index(axis) for axis in axes]
    seen = [np.sqrt(_share_in_view(model, derivatives[a], xy_angstrom, inverse_variance > 0)) for a in chosen]
    pairs = cKDTree(xy_angstrom).query_pairs(REACH_ANGSTROM, output_type="ndarray")
    own = np.arange(len(xy_angstrom))
    i, j = np.concatenate([pairs[:, 0], pairs[:, 1], own]), np.concatenate([pairs[:, 1], pairs[:, 0], own])
    apart_px = (xy_angstrom[j] - xy_angstrom[i]).T[::-1] / model.grid.pixel_size_angstrom
    n_pixels = float(np.prod(model.grid.padded_shape))
    strength = signal_to_noise2(counts_e, inverse_variance)
    rows, columns, values = [], [], []
    for p, a in enumerate(chosen):
        for q, b in enumerate(chosen):
            correlation = n_pixels * _field(model, derivatives[a] * np.conj(derivatives[b]))
            value = strength * map_coordinates(correlation, apart_px, order=3, mode="grid-wrap")
            rows.append(len(chosen) * i + p)
            columns.append(len(chosen) * j + q)
            values.append(value * seen[p][i] * seen[q][j])
    size = len(chosen) * len(xy_angstrom)
    matrix = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(size, size)).tocsr()
    return 0.5 * (matrix + matrix.T)


def _derivative_bands(model: ForwardModel) -> list[np.ndarray]:
    """Half-plane spectra of the derivatives of one atom's linear image by its x, y and z."""
    kx, ky = model.band.k_per_angstrom
    image, by_height = model.atom_bands()
    return [-2j * np.pi * kx * image, -2j * np.pi * ky * image, by_height]


def _field(model: ForwardModel, band: np.ndarray) -> np.ndarray:
    return to_numpy(model.to_image(model.xp.asarray(band[None].astype(np.complex128))))[0]


def _share_in_view(model: ForwardModel, band: np.ndarray, xy_angstrom: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Share (N,) of the squared derivative of each atom's image that falls on used pixels."""
    grid = model.grid
    view = np.zeros(grid.padded_shape)
    view[grid.view] = used
    weight = _field(model, band) ** 2
    share = irfft2(rfft2(view) * np.conj(rfft2(weight)), s=grid.padded_shape) / weight.sum()
    at_px = xy_angstrom.T[::-1] / grid.pixel_size_angstrom + grid.pad_px
    return np.clip(map_coordinates(share, at_px, order=1, mode="grid-wrap"), 0, 1)
