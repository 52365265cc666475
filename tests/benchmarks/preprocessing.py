"""Preprocessing beside its yardsticks: CPU seconds of one thread, interleaved, with the quality of both in the same run.

Both in a process that keeps freed memory, as scant's workers do: large arrays come and go, and a page handed back is a page cleared again.

usage: preprocessing.py [--large]      prints the tables of tests/benchmarks/README.md; --large: a 2048 x 2048 frame too
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from scale_movie import PIXEL_ANGSTROM, write_movie
from scant.imaging.average import averaged_frame
from scant.imaging.counts import Detector, correct_frame
from scant.imaging.denoise import bm3d, denoise_frame
from scant.imaging.denoise.backends import pypi_bm3d
from scant.imaging.reciprocal import find_lattice
from scant.imaging.spots import Counts, fit_spots
from scant.imaging.temporal import temporal_median_mad
from scant.io.chunks import codecs
from scant.io.stacks import begin_stack, finish_stack
from scant.io.store import create_movie, read_frames, write_frames
from scant.io.tasks import MovieFrames
from scant.io.workers import KEEP_MEMORY
from scant.physics.lattice import honeycomb
from scant.physics.optics import Optics
from scant.stages.corrected import CorrectedAround, CorrectedFrames
from scant.stages.localising import LocaliseSettings, localise_columns
from scipy.ndimage import uniform_filter1d
from scipy.optimize import curve_fit
from skimage.data import camera

NOISE_LEVELS, SIGMA_FACTORS = (0.05, 0.1, 0.2), (0.85, 0.92, 1.0, 1.08, 1.15, 1.3, 1.45, 1.6)
SIDE_PX, WARM_UP_PX = 256, 64
POINT_SPREADS_PX = (0.3, 0.6)
ATOMAP_PYTHON = Path(sys.prefix, "atomap/bin/python")


def cpu_seconds(function: Callable[[], object]) -> tuple[float, object]:
    start = time.process_time()
    value = function()
    return time.process_time() - start, value


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return float(10 * np.log10(np.ptp(truth) ** 2 / ((image - truth) ** 2).mean()))


def lattice_with_vacancies() -> np.ndarray:
    """A honeycomb of round atoms with eight missing, 256 x 256 at 0.2 A/px, between 0 and 1."""
    positions = honeycomb(SIDE_PX * 0.2, SIDE_PX * 0.2, rotation_rad=0.1, margin_angstrom=2.0) / 0.2
    positions = np.delete(positions, np.random.default_rng(0).choice(len(positions), 8, replace=False), axis=0)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    image = np.zeros((SIDE_PX, SIDE_PX))
    for px, py in positions:
        rows, columns = slice(max(int(py) - 9, 0), int(py) + 10), slice(max(int(px) - 9, 0), int(px) + 10)
        image[rows, columns] += np.exp(-((x[rows, columns] - px) ** 2 + (y[rows, columns] - py) ** 2) / (2 * 2.2**2))
    return image / image.max()


def best(function: Callable[[np.ndarray, float], np.ndarray], noisy: np.ndarray, truth: np.ndarray, sigma: float) -> tuple[float, float]:
    """Best PSNR over eight values of sigma, and CPU seconds per run."""
    spent, results = zip(*(cpu_seconds(lambda f=f: function(noisy, f * sigma)) for f in SIGMA_FACTORS))
    return max(psnr(result, truth) for result in results), float(np.mean(spent))


def bench_bm3d() -> None:
    print("| image | noise sd | PSNR ours / PyPI (dB) | CPU-s ours / PyPI | faster by |\n|---|---|---|---|---|")
    bm3d(np.random.default_rng(0).normal(0, 1, (WARM_UP_PX, WARM_UP_PX)), 1.0)
    for name, truth in (("lattice", lattice_with_vacancies()), ("camera", camera()[::2, ::2] / 255.0)):
        for sigma in NOISE_LEVELS:
            noisy = truth + np.random.default_rng(1).normal(0, sigma, truth.shape)
            (ours, spent), (theirs, reference) = (best(f, noisy, truth, sigma) for f in (bm3d, pypi_bm3d))
            print(f"| {name} | {sigma} | {ours:.2f} / {theirs:.2f} | {spent:.3f} / {reference:.2f} | {reference / spent:.0f} |", flush=True)


def bench_coloured_noise() -> None:
    """PSNR (dB) under noise smoothed by a Gaussian point spread, the best sigma for each: its spectrum known, and taken for white."""
    # the package's path for coloured noise calls what NumPy 2 renamed
    np.trapz = np.trapezoid  # noqa: NPY201
    print("\n| image | point spread (px) | noise sd | ours | PyPI | ours, taken for white |\n|---|---|---|---|---|---|")
    k = np.fft.fftfreq(SIDE_PX)
    for name, truth in (("lattice", lattice_with_vacancies()), ("camera", camera()[::2, ::2] / 255.0)):
        for blur in POINT_SPREADS_PX:
            spectrum = np.exp(-4 * (np.pi * blur) ** 2 * (k[:, None] ** 2 + k**2))
            spectrum /= spectrum.mean()
            for sigma in NOISE_LEVELS:
                white = np.random.default_rng(1).normal(0, sigma, truth.shape)
                noisy = truth + np.fft.ifft2(np.fft.fft2(white) * np.sqrt(spectrum)).real
                ours = max(psnr(bm3d(noisy, f * sigma, spectrum=spectrum), truth) for f in SIGMA_FACTORS)
                theirs = max(psnr(pypi_bm3d(noisy, spectrum * (f * sigma) ** 2 * truth.size), truth) for f in SIGMA_FACTORS)
                blind = max(psnr(bm3d(noisy, f * sigma), truth) for f in (*SIGMA_FACTORS, 2.0, 2.5))
                print(f"| {name} | {blur} | {sigma} | {ours:.2f} | {theirs:.2f} | {blind:.2f} |", flush=True)


def bench_streaming() -> None:
    """Correction, five-frame mean and a Zarr store: ours frame by frame, and dask map_overlap over the same chunks."""
    rng = np.random.default_rng(0)
    shape = (16, 2048, 2048)
    dark, flat = rng.normal(100, 2, shape[1:]).astype(np.float32), rng.normal(1, 0.02, shape[1:]).astype(np.float32)
    raw = rng.poisson(320 * flat, shape).astype(np.uint16) * 6 + 100
    detector = Detector(dark, flat, np.zeros(shape[1:], bool), 6.0, 0.5, 1.0)
    no_drift = np.zeros((5, 2))
    with tempfile.TemporaryDirectory() as folder:
        movie, stack, other = (str(Path(folder, name)) for name in ("movie.zarr", "ours.zarr", "dask.zarr"))
        create_movie(movie, shape, "uint16", 1, 0.2, 1.0, {}, {})
        write_frames(movie, 0, raw)

        def ours() -> None:
            around = CorrectedAround(CorrectedFrames(MovieFrames(movie), detector, 6.0, frozenset(range(shape[0]))), 2, 0, shape[0])
            begin_stack(stack, movie, 0, shape, {})
            records = []
            for n in range(shape[0]):
                numbers = around.numbers(n)
                image, _ = averaged_frame(around(n), n - numbers.start, no_drift[: len(numbers)])
                records += write_frames(stack, n, image[None])
            finish_stack(stack, records)

        def theirs() -> None:
            frames = da.from_zarr(str(Path(movie, "0"))).astype(np.float32)
            corrected = (frames - dark) / (np.float32(6.0) * flat)
            mean = corrected.map_overlap(lambda block: uniform_filter1d(block, 5, axis=0), depth={0: 2, 1: 0, 2: 0}, boundary="nearest")
            with dask.config.set(scheduler="synchronous"):
                mean.to_zarr(other, overwrite=True)

        ours()
        rounds = [(cpu_seconds(theirs)[0], cpu_seconds(ours)[0]) for _ in range(5)]
        reference, spent = np.min(rounds, axis=0)
        one, two = (zarr.open_array(path, mode="r")[2:-2] for path in (str(Path(stack, "0")), other))
    megapixels = np.prod(shape) / 1e6
    print(
        f"\ncorrection + 5-frame mean + write: {megapixels / spent:.0f} Mpx/CPU-s, dask map_overlap {megapixels / reference:.0f}: "
        f"{reference / spent:.1f} times; largest difference {np.abs(one - two).max():.1e} counts of {two.mean():.0f}"
    )


def bench_mad() -> None:
    frames = np.random.default_rng(0).poisson(400, (200, 256, 256)).astype(np.uint16)
    temporal_median_mad(frames[:5])

    def theirs() -> tuple[np.ndarray, np.ndarray]:
        median = np.median(frames, axis=0)
        return median, np.median(np.abs(frames - median), axis=0)

    rounds = []
    for _ in range(3):
        (reference, known), (spent, found) = cpu_seconds(theirs), cpu_seconds(lambda: temporal_median_mad(frames))
        rounds.append((reference, spent))
    reference, spent = np.min(rounds, axis=0)
    equal = np.array_equal(known[0], found.median_adu) and np.array_equal(known[1], found.mad_adu)  # type: ignore[index, attr-defined]
    megapixels = frames.size / 1e6
    rates = f"{megapixels / spent:.0f} Mpx/CPU-s, numpy {megapixels / reference:.0f}"
    print(f"median + MAD: {rates}: {reference / spent:.1f} times; equal: {equal}")


def bench_checksums() -> None:
    """Reading stored frames with the checksum of every chunk against the same chunks without one; pages in memory."""
    counts = np.random.default_rng(0).poisson(300, (8, 2048, 2048)).astype(np.uint16)
    pack, _ = codecs(counts.dtype)
    with tempfile.TemporaryDirectory() as folder:
        movie = str(Path(folder, "movie.zarr"))
        create_movie(movie, counts.shape, "uint16", 1, PIXEL_ANGSTROM, 1.0, {}, {})
        write_frames(movie, 0, counts)
        plain = zarr.create_array(f"{folder}/plain.zarr", shape=counts.shape, dtype="u2", chunks=(1, 2048, 2048), compressors=(pack,))
        plain[:] = counts
        rounds = [[cpu_seconds(lambda: plain[:])[0], cpu_seconds(lambda: read_frames(movie, 0, len(counts)))[0]] for _ in range(9)]
    without, with_checksums = np.median(rounds, axis=0)
    megapixels = counts.size / 1e6
    rates = f"{megapixels / with_checksums:.0f} Mpx/CPU-s, without {megapixels / without:.0f}"
    print(f"reads with checksums: {rates}: {without / with_checksums:.2f} of the speed")


def bench_spots() -> None:
    """Isolated Gaussian atoms, all of an image at once with errors, beside scipy's curve_fit (analytic Jacobian) of 9 x 9 pixels each."""
    rng, width, height, level = np.random.default_rng(0), 1.2, 200.0, 20.0
    at = np.arange(12.0, 732.0, 12.0)
    truth = np.array([(x, y) for x in at for y in at]) + rng.uniform(-0.5, 0.5, (len(at) ** 2, 2))
    y, x = np.mgrid[:744, :744]
    image = np.full((744, 744), level)
    for px, py in truth:
        rows, columns = slice(int(py) - 6, int(py) + 8), slice(int(px) - 6, int(px) + 8)
        image[rows, columns] += height * np.exp(-((x[rows, columns] - px) ** 2 + (y[rows, columns] - py) ** 2) / (2 * width**2))
    counts, start = rng.poisson(image).astype(float), truth + rng.normal(0, 0.3, truth.shape)
    u, v = (grid.ravel() for grid in np.meshgrid(np.arange(-4, 5.0), np.arange(-4, 5.0)))

    def spot(_: object, px: float, py: float, a: float, w: float, b: float) -> np.ndarray:
        return np.asarray(b + a * np.exp(-((u - px) ** 2 + (v - py) ** 2) / (2 * w * w)))

    def slopes(_: object, px: float, py: float, a: float, w: float, b: float) -> np.ndarray:
        g, r2 = np.exp(-((u - px) ** 2 + (v - py) ** 2) / (2 * w * w)), (u - px) ** 2 + (v - py) ** 2
        return np.stack([a * g * (u - px) / w**2, a * g * (v - py) / w**2, g, a * g * r2 / w**3, np.ones_like(g)], axis=1)

    def theirs() -> np.ndarray:
        found = []
        for corner in start[:1000].round().astype(int):
            window = counts[corner[1] - 4 : corner[1] + 5, corner[0] - 4 : corner[0] + 5].ravel()
            found.append(curve_fit(spot, u, window, p0=[0.0, 0.0, 150.0, 1.0, 15.0], jac=slopes)[0][:2] + corner)
        return np.array(found)

    ours = lambda: fit_spots(Counts.of(counts), start, 1.0)  # noqa: E731
    ours()
    rounds = [(cpu_seconds(theirs), cpu_seconds(ours)) for _ in range(3)]
    reference, spent = np.min([[a[0] / 1000, b[0] / len(truth)] for a, b in rounds], axis=0)
    scipys, fit = rounds[-1][0][1], rounds[-1][1][1]
    rms = lambda p: float(np.sqrt(((p - truth[: len(p)]) ** 2).mean()))  # noqa: E731
    bound = float(np.sqrt(fit.covariance[:, 0, 0].mean()))  # type: ignore[attr-defined]
    print(
        f"Gaussian atoms: {1 / spent:.0f} fits per CPU-s, curve_fit {1 / reference:.0f}: {reference / spent:.1f} times; rms "
        f"{rms(fit.positions_px):.4f} px, curve_fit {rms(scipys):.4f}, Cramer-Rao bound {bound:.4f}"  # type: ignore[attr-defined, arg-type]
    )
    corner = (truth < 240).all(axis=1)
    rate, found = atomap_fits(counts[:252, :252], start[corner])
    error = float(np.sqrt(((found - truth[corner]) ** 2).mean()))
    print(f"atomap: {rate:.0f} fits per CPU-s: {1 / spent / rate:.0f} times; rms {error:.4f} px")


