"""Denoising by a dictionary learned from the movie itself: K-SVD with orthogonal matching pursuit.

Elad and Aharon, IEEE Trans. Image Process. 15, 3736 (2006): every 8 x 8 patch, its mean taken out, is a sparse sum of unit atoms, with as
few as bring the residual down to what noise leaves; overlapping patches are averaged. Learning: approximate K-SVD
and Batch-OMP (Rubinstein, Zibulevsky and Elad, Technion CS-2008-08).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from scant.errors import InputError
from scant.imaging.denoise.bm3d_filter import check_finite, reference_places
from scant.imaging.denoise.bm3d_kernels import PATCH

N_ATOMS = 256
MOST_USED = 16
# Residual, in noise sd per pixel, at which a patch is explained. Elad and Aharon's 1.15 loses up to 1 dB on lattices in counts; so does
# a share of the noisy image in the mean, which they add.
RESIDUAL_SD = 1.05
LEARNING_PATCHES = 40_000
LEARNING_ROUNDS = 16

Floats = npt.NDArray[np.float32]


def learn_dictionary(images: list[npt.NDArray], rng: np.random.Generator, sigma: float = 1.0) -> Floats:
    """Dictionary (256, 64) of unit atoms without mean, from images (y, x) of white noise of sd `sigma` each.

    40,000 patches drawn at random, 16 rounds. Raises InputError for images that are not finite or smaller than a patch.
    """
    per_image = max(1, LEARNING_PATCHES // len(images))
    patches = np.concatenate([_random_patches(image, per_image, rng) for image in images]).astype(np.float32) / np.float32(sigma)
    dictionary = _unit(patches[rng.permutation(len(patches))[:N_ATOMS]], rng)
    for _ in range(LEARNING_ROUNDS):
        codes = _codes(patches, dictionary)
        dictionary = _unit(_updated(patches, dictionary, *codes), rng)
    return dictionary


def ksvd_denoise(image: npt.NDArray, dictionary: Floats, sigma: float = 1.0, step_px: int = 1) -> Floats:
    """Denoised image (y, x) float32: white Gaussian noise of sd `sigma`, patches every `step_px` pixels, dictionary (K, 64).

    Raises InputError for pixels that are not finite, a dictionary of another patch, or an image smaller than a patch.
    """
    _check(image)
    if dictionary.ndim != 2 or dictionary.shape[1] != PATCH * PATCH:
        raise InputError(f"the dictionary has shape {dictionary.shape}; (atoms, {PATCH * PATCH}) is needed: learn it again")
    scaled = np.ascontiguousarray(image, np.float32) / np.float32(sigma)
    rows, columns = (reference_places(side, step_px) for side in image.shape)
    total, weight = np.zeros_like(scaled), np.zeros_like(scaled)
    strips = max(1, 4096 // len(columns))
    for first in range(0, len(rows), strips):
        at = np.array([(y, x) for y in rows[first : first + strips] for x in columns])
        patches = _patches(scaled, at)
        means = patches.mean(axis=1, keepdims=True)
        centred = patches - means
        coefficients, used, counts = _codes(centred, dictionary)
        _add(total, weight, at, _rebuilt(dictionary, coefficients, used, counts) + means)
    return np.asarray(total / weight * np.float32(sigma), np.float32)


def _check(image: npt.NDArray) -> None:
    check_finite(image)
    if min(image.shape) < PATCH:
        raise InputError(f"the image is {image.shape[0]} x {image.shape[1]} px; K-SVD needs at least {PATCH} px a side")


def _patches(image: Floats, at: npt.NDArray[np.intp]) -> Floats:
    views = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH))
    return views[at[:, 0], at[:, 1]].reshape(len(at), -1)


def _random_patches(image: npt.NDArray, n: int, rng: np.random.Generator) -> Floats:
    _check(image)
    at = np.column_stack([rng.integers(0, side - PATCH + 1, n) for side in image.shape])
    patches = _patches(np.asarray(image, np.float32), at)
    return np.asarray(patches - patches.mean(axis=1, keepdims=True), np.float32)


def _unit(atoms: Floats, rng: np.random.Generator) -> Floats:
    """Atoms without mean and of unit length; one that is nothing becomes noise, to be learned anew."""
    atoms = atoms - atoms.mean(axis=1, keepdims=True)
    length = np.linalg.norm(atoms, axis=1, keepdims=True)
    fresh = rng.standard_normal(atoms.shape).astype(np.float32)
    fresh -= fresh.mean(axis=1, keepdims=True)
    atoms = np.where(length > 1e-6, atoms, fresh)
    return np.ascontiguousarray(atoms / np.linalg.norm(atoms, axis=1, keepdims=True), np.float32)


def _codes(patches: Floats, dictionary: Floats) -> tuple[Floats, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Coefficients and indices (n, 16) and their number (n,) of patches (n, 64), down to the residual that noise leaves."""
    target = np.float32(PATCH * PATCH * RESIDUAL_SD**2)
    projections = patches @ dictionary.T
    return _pursuit(projections, (patches**2).sum(axis=1), dictionary @ dictionary.T, target)


