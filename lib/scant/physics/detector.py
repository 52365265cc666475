"""From a relative image to what a camera writes: shot noise, gain, offset, read noise, bad pixels, X-ray hits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ADU_MAX = 65535
DEAD_ADU, HOT_ADU = 0, 60000


@dataclass(frozen=True)
class Camera:
    """A camera's fixed traits: gain and offset in ADU, read noise in electrons, relative gain (H, W), stuck pixels (H, W; -1 = sound)."""

    gain_adu_per_electron: float
    offset_adu: float
    read_noise_e: float
    relative_gain: np.ndarray
    stuck_adu: np.ndarray
    hits_per_frame: float = 0.0


def make_camera(
    shape: tuple[int, int], gain_adu_per_electron: float, offset_adu: float, read_noise_e: float, n_bad: int, rng: np.random.Generator
) -> Camera:
    """A camera whose gain falls off by 10 % to the corners and scatters by 2 % from pixel to pixel; half its bad pixels dead, half hot."""
    height, width = shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    relative = (1 - 0.05 * (x**2 + y**2)) * rng.normal(1.0, 0.02, shape)
    stuck = np.full(shape, -1)
    where = rng.choice(height * width, n_bad, replace=False)
    stuck.flat[where] = np.where(np.arange(n_bad) % 2, HOT_ADU, DEAD_ADU)
    return Camera(gain_adu_per_electron, offset_adu, read_noise_e, relative / relative.mean(), stuck)


def expose(relative_image: np.ndarray, mean_electrons: float, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Raw frame (H, W) uint16 of a relative image (H, W) at a mean of so many electrons per pixel."""
    electrons = rng.poisson(np.maximum(relative_image * camera.relative_gain, 0) * mean_electrons).astype(float)
    electrons += rng.normal(0, camera.read_noise_e, electrons.shape)
    adu = electrons * camera.gain_adu_per_electron + camera.offset_adu
    n_hits = rng.poisson(camera.hits_per_frame)
    hit_y, hit_x = rng.integers(0, adu.shape[0], n_hits), rng.integers(0, adu.shape[1], n_hits)
    adu[hit_y, hit_x] += rng.uniform(20, 200, n_hits) * np.sqrt(mean_electrons) * camera.gain_adu_per_electron
    adu = np.where(camera.stuck_adu >= 0, camera.stuck_adu, adu)
    return np.clip(np.rint(adu), 0, ADU_MAX).astype(np.uint16)


def reference(mean_electrons: float, n_frames: int, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Mean of `n_frames` exposures without specimen, (H, W) float32 ADU; 0 electrons give the dark reference."""
    variance_e2 = (mean_electrons * camera.relative_gain + camera.read_noise_e**2) / n_frames
    electrons = mean_electrons * camera.relative_gain + rng.normal(0, 1, camera.relative_gain.shape) * np.sqrt(variance_e2)
    adu = electrons * camera.gain_adu_per_electron + camera.offset_adu
    return np.where(camera.stuck_adu >= 0, camera.stuck_adu, adu).astype(np.float32)


def counts_with_noise(
    relative_image: np.ndarray, mean_electrons: float, read_noise_e: float, excess_noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Corrected counts (H, W) float32 in electrons with variance excess * mean + read^2, for twins of a calibrated dataset.

    Excess noise below one (a wrong flat normalisation) is taken as one: no detector beats shot noise.
    """
    expected = np.maximum(relative_image, 0) * mean_electrons
    excess_variance = max(excess_noise - 1, 0) * expected + read_noise_e**2
    return (rng.poisson(expected) + rng.normal(0, 1, expected.shape) * np.sqrt(excess_variance)).astype(np.float32)
