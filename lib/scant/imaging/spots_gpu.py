"""The sums of `spot_sums` on a GPU (`spots.cu`), by the same names: images and atoms are a device's, sums that leave the pixels the host's.

An atom's step uses what its neighbours have done before it, here cell by cell and there atom by atom: both end at the same likelihood.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scant.imaging.spot_sums import LARGEST_STEP_WIDTHS, POWERS
from scant.xp import array_module, launch, to_numpy, with_constants

THREADS = 64
Array = NDArray[np.float64]


def fill_background(weights: Array, least: float, image: Any) -> None:
    xp = array_module(image)
    v, u = (xp.linspace(-1.0, 1.0, side) for side in image.shape)
    terms = (weight * u[None, :] ** i * v[:, None] ** j for weight, (i, j) in zip(weights.tolist(), POWERS, strict=True))
    image[:] = xp.maximum(sum(terms), least)


def render(atoms: Any, width: float, reach: float, by_width: int, image: Any) -> None:
    for order, starts in _cells(atoms, reach):
        _run("render", len(starts) - 1, atoms, order, starts, *_lengths(width, reach), np.int32(by_width), *_size(image), image)


def sweep(counts: Any, used: Any, model: Any, atoms: Any, width: float, reach: float) -> float:
    moved = array_module(atoms).zeros(len(atoms))
    for order, starts in _cells(atoms, reach + LARGEST_STEP_WIDTHS * width):
        _run("sweep", len(starts) - 1, counts, used, model, atoms, order, starts, *_lengths(width, reach), *_size(model), moved)
    return float(moved.max())


def shared_sums(counts: Any, used: Any, model: Any, by_width: Any, fisher: Array, slope: Array) -> None:
    """Sums over all pixels: moments of the weights in x and y, which the background's powers pick theirs from."""
    xp = array_module(model)
    v, u = (xp.linspace(-1.0, 1.0, side)[:, None] ** xp.arange(5) for side in model.shape)
    weight = used / model
    rest, by_both = weight * (counts - model), weight * by_width
    # moments [power of x, power of y]
    moments, with_width, rests = (to_numpy(u.T @ image.T @ v) for image in (weight, by_both, rest))
    powers = np.array(POWERS)
    summed = powers[:, None] + powers
    fisher[0, 0], slope[0] = float((by_both * by_width).sum()), float((rest * by_width).sum())
    fisher[1:, 1:] = moments[summed[..., 0], summed[..., 1]]
    fisher[0, 1:] = fisher[1:, 0] = with_width[powers[:, 0], powers[:, 1]]
    slope[1:] = rests[powers[:, 0], powers[:, 1]]


def shared_couplings(
    counts: Any, used: Any, model: Any, by_width: Any, atoms: Any, width: float, reach: float, coupling: Array, pull: Array
) -> None:
    sums = array_module(atoms).empty((len(atoms), 8))
    _run("couplings", len(atoms), counts, used, model, by_width, atoms, *_lengths(width, reach), *_size(model), sums)
    found = to_numpy(sums)
    coupling[:], pull[:] = found[:, :7], found[:, 7]


def pair_sums(used: Any, model: Any, atoms: Any, width: float, reach: float, pairs: NDArray[np.int64], blocks: Array) -> None:
    xp = array_module(atoms)
    sums, members = xp.empty(blocks.shape), xp.asarray(pairs.astype(np.int32))
    _run("pair_blocks", len(pairs), used, model, atoms, *_lengths(width, reach), members, np.int32(blocks.shape[1]), *_size(model), sums)
    blocks[:] = to_numpy(sums)


def _cells(atoms: Any, reach: float) -> Iterator[tuple[Any, Any]]:
    """Four times the atoms of every second cell in x and in y, and where each cell's begin among them: `order` and `starts` of the kernels.

    Cells are wide enough that atoms of two of them, each with its reach, have no pixel in common.
    """
    xp, places = array_module(atoms), to_numpy(atoms[:, :2])
    row, column = np.floor((places[:, ::-1] + 0.5) / (2 * reach + 1)).astype(np.int64).T
    for parity in range(4):
        members = np.flatnonzero(2 * (row % 2) + column % 2 == parity)
        if len(members):
            order = members[np.lexsort((column[members], row[members]))]
            fresh = (np.diff(row[order]) != 0) | (np.diff(column[order]) != 0)
            starts = np.concatenate([[0], 1 + np.flatnonzero(fresh), [len(order)]])
            yield xp.asarray(order.astype(np.int32)), xp.asarray(starts.astype(np.int32))


def _lengths(width: float, reach: float) -> tuple[np.float64, np.float64]:
    return np.float64(width), np.float64(reach)


def _size(image: Any) -> tuple[np.int32, np.int32]:
    return np.int32(image.shape[0]), np.int32(image.shape[1])


def _run(kernel: str, blocks: int, *arguments: Any) -> None:
    launch(_source(), kernel, (blocks, 1), THREADS, arguments)


@cache
def _source() -> str:
    text = importlib.resources.files("scant.imaging").joinpath("spots.cu").read_text()
    return with_constants(text, {"THREADS": THREADS, "LARGEST_STEP_WIDTHS": LARGEST_STEP_WIDTHS})
