"""Denoisers compared by what they do to the atoms: on simulated frames of known truth, and on real frames by figures without one.

Gain in PSNR alone is a trap: filters that average over the whole crystal win on it and fill in missing atoms. So atoms are located after
each denoiser, vacancies are looked at apart, and the lattice's scale is measured.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from scant.errors import CalibrationError, InputError
from scant.imaging.binning import coarser_by
from scant.imaging.denoise.anscombe import destabilise, stabilise
from scant.imaging.denoise.backends import denoise_frame, pypi_bm3d, window_and_noise
from scant.imaging.denoise.coarser import bm3d_coarser, ksvd_coarser, learn_coarser
from scant.imaging.denoise.linear import gaussian_of_least_risk, radial_wiener
from scant.imaging.denoise.unet import Weights, unet_denoise
from scant.imaging.reciprocal import find_lattice
from scant.io.blocks import sample_frames
from scant.physics.detector import counts_with_noise
from scant.report.denoisers import SINGLE
from scant.rng import stream
from scant.stages.localising import LocaliseSettings, localise_columns
from scant.stages.training import IMAGE_PX, PairSettings, Scene, scene, scene_image

DOSE_FACTORS, SCENES, WINDOW = (0.3, 1.0, 3.0), 4, 5
VACANCIES = 3
BORDER_ANGSTROM, MATCH_ANGSTROM, NEAR_VACANCY_ANGSTROM = 3.0, 0.5, 2.5
LAGS_PX = 3
MEMORY_PX, WARM_UP_PX = 512, 64
SIMULATED = {
    "method": pl.String, "dose_factor": pl.Float64, "gain_db": pl.Float64, "gain_at_vacancies_db": pl.Float64, "recall": pl.Float64,
    "precision": pl.Float64, "rms_angstrom": pl.Float64, "lattice_bias": pl.Float64, "vacancies_filled": pl.Float64,
    "cpu_s_per_mpx": pl.Float64, "peak_mb": pl.Float64,
}  # fmt: skip
REAL = {"method": pl.String, "residual_correlation": pl.Float64, "agreement": pl.Float64}

Filter = Callable[[np.ndarray], np.ndarray]
Movie = tuple[np.ndarray, np.ndarray]


def filters(learned: dict[str, Weights], with_package: bool, coarser: int) -> dict[str, Filter]:
    """Denoisers of stabilised images by name. learned: {"ksvd": ..., "unet": ...}, those that are there; with_package: PyPI bm3d too;
    BM3D on pixels `coarser` times so large too, where that is more than one.
    """
    found: dict[str, Filter] = {SINGLE: np.asarray, "Gaussian": gaussian_of_least_risk, "radial Wiener": radial_wiener}
    found["BM3D"] = partial(_bm3d, coarser=1)
    if coarser > 1:
        found["BM3D, coarse pixels"] = partial(_bm3d, coarser=coarser)
    if with_package:
        found["PyPI bm3d"] = _package
    if "ksvd" in learned:
        found["K-SVD"] = _Learned(ksvd_coarser, learned["ksvd"])
    if "unet" in learned:
        found["U-Net"] = _Learned(unet_denoise, learned["unet"])
    return found


def _bm3d(image: np.ndarray, coarser: int) -> np.ndarray:
    return bm3d_coarser([image], 0, coarser)


def _package(image: np.ndarray) -> np.ndarray:
    return pypi_bm3d(image, 1.0)


class _Learned:
    """A filter with what it has learned, in a form that another process can receive."""

    def __init__(self, function: Callable[..., np.ndarray], learned: Any):
        self.function, self.learned = function, learned

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.function(image, self.learned)


def neighbouring_pairs(usable: Sequence[int], count: int) -> list[tuple[int, int]]:
    """At most `count` pairs of frames, each with the next usable one, spread over the movie. CalibrationError for fewer than two frames."""
    if len(usable) < 2:
        raise CalibrationError(f"{len(usable)} frame(s) could be corrected; denoisers are compared on pairs of frames: use a longer movie")
    return [(usable[n], usable[n + 1]) for n in sample_frames(len(usable) - 1, count)]


def compare_simulated(settings: PairSettings, unet: Weights | None, with_package: bool, seed: int) -> pl.DataFrame:
    """Rows of all methods at 0.3, 1 and 3 times the movie's dose, over four scenes of five frames with three vacancies each."""
    scenes = [scene(settings, stream(seed, "denoisers", n), VACANCIES) for n in range(SCENES)]
    rows: list[dict[str, Any]] = []
    costs: dict[str, dict[str, float]] = {}
    coarser = coarser_by(settings.pixel_size_angstrom)
    for factor in DOSE_FACTORS:
        movies = [_movie(s, settings, factor, stream(seed, f"denoisers {factor:g}", n)) for n, s in enumerate(scenes)]
        noise = {"read_noise_e": settings.read_noise_e, "excess_noise": settings.excess_noise}
        frames = [stabilise(m[0][n], **noise) for m in movies for n in range(WINDOW)]
        learned: dict[str, Weights] = {"ksvd": learn_coarser(frames, coarser, stream(seed, "denoisers-ksvd"))}
        chosen = filters(learned | ({} if unet is None else {"unet": unet}), with_package, coarser)
        costs = costs or {name: cost(function) for name, function in chosen.items()}
        as_recorded = {SINGLE: 1, f"{WINDOW}-frame mean": WINDOW}
        for name, n_frames in as_recorded.items():
            means = [noisy[:n_frames].mean(axis=0) for noisy, _ in movies]
            rows.append({"method": name, "dose_factor": factor} | _judged(means, movies, scenes, settings, n_frames) | costs.get(name, {}))
        for name, function in chosen.items():
            if name not in as_recorded:
                images = [destabilise(function(stabilise(noisy[0], **noise)), **noise) for noisy, _ in movies]
                rows.append({"method": name, "dose_factor": factor} | _judged(images, movies, scenes, settings) | costs[name])
        for name, images in (("BM3D of the mean", _of_means(movies, noise)), ("BM3D across frames", _across(movies, noise))):
            rows.append({"method": f"{name}, {WINDOW} frames", "dose_factor": factor} | _judged(images, movies, scenes, settings, WINDOW))
    return pl.DataFrame(rows, schema=SIMULATED)


