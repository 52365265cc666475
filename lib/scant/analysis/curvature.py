"""Curvature of a sheet from a quadric through each atom's surroundings.

In the frame of the local normal (smallest principal axis of the surroundings) the surface is a Monge patch
h = c + p x + q y + r x^2 / 2 + s x y + t y^2 / 2, with (do Carmo, Differential Geometry, section 3-3)
H = ((1 + q^2) r - 2 p q s + (1 + p^2) t) / (2 w^3),  K = (r t - s^2) / w^4,  w^2 = 1 + p^2 + q^2.
Normals point along +z, so the top of a dome has H < 0 and the bottom of a bowl H > 0; K does not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scant.analysis.neighbours import FrameAtoms, iterate_frames, padded_neighbours
from scant.physics.lattice import pairs_within

N_QUADRIC = 6
RADIUS_ANGSTROM = 4.5


@dataclass(frozen=True)
class FrameCurvature:
    """Per atom (n,): mean curvature (1/angstrom), Gaussian curvature (1/angstrom^2), sigmas, unit normal (n, 3).

    NaN where fewer than seven atoms lie within the radius, or where heights are unknown.
    """

    mean_per_angstrom: np.ndarray
    sigma_mean_per_angstrom: np.ndarray
    gaussian_per_angstrom2: np.ndarray
    sigma_gaussian_per_angstrom2: np.ndarray
    normal: np.ndarray


def frame_curvature(atoms: FrameAtoms, radius_angstrom: float = RADIUS_ANGSTROM) -> FrameCurvature:
    """Curvature at every atom from the quadric fitted to the atoms within the radius, weighted by 1 / sigma^2.

    Without sigmas (NaN) the scatter about the quadric takes their place. A quadric flattens ripples shorter than about
    four radii. Posterior means are smoother than the sheet: by correlated errors K falls short, by how much these sigmas do not tell.
    """
    n_atoms = atoms.ids.size
    mean, sigma_mean, gaussian, sigma_gaussian = np.full((4, n_atoms), np.nan)
    result = FrameCurvature(mean, sigma_mean, gaussian, sigma_gaussian, np.full((n_atoms, 3), np.nan))
    if not atoms.has_heights:
        return result
    index, valid = padded_neighbours(n_atoms, pairs_within(atoms.xyz_angstrom, radius_angstrom))
    own = np.arange(n_atoms)[:, None]
    index, valid = np.hstack([own, index]), np.hstack([np.ones_like(own, dtype=bool), valid])
    enough = valid.sum(axis=1) > N_QUADRIC
    index, valid = index[enough], valid[enough]
    if not enough.any():
        return result
    local, axes = _local_frame(atoms.xyz_angstrom[index] - atoms.xyz_angstrom[enough][:, None, :], valid)
    sigma_normal = np.sqrt(np.einsum("nka,na->nk", atoms.sigma_angstrom[index] ** 2, axes[:, 2] ** 2))
    quadric, covariance = _fit_quadric(local, valid, sigma_normal)
    p, q = quadric[:, 1], quadric[:, 2]
    upward = np.stack([-p, -q, np.ones_like(p)], axis=-1) / np.sqrt(1 + p**2 + q**2)[:, None]
    result.mean_per_angstrom[enough], result.sigma_mean_per_angstrom[enough] = _mean_curvature(quadric, covariance)
    result.gaussian_per_angstrom2[enough], result.sigma_gaussian_per_angstrom2[enough] = _gaussian_curvature(quadric, covariance)
    result.normal[enough] = np.einsum("na,nab->nb", upward, axes)
    return result


def curvature_table(atoms: pl.DataFrame) -> pl.DataFrame:
    """Curvature of all frames: frame, id, mean and Gaussian curvature with their sigmas, normal_x, _y, _z."""
    tables = []
    for frame in iterate_frames(atoms):
        curvature = frame_curvature(frame)
        columns = {"frame": np.full(frame.ids.size, frame.frame), "id": frame.ids}
        columns |= {name: value for name, value in vars(curvature).items() if name != "normal"}
        columns |= {f"normal_{axis}": curvature.normal[:, k] for k, axis in enumerate("xyz")}
        tables.append(pl.DataFrame(columns))
    return pl.concat(tables) if tables else pl.DataFrame()


def _local_frame(offset: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (n, k, 3) in principal axes, and the axes (n, 3, 3) as rows, the last one the upward normal."""
    weight = valid[..., None].astype(float)
    centred = (offset - (offset * weight).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)) * weight
    _, vectors = np.linalg.eigh(np.einsum("nka,nkb->nab", centred, centred))
    axes = np.swapaxes(vectors, 1, 2)[:, ::-1]
    axes = axes * np.where(axes[:, 2, 2] < 0, -1.0, 1.0)[:, None, None]
    return np.einsum("nka,nba->nkb", offset, axes), axes


def _fit_quadric(local: np.ndarray, valid: np.ndarray, sigma_angstrom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (n, 6) in the order c p q r s t and their covariance (n, 6, 6)."""
    x, y, height = local[..., 0], local[..., 1], local[..., 2]
    design = np.stack([np.ones_like(x), x, y, 0.5 * x**2, x * y, 0.5 * y**2], axis=-1)
    known = np.isfinite(sigma_angstrom).all() and (sigma_angstrom > 0).all()
    weight = np.where(valid, sigma_angstrom**-2.0 if known else 1.0, 0.0)
    normal_matrix = np.einsum("nka,nk,nkb->nab", design, weight, design)
    covariance = np.linalg.pinv(normal_matrix, hermitian=True)
    quadric = np.einsum("nab,nkb,nk,nk->na", covariance, design, weight, height)
    if known:
        return quadric, covariance
    residual = np.einsum("nk,nk->n", weight, (height - np.einsum("nka,na->nk", design, quadric)) ** 2)
    return quadric, covariance * (residual / (valid.sum(axis=1) - N_QUADRIC))[:, None, None]


def _mean_curvature(quadric: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, p, q, r, s, t = quadric.T
    w2 = 1 + p**2 + q**2
    numerator = (1 + q**2) * r - 2 * p * q * s + (1 + p**2) * t
    scale = 0.5 * w2**-1.5
    mean = scale * numerator
    slopes = [scale * 2 * (p * t - q * s) - 3 * p / w2 * mean, scale * 2 * (q * r - p * s) - 3 * q / w2 * mean]
    gradient = np.stack([0 * p, *slopes, scale * (1 + q**2), -2 * scale * p * q, scale * (1 + p**2)], axis=-1)
    return mean, np.sqrt(np.einsum("na,nab,nb->n", gradient, covariance, gradient))


def _gaussian_curvature(quadric: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K and sigma; K is quadratic in (r, s, t), so its first order vanishes on a plane and the second order counts."""
    _, p, q, r, s, t = quadric.T
    w2 = 1 + p**2 + q**2
    gaussian = (r * t - s**2) / w2**2
    gradient = np.stack([0 * p, -4 * p / w2 * gaussian, -4 * q / w2 * gaussian, t / w2**2, -2 * s / w2**2, r / w2**2], axis=-1)
    first = np.einsum("na,nab,nb->n", gradient, covariance, gradient)
    hessian = np.array([[0.0, 0.0, 1.0], [0.0, -2.0, 0.0], [1.0, 0.0, 0.0]])
    product = hessian @ covariance[:, 3:, 3:] / w2[:, None, None] ** 2
    second = 0.5 * np.einsum("nab,nba->n", product, product)
    return gaussian, np.sqrt(first + second)
