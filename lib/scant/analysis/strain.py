"""Local strain of a honeycomb sheet from the bonds around each atom.

The deformation gradient F (3 x 2) maps the ideal in-plane neighbour vectors R onto the measured ones d by least squares
over the first and second shell, F = (sum d R^T)(sum R R^T)^-1 (Falk and Langer, PRE 57, 7192 (1998), eq. 2.11-2.13).
A relative shift of the two sublattices adds one vector to every d of the first shell; the three R sum to zero, so it
drops out as long as the shells are complete: atoms without three first and six second neighbours get NaN.
Its in-plane part F2 = Q U (polar decomposition) gives the rotation Q and eps = U - 1; with the slopes of the sheet,
Green-Lagrange strain E = (F^T F - 1) / 2, which holds the term dz dz / 2 of the out-of-plane bending.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scant.analysis.neighbours import FrameAtoms, iterate_frames, padded_neighbours
from scant.physics.lattice import pairs_within

COMPONENTS = ("xx", "yy", "xy")
GRAPHENE_LATTICE_ANGSTROM = 2.46


@dataclass(frozen=True)
class FrameStrain:
    """Strain of one frame; (n, 3) arrays hold the components xx, yy, xy (tensor shear, not twice it), dimensionless.

    eps, sigma_eps: in-plane. green, sigma_green: with the out-of-plane term and the variance of the slopes, by which those of a posterior
    mean are too small (as in `bonds`); NaN where heights are unknown. rotation_rad, sigma_rotation_rad (n,): against the mean lattice.
    """

    eps: np.ndarray
    sigma_eps: np.ndarray
    green: np.ndarray
    sigma_green: np.ndarray
    rotation_rad: np.ndarray
    sigma_rotation_rad: np.ndarray
    lattice_angle_rad: float


def frame_strain(atoms: FrameAtoms, lattice_angstrom: float = GRAPHENE_LATTICE_ANGSTROM) -> FrameStrain:
    """Strain against a flat honeycomb of the given lattice constant, turned so that the mean rotation is zero."""
    xy = atoms.xyz_angstrom[:, :2]
    index, valid = padded_neighbours(len(xy), pairs_within(xy, 0.5 * (1.0 + np.sqrt(4 / 3)) * lattice_angstrom))
    vector = atoms.xyz_angstrom[index] - atoms.xyz_angstrom[:, None, :]
    angle = _sixfold_angle(vector, valid, lattice_angstrom)
    # Twice: the six-fold mean is exact only for isotropic strain, the polar decomposition of the mean F then settles it.
    for _ in range(2):
        ideal, used = _ideal_vectors(vector, valid, angle, lattice_angstrom)
        gradient, weight = _deformation_gradient(vector, ideal, used)
        angle += _rotation(np.nanmean(gradient[:, :2], axis=0, keepdims=True))[0] if used.any() else 0.0
    ideal, used = _ideal_vectors(vector, valid, angle, lattice_angstrom)
    gradient, weight = _deformation_gradient(vector, ideal, used)
    return _strain_from_gradient(gradient, _gradient_variance(weight, index, atoms.sigma_angstrom), angle)


def strain_table(atoms: pl.DataFrame, lattice_angstrom: float = GRAPHENE_LATTICE_ANGSTROM) -> pl.DataFrame:
    """Strain of all frames: frame, id, eps_*, sigma_eps_*, green_*, sigma_green_*, rotation_rad, sigma_rotation_rad."""
    tables = []
    for frame in iterate_frames(atoms):
        strain = frame_strain(frame, lattice_angstrom)
        columns = {"frame": np.full(frame.ids.size, frame.frame), "id": frame.ids}
        for name in ("eps", "sigma_eps", "green", "sigma_green"):
            columns |= {f"{name}_{c}": getattr(strain, name)[:, k] for k, c in enumerate(COMPONENTS)}
        columns |= {"rotation_rad": strain.rotation_rad, "sigma_rotation_rad": strain.sigma_rotation_rad}
        tables.append(pl.DataFrame(columns))
    return pl.concat(tables) if tables else pl.DataFrame()


def _sixfold_angle(vector: np.ndarray, valid: np.ndarray, lattice_angstrom: float) -> float:
    """Direction of the first-shell bonds modulo 60 degrees: the phase of the mean of exp(6 i theta)."""
    first = valid & (np.linalg.norm(vector[..., :2], axis=-1) < _shell_boundary(lattice_angstrom))
    theta = np.arctan2(vector[..., 1], vector[..., 0])[first]
    return float(np.angle(np.exp(6j * theta).sum()) / 6)


def _shell_boundary(lattice_angstrom: float) -> float:
    return 0.5 * (1.0 + 1.0 / np.sqrt(3)) * lattice_angstrom


def _ideal_vectors(vector: np.ndarray, valid: np.ndarray, angle_rad: float, lattice_angstrom: float) -> tuple[np.ndarray, np.ndarray]:
    """The lattice vector (n, k, 2) nearest to each measured one, and which belong to atoms with both shells complete."""
    length = np.linalg.norm(vector[..., :2], axis=-1)
    theta = np.arctan2(vector[..., 1], vector[..., 0])
    first = valid & (length < _shell_boundary(lattice_angstrom))
    second = valid & ~first
    offset = np.where(first, angle_rad, angle_rad + np.pi / 6)
    snapped = offset + np.round((theta - offset) / (np.pi / 3)) * (np.pi / 3)
    radius = np.where(first, lattice_angstrom / np.sqrt(3), lattice_angstrom)
    ideal = radius[..., None] * np.stack([np.cos(snapped), np.sin(snapped)], axis=-1)
    closed = np.linalg.norm(np.where(first[..., None], ideal, 0.0).sum(axis=1), axis=-1) < 1e-6 * lattice_angstrom
    complete = (first.sum(axis=1) == 3) & (second.sum(axis=1) == 6) & closed
    return ideal, valid & complete[:, None]


def _deformation_gradient(vector: np.ndarray, ideal: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F (n, 3, 2) and the weight (n, k, 2) that each neighbour vector has in it; NaN for atoms not used."""
    ideal = np.where(used[..., None], ideal, 0.0)
    moment = np.einsum("nka,nkb->nab", ideal, ideal)
    whole = used.any(axis=1)
    inverse = np.full_like(moment, np.nan)
    inverse[whole] = np.linalg.inv(moment[whole])
    weight = np.einsum("nka,nab->nkb", ideal, inverse)
    measured = np.where(used[..., None], vector, 0.0)
    return np.einsum("nka,nkb->nab", measured, weight), weight