def _of_means(movies: list[Movie], noise: Mapping[str, Any]) -> list[np.ndarray]:
    of_mean = {"read_noise_e": noise["read_noise_e"] / WINDOW**0.5, "excess_noise": noise["excess_noise"] / WINDOW}
    return [denoise_frame(noisy.mean(axis=0), method="bm3d", **of_mean).image_e for noisy, _ in movies]


def _across(movies: list[Movie], noise: Mapping[str, Any]) -> list[np.ndarray]:
    return [window_and_noise(noisy, 0, np.zeros((WINDOW, 2)), **noise)[0] for noisy, _ in movies]


def _movie(s: Scene, settings: PairSettings, factor: float, rng: np.random.Generator) -> Movie:
    """Noisy counts (5, y, x) of a scene whose atoms shake from frame to frame, and the noise-free first frame (y, x), electrons."""
    mean_e = factor * settings.mean_e
    clean = [scene_image(s, settings, rng if n else None) * mean_e for n in range(WINDOW)]
    noisy = [counts_with_noise(image / mean_e, mean_e, settings.read_noise_e, settings.excess_noise, rng) for image in clean]
    return np.stack(noisy), clean[0]


def _judged(
    images: list[np.ndarray], movies: list[Movie], scenes: list[Scene], settings: PairSettings, n_frames: int = 1
) -> dict[str, float]:
    """Gains in dB over the single frame, all over and near vacancies, and what localisation makes of images of `n_frames` each."""
    pixel = settings.pixel_size_angstrom
    y, x = np.mgrid[:IMAGE_PX, :IMAGE_PX] * pixel
    inside = (np.minimum(y, x) > BORDER_ANGSTROM) & (np.maximum(y, x) < IMAGE_PX * pixel - BORDER_ANGSTROM)
    before, after = np.zeros(2), np.zeros(2)
    atoms = []
    for image, (noisy, clean), s in zip(images, movies, scenes):
        near = inside & (cKDTree(s.vacancies).query(np.stack([x, y], axis=-1))[0] < NEAR_VACANCY_ANGSTROM)
        for k, where in enumerate((inside, near)):
            before[k] += ((noisy[0] - clean)[where] ** 2).sum()
            after[k] += ((image - clean)[where] ** 2).sum()
        atoms.append(_against_truth(_located(np.asarray(image, np.float64), settings, n_frames), s, IMAGE_PX * pixel))
    gain, gain_near = 10 * np.log10(before / np.maximum(after, 1e-12))
    return {"gain_db": float(gain), "gain_at_vacancies_db": float(gain_near), **_pooled(atoms)}


def _located(image_e: np.ndarray, settings: PairSettings, n_frames: int) -> np.ndarray:
    """Atoms (n, 2) in angstrom that the workflow's own localisation finds in an image; none where the lattice is lost."""
    pixel = settings.pixel_size_angstrom
    try:
        lattice = find_lattice(
            image_e[None].astype(np.float32),
            lattice_constant_angstrom=settings.material.lattice_constant_angstrom,
            pixel_size_angstrom=pixel,
        )
        no_bad = np.zeros(image_e.shape, bool)
        sight = LocaliseSettings(lattice, no_bad, settings.read_noise_e, settings.excess_noise, BORDER_ANGSTROM, settings.optics)
        columns = localise_columns(image_e, image_e, n_frames, sight)
    except (CalibrationError, InputError):
        return np.zeros((0, 2))
    return np.column_stack([columns["x_px"], columns["y_px"]])[columns["in_view"]] * pixel