@njit(cache=True)
def _pursuit(projections, energies, gram, target):
    """Batch-OMP: progressive Cholesky factor of the used atoms' Gram matrix, residual energies from projections alone."""
    n, n_atoms = projections.shape
    coefficients = np.zeros((n, MOST_USED), np.float32)
    used = np.zeros((n, MOST_USED), np.int32)
    counts = np.zeros(n, np.int32)
    factor = np.zeros((MOST_USED, MOST_USED), np.float32)
    half, solution = np.zeros(MOST_USED, np.float32), np.zeros(MOST_USED, np.float32)
    alpha = np.zeros(n_atoms, np.float32)
    for i in range(n):
        alpha[:] = projections[i]
        count, residual = 0, energies[i]
        while residual > target and count < MOST_USED:
            best = np.argmax(np.abs(alpha))
            diagonal = np.float32(1.0)
            for a in range(count):
                value = gram[used[i, a], best]
                for b in range(a):
                    value -= factor[a, b] * factor[count, b]
                factor[count, a] = value / factor[a, a]
                diagonal -= factor[count, a] ** 2
            if diagonal < np.float32(1e-5):
                break
            factor[count, count] = np.sqrt(diagonal)
            used[i, count] = best
            count += 1
            _solve(factor, projections[i], used[i], count, half, solution)
            residual = energies[i]
            alpha[:] = projections[i]
            for a in range(count):
                residual -= solution[a] * projections[i, used[i, a]]
                alpha -= solution[a] * gram[used[i, a]]
        coefficients[i, :count] = solution[:count]
        counts[i] = count
    return coefficients, used, counts


@njit(cache=True)
def _solve(factor, projection, used, count, half, solution):
    """Coefficients of the used atoms: factor factor^T x = projection."""
    for a in range(count):
        value = projection[used[a]]
        for b in range(a):
            value -= factor[a, b] * half[b]
        half[a] = value / factor[a, a]
    for a in range(count - 1, -1, -1):
        value = half[a]
        for b in range(a + 1, count):
            value -= factor[b, a] * solution[b]
        solution[a] = value / factor[a, a]


@njit(cache=True)
def _rebuilt(dictionary, coefficients, used, counts):
    patches = np.zeros((len(counts), dictionary.shape[1]), np.float32)
    for i in range(len(counts)):
        for a in range(counts[i]):
            patches[i] += coefficients[i, a] * dictionary[used[i, a]]
    return patches


@njit(cache=True)
def _updated(patches, dictionary, coefficients, used, counts):
    """Every atom in turn moved to the best one for the residual of the patches that use it, their coefficients with it."""
    dictionary = dictionary.copy()
    residual = patches - _rebuilt(dictionary, coefficients, used, counts)
    for k in range(len(dictionary)):
        atom = np.zeros(dictionary.shape[1], np.float32)
        for i in range(len(counts)):
            for a in range(counts[i]):
                if used[i, a] == k:
                    atom += coefficients[i, a] * (residual[i] + coefficients[i, a] * dictionary[k])
        length = np.sqrt((atom**2).sum())
        if length < np.float32(1e-12):
            dictionary[k] = 0
            continue
        atom /= length
        for i in range(len(counts)):
            for a in range(counts[i]):
                if used[i, a] == k:
                    residual[i] += coefficients[i, a] * dictionary[k]
                    coefficients[i, a] = (residual[i] * atom).sum()
                    residual[i] -= coefficients[i, a] * atom
        dictionary[k] = atom
    return dictionary


@njit(cache=True)
def _add(total, weight, at, patches):
    for i in range(len(at)):
        y, x = at[i]
        for a in range(PATCH):
            for b in range(PATCH):
                total[y + a, x + b] += patches[i, a * PATCH + b]
                weight[y + a, x + b] += 1