def atomap_fits(counts: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """Fits per CPU second, and fitted positions (n, 2), of atomap in its own environment (`make bench` makes it)."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "in.npz"), Path(folder, "out.npy")
        np.savez(given, counts=counts, start=start)
        script = Path(__file__).with_name("atomap_fits.py")
        done = subprocess.run([ATOMAP_PYTHON, script, given, found], check=True, capture_output=True, text=True)
        return len(start) / float(done.stdout.split()[-1]), np.load(found)


def bench_large() -> None:
    """CPU seconds from a raw 2048 x 2048 frame to its localised atoms (64,000 at 0.2 A/px), step by step."""
    import tifffile

    with tempfile.TemporaryDirectory() as folder:
        write_movie(Path(folder), 6, 2048)
        raw = tifffile.imread(Path(folder, "movie.tif"))
        dark, flat = (tifffile.imread(Path(folder, f"{name}.tif")) for name in ("dark", "flat"))
    signal = flat - dark
    bad = ~(signal > 0.2 * np.median(signal)) | (dark > 200)
    detector = Detector(dark, np.where(bad, 1, signal / signal[~bad].mean()).astype(np.float32), bad, 6.0, 0.5, 1.0)
    images = np.stack([correct_frame(frame, detector).image_e for frame in raw])
    lattice = find_lattice(images, lattice_constant_angstrom=2.46, pixel_size_angstrom=PIXEL_ANGSTROM)
    sight = LocaliseSettings(lattice, bad, 0.5, 1.0, 3.0, Optics(80.0, -130000.0, -45.0, 10.0, 52.2, envelope_b_angstrom2=1.5))
    drift = np.random.default_rng(0).normal(0, 0.3, (5, 2))
    mean, _ = averaged_frame(images[:5], 2, drift)
    steps: dict[str, Callable[[], object]] = {
        "correct": lambda: correct_frame(raw[2], detector),
        "average (five frames, drift taken out)": lambda: averaged_frame(images[:5], 2, drift),
        "denoise (BM3D)": lambda: denoise_frame(mean, method="bm3d", read_noise_e=0.5 / 5**0.5, excess_noise=0.2),
        "localise": lambda: localise_columns(images[2], mean, 5, sight),
    }
    spent = {name: min(cpu_seconds(step)[0] for _ in range(2)) for name, step in steps.items()}
    columns = localise_columns(images[2], mean, 5, sight)
    print("\n| step, one 2048 x 2048 frame | CPU-s |\n|---|---|")
    for name, seconds in spent.items():
        print(f"| {name} | {seconds:.2f} |")
    print(f"| all | {sum(spent.values()):.2f} |\n\n{len(columns['atom'])} atoms")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", action="store_true")
    large = parser.parse_args().large
    if not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEP_MEMORY)
    bench_bm3d()
    bench_coloured_noise()
    bench_streaming()
    bench_mad()
    bench_checksums()
    bench_spots()
    if large:
        bench_large()


if __name__ == "__main__":
    main()
