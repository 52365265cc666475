"""Denoising of single frames: pictures and start values only; the likelihood never sees its output."""

from scant.imaging.denoise.backends import (
    METHODS,
    PYPI_BM3D_LICENCE_NOTE,
    DenoisedFrame,
    denoise_frame,
    denoising_device,
    image_and_noise,
    window_and_noise,
)
from scant.imaging.denoise.bm3d_filter import DEFAULT_PROFILE, FINE_PROFILE, Profile, bm3d, bm3d_of_window

__all__ = [
    "DEFAULT_PROFILE",
    "FINE_PROFILE",
    "METHODS",
    "PYPI_BM3D_LICENCE_NOTE",
    "DenoisedFrame",
    "Profile",
    "bm3d",
    "bm3d_of_window",
    "denoise_frame",
    "denoising_device",
    "image_and_noise",
    "window_and_noise",
]
