"""One frame of Poisson-Gauss counts denoised by a chosen method, through variance stabilisation and its exact unbiased inverse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scant.errors import ConfigError
from scant.imaging.average import registered
from scant.imaging.denoise.anscombe import destabilise, stabilise
from scant.imaging.denoise.bm3d_filter import check_device, check_finite
from scant.imaging.denoise.coarser import bm3d_coarser, ksvd_coarser
from scant.imaging.denoise.unet import Weights, torch_device, unet_denoise
from scant.xp import resolve_device

METHODS = ("bm3d", "pypi-bm3d", "ksvd", "unet", "none")

PYPI_BM3D_LICENCE_NOTE = (
    "pypi-bm3d: the PyPI package bm3d, copyright Tampere University and its researchers, may be used for non-commercial purposes only, "
    "and results made public must cite its authors (Makinen, Azzari & Foi, IEEE Trans. Image Process. 29, 8339, 2020); "
    "scant's own 'bm3d' carries no such restriction."
)

NORMAL_MEDIAN_MODULUS = 0.6744897501960817

Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DenoisedFrame:
    """image_e (y, x) float32, electrons; the method; noise_sd: sd of the frame's noise in units of what the noise figures predict.

    noise_sd is 1 when the figures are right; away from 1 by more than 0.1, the calibration is off or the noise is not white (a resampled
    frame).
    """

    image_e: Image
    method: str
    noise_sd: float


def denoise_frame(
    image_e: npt.NDArray,
    *,
    method: str,
    read_noise_e: float,
    excess_noise: float,
    learned: Weights | None = None,
    spectrum: npt.NDArray | None = None,
    coarser: int = 1,
    device: str = "cpu",
) -> DenoisedFrame:
    """The frame (y, x) in electrons, noise variance ``excess_noise * mean + read_noise_e**2`` e^2, denoised.

    For a mean of n frames give ``excess_noise / n`` and ``read_noise_e / sqrt(n)``.
    method: one of METHODS; whoever selects 'pypi-bm3d' prints PYPI_BM3D_LICENCE_NOTE. 'none' hands the values back as they are. 'ksvd'
    takes what `coarser.learn_coarser` learned, 'unet' the weights of `unet.train_unet`; it and 'bm3d' run on a `device` 'gpu' too. 'bm3d'
    alone knows of noise that is not white, whose relative `spectrum` is that of `bm3d_filter.bm3d`, and works on pixels `coarser` times so
    large (`binning.coarser_by`).
    Raises InputError for NaN or infinite pixels (inpaint bad pixels before), an array that is not 2D, or unphysical noise figures;
    ConfigError for an unknown method or when the package bm3d is missing.
    """
    if method not in METHODS:
        raise ConfigError(f"denoising method {method!r} is unknown; choose one of {', '.join(METHODS)}")
    check_finite(image_e)
    stabilised = stabilise(image_e, read_noise_e=read_noise_e, excess_noise=excess_noise)
    noise_sd = diagonal_noise_sd(stabilised)
    if method == "none":
        return DenoisedFrame(np.asarray(image_e, dtype=np.float32), method, noise_sd)
    denoised = (
        bm3d_coarser([stabilised], 0, coarser, spectrum, device) if method == "bm3d" else _denoised(stabilised, method, learned, device)
    )
    return DenoisedFrame(destabilise(denoised, read_noise_e=read_noise_e, excess_noise=excess_noise), method, noise_sd)


def _denoised(stabilised: Image, method: str, learned: Weights | None, device: str) -> Image:
    if method == "pypi-bm3d":
        return pypi_bm3d(stabilised, 1.0)
    if learned is None:
        raise ConfigError(f"the denoising method {method!r} needs what it has learned: give `learned`, or choose the method 'bm3d'")
    return ksvd_coarser(stabilised, learned) if method == "ksvd" else unet_denoise(stabilised, learned, device)


def image_and_noise(image_e: npt.NDArray, **settings: Any) -> tuple[Image, float]:
    """The image and the noise figure of `denoise_frame`, as a pair."""
    frame = denoise_frame(image_e, **settings)
    return frame.image_e, frame.noise_sd


def window_and_noise(
    frames: Sequence[Image] | Image,
    own: int,
    drift_px: npt.NDArray[np.floating],
    *,
    read_noise_e: float,
    excess_noise: float,
    spectrum: npt.NDArray | None = None,
    coarser: int = 1,
    device: str = "cpu",
) -> tuple[Image, float]:
    """The frame `own` (y, x) denoised by BM3D together with the others of its window, and its own noise figure.

    frames in electrons, missing ones NaN; drift_px (t, 2): see `average.registered`; the noise figures are a single frame's.
    Raises InputError as `denoise_frame`.
    """
    noise = {"read_noise_e": read_noise_e, "excess_noise": excess_noise}
    images, place = registered(frames, own, drift_px)
    for image in images:
        check_finite(image)
    stabilised = [stabilise(image, **noise) for image in images]
    denoised = bm3d_coarser(stabilised, place, coarser, spectrum, device)
    return destabilise(denoised, **noise), diagonal_noise_sd(stabilised[place])


def denoising_device(method: str, device: str) -> str:
    """'cpu' or 'gpu' for a method and 'auto', 'cpu' or 'gpu'. A GPU that is to run BM3D has to give the CPU's image first.

    Raises DeviceError for 'gpu' where none can be used, and for a GPU whose image differs.
    """
    if method == "unet":
        return torch_device(device)
    resolved = resolve_device(device)
    if resolved == "gpu" and method == "bm3d":
        check_device(resolved)
    return resolved


def diagonal_noise_sd(image: Image) -> float:
    """Sd of white noise from the diagonal differences of 2 x 2 blocks, by their median modulus (Donoho & Johnstone 1994)."""
    y, x = (side // 2 * 2 for side in image.shape)
    diagonal = (image[0:y:2, 0:x:2] - image[1:y:2, 0:x:2] - image[0:y:2, 1:x:2] + image[1:y:2, 1:x:2]) / 2
    return float(np.median(np.abs(diagonal)) / NORMAL_MEDIAN_MODULUS) if diagonal.size else float("nan")


def pypi_bm3d(image: npt.NDArray, sigma: float | npt.NDArray) -> Image:
    """BM3D of the PyPI package (profile 'np', one thread): the quality reference, 120 times slower than `bm3d`; PYPI_BM3D_LICENCE_NOTE.

    image (y, x), sigma in its units, or the power spectrum of the noise. Raises ConfigError when the package is missing.
    """
    try:
        import bm3d as package
    except ImportError as missing:
        raise ConfigError(
            "the denoising method 'pypi-bm3d' needs the package bm3d, which is not installed: run `make setup` "
            "(or `uv sync --extra bm3d`), or choose the method 'bm3d'"
        ) from missing
    profile = package.BM3DProfile()
    profile.num_threads = 1
    return np.asarray(package.bm3d(np.asarray(image, dtype=np.float64), sigma, profile), dtype=np.float32)
