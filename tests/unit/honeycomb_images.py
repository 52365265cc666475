"""Synthetic honeycomb images for tests: any pixel size, rotation, strain, contrast; atoms drawn one by one, no library code."""

from __future__ import annotations

import numpy as np

LATTICE_CONSTANT = 2.46


def honeycomb(
    shape: tuple[int, int], pixel: float, *, rotation: float = 0.0, shift: tuple[float, float] = (0.3, 0.7), margin: float = 6.0
) -> np.ndarray:
    """Atoms (n, 2) in pixels, x then y, of graphene around a hollow at the image centre plus `shift` pixels, up to `margin` A outside."""
    a = LATTICE_CONSTANT / pixel
    vectors = a * np.array([[np.cos(rotation), np.sin(rotation)], [np.cos(rotation + np.pi / 3), np.sin(rotation + np.pi / 3)]])
    reach = int(np.hypot(*shape) / a) + 8
    i, j = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    cells = np.stack([i.ravel(), j.ravel()], axis=1)
    atoms = np.concatenate([(cells + 1 / 3) @ vectors, (cells + 2 / 3) @ vectors]) + (np.array(shape[::-1]) - 1) / 2 + np.array(shift)
    limit, m = np.array(shape[::-1]) - 1, margin / pixel
    return atoms[((atoms > -m) & (atoms < limit + m)).all(axis=1)]


def draw(atoms: np.ndarray, shape: tuple[int, int], pixel: float, *, contrast: float = 0.25, ring: float = 0.5) -> np.ndarray:
    """Relative intensity 1 + contrast * (Gaussian of 0.42 A less a wider one of the same integral times `ring`) per atom."""
    image = np.ones(shape)
    y, x = np.arange(shape[0]), np.arange(shape[1])
    for width, weight in ((0.42 / pixel, 1.0), (0.8 / pixel, -ring * (0.42 / 0.8) ** 2)):
        along_y = np.exp(-0.5 * ((y[:, None] - atoms[:, 1]) / width) ** 2)
        along_x = np.exp(-0.5 * ((x[:, None] - atoms[:, 0]) / width) ** 2)
        image += contrast * weight * along_y @ along_x.T
    return image


def noisy(image: np.ndarray, dose_per_angstrom2: float, pixel: float, seed: int) -> np.ndarray:
    """Poisson counts of an image in units of the mean beam."""
    mean = dose_per_angstrom2 * pixel**2
    return np.random.default_rng(seed).poisson(np.maximum(image, 0) * mean).astype(np.float32)


def in_view(atoms: np.ndarray, shape: tuple[int, int], margin: float = 0.0) -> np.ndarray:
    return ((atoms > -0.5 + margin) & (atoms < np.array(shape[::-1]) - 0.5 - margin)).all(axis=1)