def _against_truth(found: np.ndarray, s: Scene, side_angstrom: float) -> dict[str, Any]:
    """Matches away from the border, atoms that are not there, and which vacancies hold one."""

    def within(points: np.ndarray) -> np.ndarray:
        return np.asarray(((points[:, :2] > BORDER_ANGSTROM) & (points[:, :2] < side_angstrom - BORDER_ANGSTROM)).all(axis=1))

    true, holes = s.positions[within(s.positions), :2], s.vacancies[within(s.vacancies)]
    if not len(found):
        nothing = np.zeros((0, 2))
        return {"true": nothing, "found": nothing, "n_true": len(true), "extra": 0, "filled": np.zeros(0, bool)}
    distance, index = cKDTree(found).query(true)
    matched = distance < MATCH_ANGSTROM
    extra = within(found) & (cKDTree(s.positions[:, :2]).query(found)[0] > MATCH_ANGSTROM)
    filled = cKDTree(found).query(holes)[0] < MATCH_ANGSTROM if len(holes) else np.zeros(0, bool)
    return {"true": true[matched], "found": found[index[matched]], "n_true": len(true), "extra": int(extra.sum()), "filled": filled}


def _pooled(atoms: list[dict[str, Any]]) -> dict[str, float]:
    error = np.concatenate([a["found"] - a["true"] for a in atoms])
    n_true, n_found, n_extra = sum(a["n_true"] for a in atoms), len(error), sum(a["extra"] for a in atoms)
    filled = np.concatenate([a["filled"] for a in atoms])
    pooled = {"recall": n_found / n_true, "precision": np.nan, "rms_angstrom": np.nan, "lattice_bias": np.nan, "vacancies_filled": np.nan}
    if n_found:
        true, found = (np.concatenate([a[key] - a[key].mean(axis=0) for a in atoms if len(a[key])]) for key in ("true", "found"))
        pooled["precision"] = n_found / (n_found + n_extra)
        pooled["rms_angstrom"] = float(np.sqrt((error**2).mean()))
        pooled["lattice_bias"] = float((found * true).sum() / (true**2).sum() - 1)
    if len(filled):
        pooled["vacancies_filled"] = float(filled.mean())
    return pooled


def cost(function: Filter) -> dict[str, float]:
    """CPU seconds per megapixel of one thread, and MB that a 512 x 512 image takes at most, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, function).result()


def _measured(function: Filter) -> dict[str, float]:
    rng = np.random.default_rng(0)
    function(rng.standard_normal((WARM_UP_PX, WARM_UP_PX)).astype(np.float32) + 10)
    image = rng.standard_normal((MEMORY_PX, MEMORY_PX)).astype(np.float32) + 10
    # Linux forgets its peak when told so (proc(5)): what compiling took would hide the filter's own.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_mb("VmRSS")
    start = time.process_time()
    function(image)
    spent = time.process_time() - start
    return {"cpu_s_per_mpx": 1e6 * spent / image.size, "peak_mb": _status_mb("VmHWM") - before}


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def compare_real(pairs: Iterable[tuple[np.ndarray, np.ndarray]], chosen: dict[str, Filter], noise: dict[str, float]) -> pl.DataFrame:
    """Figures without a truth, over pairs of neighbouring frames (y, x) in electrons.

    residual_correlation: rms autocorrelation of what was taken away, at lags up to 3 px, 0 for white noise; agreement: correlation
    of two neighbouring frames denoised apart, which noise lowers and detail that both keep raises.
    """
    stabilised = [tuple(stabilise(image, **noise) for image in pair) for pair in pairs]
    rows = []
    for name, function in chosen.items():
        denoised = [tuple(function(image) for image in pair) for pair in stabilised]
        residual = [_autocorrelation(before[0] - after[0]) for before, after in zip(stabilised, denoised)]
        agreement = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in denoised]
        rows.append({"method": name, "residual_correlation": float(np.mean(residual)), "agreement": float(np.mean(agreement))})
    return pl.DataFrame(rows, schema=REAL)


def _autocorrelation(residual: np.ndarray) -> float:
    """Rms of the normalised autocorrelation over the half plane of lags up to 3 px, noise of the estimate taken off; NaN of nothing."""
    centred = residual - residual.mean()
    if not centred.any():
        return np.nan
    power = np.abs(np.fft.fft2(centred)) ** 2
    correlation = np.fft.ifft2(power).real / power.mean()
    lags = [(a, b) for a in range(LAGS_PX + 1) for b in range(-LAGS_PX, LAGS_PX + 1) if (a, b) > (0, 0)]
    square = float(np.mean([correlation[a, b] ** 2 for a, b in lags]))
    return float(np.sqrt(max(square - 1 / residual.size, 0)))
