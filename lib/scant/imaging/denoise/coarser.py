"""Denoising on pixels as coarse as the aperture allows: nothing but noise is left out, and a patch sees more of the crystal.

At 8e3 e/A^2 and 0.2 A/px BM3D gains 4 dB more in a quarter of the time, but a vacancy is then a smaller part of its patch, and within 1 A
of one 2 to 5 dB are lost. K-SVD, which codes each patch for itself, gains 5 dB and loses nothing there (tests/truth/test_denoise.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from scant.imaging.binning import band_limited, on_fine_grid
from scant.imaging.denoise.bm3d_filter import bm3d_of_window
from scant.imaging.denoise.ksvd import ksvd_denoise, learn_dictionary
from scant.xp import module_for, to_numpy

Floats = npt.NDArray[np.float32]
Learned = Mapping[str, npt.NDArray]


def bm3d_coarser(frames: Sequence[npt.NDArray], own: int, factor: int, spectrum: npt.NDArray | None = None, device: str = "cpu") -> Floats:
    """The frame `own` of a window (or of a single image) with noise of sd 1, denoised by BM3D on pixels `factor` times coarser.

    frames, each (y, x): see `bm3d_of_window`. spectrum: of noise that is not white, as `bm3d` wants it, on the fine pixels' frequencies.
    device: a resolved one, where BM3D itself runs.
    """
    known = spectrum if spectrum is None or factor == 1 else _low_frequencies(spectrum, factor)
    xp = module_for(device)
    denoised = to_numpy(bm3d_of_window([xp.asarray(_coarse(frame, factor)) for frame in frames], own, 1.0, spectrum=known))
    return _on_fine_pixels(denoised, factor, frames[own].shape)


def learn_coarser(images: list[npt.NDArray], factor: int, rng: np.random.Generator) -> Learned:
    """The dictionary of images (y, x) with noise of sd 1 on pixels `factor` times coarser, and that factor, for `ksvd_coarser`."""
    return {"dictionary": learn_dictionary([_coarse(image, factor) for image in images], rng), "coarser": np.array(factor)}


def ksvd_coarser(image: npt.NDArray, learned: Learned) -> Floats:
    """An image (y, x) with noise of sd 1 denoised by what `learn_coarser` learned, on its pixels, and put back on its own."""
    factor = int(learned["coarser"])
    return _on_fine_pixels(ksvd_denoise(_coarse(image, factor), learned["dictionary"]), factor, image.shape)


def _coarse(image: npt.NDArray, factor: int) -> npt.NDArray:
    """The image on coarse pixels, its noise of sd 1 again."""
    return image if factor == 1 else factor * band_limited(image, np.ones(image.shape, dtype=bool), factor)[0]


def _on_fine_pixels(denoised: Floats, factor: int, shape: tuple[int, ...]) -> Floats:
    return denoised if factor == 1 else on_fine_grid(denoised / factor, factor)[: shape[0], : shape[1]].astype(np.float32)


def _low_frequencies(spectrum: npt.NDArray, factor: int) -> npt.NDArray:
    """What of the spectrum lies below the coarse pixels' limit, in the order of their own frequencies."""
    kept = len(spectrum) // factor
    rows = np.r_[: kept - kept // 2, -(kept // 2) : 0]
    return np.asarray(spectrum[np.ix_(rows, rows)])