def _gradient_variance(weight: np.ndarray, index: np.ndarray, sigma_angstrom: np.ndarray) -> np.ndarray:
    """Variance (n, 3, 2) of F for independent errors; the central atom drops out because the weights sum to zero."""
    return np.einsum("nkb,nka->nab", weight**2, sigma_angstrom[index] ** 2)


def _rotation(gradient: np.ndarray) -> np.ndarray:
    """Angle of Q in F = Q U for 2 x 2 matrices: atan2(F_yx - F_xy, F_xx + F_yy)."""
    return np.arctan2(gradient[:, 1, 0] - gradient[:, 0, 1], gradient[:, 0, 0] + gradient[:, 1, 1])


def _strain_from_gradient(gradient: np.ndarray, variance: np.ndarray, angle_rad: float) -> FrameStrain:
    plane, slope = gradient[:, :2], gradient[:, 2]
    rotation = _rotation(plane)
    cos, sin = np.cos(rotation), np.sin(rotation)
    turn_back = np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2)
    stretch = turn_back @ plane - np.eye(2)
    planar = 0.5 * (np.einsum("nca,ncb->nab", plane, plane) - np.eye(2))
    bending = 0.5 * np.einsum("na,nb->nab", slope, slope)
    var_slope = variance[:, 2]
    bending[:, 0, 0] += 0.5 * var_slope[:, 0]
    bending[:, 1, 1] += 0.5 * var_slope[:, 1]
    sigma_eps = np.sqrt(_components_variance(variance))
    return FrameStrain(
        eps=_components(stretch),
        sigma_eps=sigma_eps,
        green=_components(planar + bending),
        sigma_green=np.sqrt(sigma_eps**2 + _bending_variance(slope, var_slope)),
        rotation_rad=rotation,
        sigma_rotation_rad=0.5 * np.sqrt(variance[:, 1, 0] + variance[:, 0, 1]),
        lattice_angle_rad=float(angle_rad),
    )


def _components(tensor: np.ndarray) -> np.ndarray:
    return np.stack([tensor[:, 0, 0], tensor[:, 1, 1], 0.5 * (tensor[:, 0, 1] + tensor[:, 1, 0])], axis=-1)


def _components_variance(variance: np.ndarray) -> np.ndarray:
    shear = 0.25 * (variance[:, 0, 1] + variance[:, 1, 0])
    return np.stack([variance[:, 0, 0], variance[:, 1, 1], shear], axis=-1)


def _bending_variance(slope: np.ndarray, var_slope: np.ndarray) -> np.ndarray:
    """Variance of half a product of Gaussian slopes, with the second-order part that rules where the sheet is flat."""
    p, q, var_p, var_q = slope[:, 0], slope[:, 1], var_slope[:, 0], var_slope[:, 1]
    square_p, square_q = p**2 * var_p + 0.5 * var_p**2, q**2 * var_q + 0.5 * var_q**2
    return np.stack([square_p, square_q, 0.25 * (p**2 * var_q + q**2 * var_p + var_p * var_q)], axis=-1)
