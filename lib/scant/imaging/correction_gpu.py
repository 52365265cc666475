"""Correction and mean of frames on a GPU (`correction.cu`): the hits, fillings and means of `hits` and `average`, with their constants.

In double precision where those are; where a pixel is at a threshold, rounding may tip the choice otherwise than on the CPU.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scant.imaging import hits as cpu
from scant.imaging.shift import reached, taps
from scant.xp import array_module, launch, with_constants

THREADS = 128


def electrons_on_device(raw_adu: Any, dark_adu: Any, flat_gain: Any, bad: Any, gain_adu_per_electron: np.float32) -> tuple[Any, Any]:
    """A raw frame (y, x) of a device in electrons, float32, and which of its pixels are usable."""
    image = (raw_adu.astype(np.float32) - dark_adu) / (gain_adu_per_electron * flat_gain)
    return image, ~bad & np.isfinite(image)


def fill_on_device(image: Any, holes: Any, good: Any) -> None:
    """`hits.inpaint` on arrays (y, x) of a device: fills the holes of the image in place."""
    height, width = image.shape
    _run("fill", height, image, holes, good, np.int32(height), np.int32(width))


def hits_on_device(image_e: Any, good: Any, excess_noise: float, read_noise_e: float, threshold_sigma: float) -> Any:
    """`hits.find_hits` on arrays (y, x) of a device."""
    xp, (height, width) = array_module(image_e), image_e.shape
    size = np.int32(height), np.int32(width)
    noise = np.float64(excess_noise), np.float64(read_noise_e**2), np.float64(threshold_sigma)
    steps = cpu.sample_steps(height, width)
    sample = xp.empty([-(-side // step) for side, step in zip((height, width), steps)], np.float64)
    _run("sharpness", sample.shape[0], image_e, *size, *(np.int32(step) for step in steps), np.int32(sample.shape[1]), sample)
    floor = xp.asarray(cpu.FLOOR * xp.quantile(sample, cpu.FLOOR_QUANTILE))
    hits = xp.empty(image_e.shape, np.bool_)
    _run("mark", height, image_e, good, *noise, floor, *size, hits)
    for _ in range(cpu.GROWTH_STEPS):
        grown = xp.empty_like(hits)
        _run("grow", height, image_e, good & ~hits, hits, *noise, *size, grown)
        hits = grown
    return hits


def mean_on_device(frames: Sequence[Any] | Any, moves_px: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Mean (y, x) of frames (t, y, x) of a device, each moved by moves_px (t, 2) in y and x, and the frames used per pixel."""
    stack = array_module(frames[0]).stack(list(frames)).astype(np.float32)
    xp, (count, *shape) = array_module(stack), stack.shape
    spans, weights = np.zeros((count, 2, 4), np.int32), np.zeros((count, 2, 4), np.float32)
    for t, axis in np.ndindex(count, 2):
        offset, kernel = taps(float(moves_px[t, axis]))
        spans[t, axis] = offset, kernel.size, *reached(offset, kernel.size, shape[axis])
        weights[t, axis, : kernel.size] = kernel
    means, used = xp.empty(shape, np.float32), xp.empty(shape, np.uint8)
    size = [np.int32(n) for n in (count, *shape)]
    _run("mean", shape[0], stack, *size, xp.asarray(spans), xp.asarray(weights), means, used)
    return means, used


def _run(kernel: str, rows: int, *arguments: Any) -> None:
    launch(_source(), kernel, (rows, 1), THREADS, arguments)


@cache
def _source() -> str:
    constants = {
        "HOLE_WINDOW_PX": cpu.LARGEST_WINDOW_PX, "PAIR_NOISE": cpu.PAIR_NOISE, "STRUCTURE": cpu.STRUCTURE, "SUSPECT": cpu.SUSPECT,
        "TOUCHING": cpu.TOUCHING,
    }  # fmt: skip
    return with_constants(importlib.resources.files("scant.imaging").joinpath("correction.cu").read_text(), constants)
