"""One stage of BM3D on a GPU (`bm3d.cu`): the patches, groups and filters of `bm3d_kernels`, in sums whose order does not matter.

Where two patches are equally near, or a coefficient is at the threshold, rounding may tip the choice otherwise than on the CPU; the rest
agrees to float32 (`tests/unit/test_bm3d_gpu.py` runs the same source on a CPU).
"""

from __future__ import annotations

import importlib.resources
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scant.imaging.denoise import bm3d_kernels as kernels
from scant.imaging.denoise.bm3d_vector import CODE_BITS, LANE_BITS, SMALLEST_DISTANCE
from scant.xp import array_module, launch, with_constants

MATCH_THREADS, FILTER_THREADS = 128, 64
References = tuple[npt.NDArray[np.int64], ...]


def filtered_on_device(stage: kernels.Stage, noisy: Any, pilot: Any, rows: npt.NDArray[np.int64], columns: References) -> Any:
    """One stage over images (n, y, x) on a device that share the groups found on the first: values (n, y, x) float32.

    Reference patches at rows and, by turns, columns[0] and columns[1].
    """
    xp = array_module(noisy)
    n_images, height, width = noisy.shape
    references = xp.asarray(np.array([(row, x) for turn, row in enumerate(rows) for x in columns[turn % 2]], np.int32))
    size = [np.int32(value) for value in (height, width, stage.hard)]
    places = xp.empty((len(references), kernels.GROUP), np.int32)
    image = noisy[0] if stage.hard else pilot[0]
    launch(source(), "match", (len(references), 1), MATCH_THREADS, (image, *size, references, places))
    inverse = np.linalg.inv(stage.matrix.astype(np.float64)).astype(np.float32)
    by_row = [each.reshape(kernels.PATCH, -1).T for each in (stage.limits, stage.variances)]
    constants = [xp.asarray(np.ascontiguousarray(each)) for each in (stage.matrix, inverse, *by_row, stage.window)]
    sums = xp.zeros((n_images, 2, height, width), np.uint64)
    launch(source(), "filter", (len(references), n_images), FILTER_THREADS, (noisy, pilot, *size, *constants, places, sums))
    whole = sums.view(np.int64)
    return (whole[:, 0] / whole[:, 1]).astype(np.float32)


@cache
def source() -> str:
    """CUDA C of both kernels, the constants of `bm3d_kernels` before it."""
    constants = {
        "PATCH": kernels.PATCH, "WINDOW_ROWS": kernels.WINDOW_ROWS, "WINDOW_COLUMNS": kernels.WINDOW_COLUMNS, "GROUP": kernels.GROUP,
        "CODE_BITS": CODE_BITS, "LANE_BITS": LANE_BITS, "THREADS": max(MATCH_THREADS, FILTER_THREADS),
        "SMALLEST_DISTANCE": f"{SMALLEST_DISTANCE}f", "SMALLEST_KEPT": f"{kernels.SMALLEST_KEPT}f",
        "SMALLEST_POWER": f"{kernels.SMALLEST_POWER:.9f}f",
    }  # fmt: skip
    lines = []
    for name, samples in (("NOISY_SAMPLES", kernels.NOISY_SAMPLES), ("PILOT_SAMPLES", kernels.PILOT_SAMPLES)):
        listed = ", ".join(f"{{{row}, {column}}}" for row, column in samples)
        lines.append(f"static constexpr int {name}[{len(samples)}][2] = {{{listed}}};")
    text = importlib.resources.files("scant.imaging.denoise").joinpath("bm3d.cu").read_text()
    return with_constants("\n".join([*lines, text]), constants)
