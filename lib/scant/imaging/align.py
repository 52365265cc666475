"""Sub-pixel drift, kept as numbers: nothing here resamples an image.

The drift of a frame is the displacement of the sample in it relative to frame 0, (dy, dx) in pixels, +x along columns: what is at r in
frame 0 is at r + drift. A shift by d turns the Fourier phases by -2 pi k.d; a crystal's signal sits in a few coefficients, so a frame is
reduced to those, and shifts between any two frames cost next to nothing.

A crystal looks the same after a lattice vector: any shift is known only up to one. Of all candidates the one nearest to the expectation is
taken (no motion, or for distant frames the sum of the steps between), so a sample that jumps by more than half a cell between two frames
is followed on the wrong lattice point, and no image of a perfect crystal can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import fft, linalg, ndimage, special
from scipy.signal import windows

from scant.errors import CalibrationError, InputError

_LOWEST_PER_PX, _HIGHEST_PER_PX = 0.02, 0.45
_RADIAL_BIN_PER_PX = 0.02
_MOST_COEFFICIENTS = 1024
_POWER_FRAMES = 8
_FALSE_COEFFICIENTS = 1.0
"""Pure noise lets this many coefficients of a frame through; their weight is small."""
_TAPER, _CENTRE_TAPER = 0.05, 0.2
_BANDWIDTH = (1 - 5 * _TAPER / 8) / (1 - _TAPER / 2) ** 2
"""Equivalent noise bandwidth of the window per axis, in Fourier bins: neighbouring coefficients are that dependent (Harris 1978)."""
_LOCAL_MOTION_PX = 0.02
"""Displacement by which one reflection may disagree with the others (strain, phonons): caps the weight of the brightest."""
_FEWEST_COEFFICIENTS = 4
_LOBE_WEIGHT = 10.0
"""Side lobes of several reflections add up in amplitude and their phases all err the same way, unlike noise."""
_SEARCH_STEP_PX = 0.25
_NEARNESS = 0.05
_WEAK_LINK = 1e-9
_HUBER = 2.0


@dataclass(frozen=True)
class PairShifts:
    """Shifts between frames: `first`, `second` (n,) frame indices in the movie, `shift_px` (n, 2) as (dy, dx) and `sigma_px` (n, 2).

    Tables of different blocks merge with `merge_shifts`.
    """

    first: np.ndarray
    second: np.ndarray
    shift_px: np.ndarray
    sigma_px: np.ndarray


@dataclass(frozen=True)
class FourierSignal:
    """The coefficients that carry the sample: (row, column) indices into rfft2, frequencies (n, 2) as (ky, kx) in cycles per pixel, and the
    ratio of signal to noise power (n,)."""

    row: np.ndarray
    column: np.ndarray
    frequency: np.ndarray
    snr: np.ndarray

    @property
    def cell_px(self) -> float:
        """Largest shift that is safe from the lattice: half the spacing of the coarsest strong reflections."""
        radius = np.hypot(*self.frequency.T)
        order = np.argsort(radius)
        share = np.cumsum(self.snr[order]) / self.snr.sum()
        return float(0.5 / radius[order][np.searchsorted(share, 0.1)])


def pair_shifts(
    frames: np.ndarray,
    signal: FourierSignal | None = None,
    first_frame: int = 0,
    n_own: int | None = None,
    valid: np.ndarray | None = None,
    lags: Sequence[int] = (1, 2, 4, 8),
) -> PairShifts:
    """Shifts between frames `lags` apart in a block of corrected frames (t, y, x).

    The block starts at frame `first_frame` of the movie and owns its first `n_own` frames; the rest (`max(lags)` frames, fewer at the
    movie's end) is the halo: only pairs that start in an own frame are returned, so the tables of all blocks together are complete and
    free of repeats. `signal` from frames sampled over the whole movie makes the result independent of the blocks; None takes it from this
    block. Frames with False in `valid` (t,) take no part; a pair whose signal is lost is left out.
    Raises InputError for shapes, CalibrationError when no coefficient stands above the noise.
    """
    kept = np.ones(len(frames), bool) if valid is None else np.asarray(valid, bool)
    if frames.ndim != 3 or kept.shape != (len(frames),):
        raise InputError(f"drift needs frames (t, y, x) with one flag each, got shapes {frames.shape} and {kept.shape}")
    usable = np.flatnonzero(kept)
    if usable.size < 2:
        return _table([])
    sample = usable[np.unique(np.linspace(0, usable.size - 1, _POWER_FRAMES).astype(int))]
    signal = fourier_signal(frames[sample]) if signal is None else signal
    coefficients = dict(zip(usable.tolist(), fourier_coefficients(frames, signal, usable)))
    position = np.zeros((len(frames), 2))
    for before, index in pairwise(usable.tolist()):
        position[index] = position[before] + _shift(coefficients[before], coefficients[index], signal, None)[0]
    rows = []
    own = len(frames) if n_own is None else n_own
    for start, end in ((i, i + lag) for i in range(own) for lag in lags):
        if end < len(frames) and kept[start] and kept[end]:
            expected = position[end] - position[start]
            rows.append((first_frame + start, first_frame + end, *_shift(coefficients[start], coefficients[end], signal, expected)))
    return _table([row for row in rows if np.isfinite(row[3]).all()])


def _table(rows: list[tuple[int, int, np.ndarray, np.ndarray]]) -> PairShifts:
    return PairShifts(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 2),
        np.array([row[3] for row in rows], np.float64).reshape(-1, 2),
    )


def merge_shifts(tables: Sequence[PairShifts]) -> PairShifts:
    """One table of the blocks' tables, ordered by first and second frame, so that the order of the blocks does not matter."""
    merged = [np.concatenate([getattr(table, name) for table in tables]) for name in ("first", "second", "shift_px", "sigma_px")]
    order = np.lexsort((merged[1], merged[0]))
    return PairShifts(*(column[order] for column in merged))


def fourier_signal(frames: np.ndarray) -> FourierSignal:
    """Coefficients whose power, averaged over frames (t, y, x), stands above the typical power at that |k|: the reflections.

    The frequency given to each is the centre of power around it: on a reflection's flank the phase turns with the reflection, not with
    the grid point. What the window's side lobes carry from reflections to other coefficients counts as noise. Features without a lattice
    are not used. Raises InputError for non-finite values, CalibrationError when nothing stands out.
    """
    height, width = frames.shape[1:]
    power = _mean_power(frames, _TAPER)
    ky, kx = np.meshgrid(fft.fftfreq(height), fft.rfftfreq(width), indexing="ij")
    radius = np.hypot(ky, kx)
    # the column kx = 0 holds every coefficient twice
    inside = (radius > _LOWEST_PER_PX) & (radius < _HIGHEST_PER_PX) & ((kx > 0) | (ky > 0))
    bins = (radius / _RADIAL_BIN_PER_PX).astype(int)
    typical = np.asarray(ndimage.median(power, bins, np.arange(bins.max() + 1)))[bins]
    # a mean of n noise powers follows a gamma law of shape n
    least = float(special.gammainccinv(len(frames), _FALSE_COEFFICIENTS / power.size) / len(frames))
    lobes = _LOBE_WEIGHT * _side_lobes(np.where(power > least * typical, power, 0.0), (height, width))
    snr = np.where(inside, power / np.maximum(typical + lobes, np.finfo(float).tiny), 0.0)
    row, column = np.nonzero(snr > least)
    if row.size < _FEWEST_COEFFICIENTS:
        raise CalibrationError(
            f"only {row.size} spatial frequencies have {least:.3g} times the power of their surroundings (largest: {snr.max():.3g}): the "
            "single frames show no lattice to align on; look at a few of movie.zarr: the crystal has to be in view, in focus as "
            "acquisition.yaml says, and its dose high enough for its reflections to stand out"
        )
    strongest = np.sort(np.argsort(-snr[row, column], kind="stable")[:_MOST_COEFFICIENTS])
    row, column = row[strongest], column[strongest]
    # a wider taper has less side lobe to pull the centre towards the grid
    compact = _mean_power(frames, _CENTRE_TAPER)
    centre = np.stack([_power_centre(compact, k, axis, row, column) for axis, k in enumerate((ky, kx))], axis=1)
    return FourierSignal(row, column, centre, snr[row, column] - 1)


def _side_lobes(power: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Power that coefficients of `power` (rfft2 layout) leak to others more than two away, by the window's own spectrum."""
    kernel = np.abs(fft.fft2(_window(shape, _TAPER))) ** 2
    kernel /= kernel[0, 0]
    near = [np.abs(fft.fftfreq(n, 1 / n)) <= 2 for n in shape]
    kernel[np.ix_(*near)] = 0
    whole = np.zeros(shape)
    whole[:, : power.shape[1]] = power
    mirrored = np.roll(whole[::-1, ::-1], 1, (0, 1))
    whole = np.where(whole > 0, whole, mirrored)
    leaked = fft.irfft2(fft.rfft2(whole) * fft.rfft2(kernel), shape)
    return np.asarray(leaked[:, : power.shape[1]]).clip(0)


def _power_centre(power: np.ndarray, k: np.ndarray, axis: int, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Power-weighted mean of the frequency over 5 x 5 coefficients around each (row, column), wrapped rows included."""
    step = k[1, 0] if axis == 0 else k[0, 1]
    total, moment = np.zeros(row.size), np.zeros(row.size)
    for v in range(-2, 3):
        for u in range(-2, 3):
            inside = (column + u >= 0) & (column + u < power.shape[1])
            weight = np.where(inside, power[(row + v) % power.shape[0], np.clip(column + u, 0, power.shape[1] - 1)], 0).clip(0)
            total += weight
            moment += weight * (v if axis == 0 else u)
    return k[row, column] + step * moment / total


def fourier_coefficients(frames: np.ndarray, signal: FourierSignal, chosen: np.ndarray | None = None) -> np.ndarray:
    """Coefficients (t, n) complex128 of the windowed frames, or of the `chosen` ones; one frame is transformed at a time."""
    indices = range(len(frames)) if chosen is None else chosen
    return np.array([_transform(frames[i])[signal.row, signal.column] for i in indices], np.complex128)


def _mean_power(frames: np.ndarray, taper: float) -> np.ndarray:
    total = np.zeros((frames.shape[1], frames.shape[2] // 2 + 1))
    for frame in frames:
        total += np.abs(_transform(frame, taper)) ** 2
    return total / len(frames)


def _transform(frame: np.ndarray, taper: float = _TAPER) -> np.ndarray:
    """Fourier transform of a frame without its mean, under a Tukey window.

    Flat over most of the field: the field's mean displacement is wanted, and a window like Hann's lets its centre's thermal motion in
    (0.04 A for a field of 51 A of graphene at 300 K, against 0.01 A for the mean of all atoms).
    """
    mean = float(np.mean(frame, dtype=np.float64))
    if not np.isfinite(mean):
        raise InputError("a frame for the drift holds values that are not finite: mark it as not valid, or inpaint its bad pixels first")
    return np.asarray(fft.rfft2((frame - np.float32(mean)) * _window(frame.shape, taper)))


def _window(shape: tuple[int, ...], taper: float) -> np.ndarray:
    return np.outer(windows.tukey(shape[0], taper), windows.tukey(shape[1], taper)).astype(np.float32)


def _shift(first: np.ndarray, second: np.ndarray, signal: FourierSignal, expected: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Displacement (2,) of `second` against `first` and its standard deviation (2,); infinite where the phases do not agree on one.

    Weighted least squares on the phases with the weights of maximum likelihood, 1 / var(phase) with var = 1/snr + 1/(2 snr^2) for two
    noisy images (Knapp and Carter 1976, the Hannan-Thomson processor), plus the local motion's. Residual phases rescale the error.
    """
    cross = np.conj(first) * second
    wave = 2 * np.pi * signal.frequency
    variance = 1 / signal.snr + 0.5 / signal.snr**2 + (np.hypot(*wave.T) * _LOCAL_MOTION_PX) ** 2
    weight = 1 / variance
    shift = _search(cross, weight, signal) if expected is None else expected.copy()
    for _ in range(20):
        residual = np.angle(cross * np.exp(1j * wave @ shift))
        # a phase that disagrees by a quarter turn or more belongs to noise or to another lattice point
        trust = weight * np.clip(np.cos(residual), 0, None)
        normal = (wave * trust[:, None]).T @ wave
        if not np.linalg.cond(normal) < 1e8:
            return shift, np.full(2, np.inf)
        step = np.linalg.solve(normal, -(wave * trust[:, None]).T @ residual)
        shift += step
        if np.abs(step).max() < 1e-7:
            break
    residual = np.angle(cross * np.exp(1j * wave @ shift))
    independent = max(signal.snr.size / _BANDWIDTH**2 - 2, 1.0)
    scatter = max(1.0, float((weight * residual**2).sum()) / _BANDWIDTH**2 / independent)
    coherence = float((weight * np.cos(residual)).sum() / weight.sum())
    if coherence < 0.3:
        return shift, np.full(2, np.inf)
    return shift, _BANDWIDTH * np.sqrt(scatter * np.diag(np.linalg.inv(normal)))


def _search(cross: np.ndarray, weight: np.ndarray, signal: FourierSignal) -> np.ndarray:
    """Best displacement on a grid within half a lattice cell; of equally good ones the smallest."""
    limit = signal.cell_px
    grid = np.arange(-np.ceil(limit / _SEARCH_STEP_PX), np.ceil(limit / _SEARCH_STEP_PX) + 1) * _SEARCH_STEP_PX
    along = np.exp(2j * np.pi * np.outer(grid, signal.frequency[:, 0])) * (weight * np.exp(1j * np.angle(cross)))
    score = (along @ np.exp(2j * np.pi * np.outer(signal.frequency[:, 1], grid))).real / weight.sum()
    distance = np.hypot(grid[:, None], grid[None, :])
    score = np.where(distance <= limit + _SEARCH_STEP_PX, score - _NEARNESS * distance / limit, -np.inf)
    y, x = np.unravel_index(int(np.argmax(score)), score.shape)
    return np.array([grid[y], grid[x]])


def integrate_shifts(shifts: PairShifts, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Drift (n_frames, 2) relative to frame 0 and its standard deviation, from pairs at several lags.

    Robust least squares (Huber weights) over all pairs: the long lags keep errors from adding up. The variance is the resistance of the
    network whose resistors are the pairs' variances, summed cut by cut along the movie, plus one pair's own, since all pairs of a frame
    share its noise. A frame without any pair gets the drift between its neighbours, or that of the last frame before a break, with
    infinite sigma; after a break that no pair bridges all sigmas are infinite, while steps stay right.
    Raises InputError for frame indices outside the movie.
    """
    if shifts.first.size and not (shifts.first.min() >= 0 and shifts.second.max() < n_frames and np.all(shifts.first < shifts.second)):
        raise InputError(f"pairs must have 0 <= first < second < {n_frames} frames, got {shifts.first.min()} to {shifts.second.max()}")
    drift, sigma = np.zeros((n_frames, 2)), np.zeros((n_frames, 2))
    if n_frames == 1:
        return drift, sigma
    seen = np.isin(np.arange(n_frames), np.concatenate([shifts.first, shifts.second]))
    for axis in range(2):
        drift[:, axis], sigma[:, axis] = _integrate_axis(shifts, shifts.shift_px[:, axis], shifts.sigma_px[:, axis] ** -2, n_frames)
    sigma[~seen] = np.inf
    sigma[0] = 0.0
    return drift, sigma


def _integrate_axis(shifts: PairShifts, value: np.ndarray, information: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    scale = float(np.median(information)) if information.size else 1.0
    weight = information
    for _ in range(6):
        track = _solve_track(shifts, value, weight, n_frames, _WEAK_LINK * scale)
        residual = np.abs(value - track[shifts.second] + track[shifts.first]) * np.sqrt(information)
        weight = information * np.minimum(1, _HUBER / residual.clip(1e-12))
    lag = shifts.second - shifts.first
    crossing = np.zeros(n_frames + 1)
    np.add.at(crossing, shifts.first, weight * lag)
    np.add.at(crossing, shifts.second, -weight * lag)
    conductance = np.cumsum(crossing)[: n_frames - 1].clip(0)
    step_variance = np.where(conductance > _WEAK_LINK * scale, 1 / conductance.clip(_WEAK_LINK * scale), np.inf)
    own = np.concatenate([shifts.first, shifts.second])
    pairs = np.bincount(own, minlength=n_frames)
    shared = np.bincount(own, np.tile(1 / information, 2), n_frames) / pairs.clip(1)
    return track, np.sqrt(np.concatenate([[0.0], np.cumsum(step_variance)]) + shared)


def _solve_track(shifts: PairShifts, value: np.ndarray, weight: np.ndarray, n_frames: int, weak: float) -> np.ndarray:
    """Weighted least squares for positions with frame 0 at zero, banded Cholesky; weak links of no motion carry over breaks."""
    lag = shifts.second - shifts.first
    bands = np.zeros((int(max(lag.max(initial=1), 1)) + 1, n_frames))
    right = np.zeros(n_frames)
    np.add.at(bands[0], shifts.first, weight)
    np.add.at(bands[0], shifts.second, weight)
    np.add.at(bands.ravel(), lag * n_frames + shifts.first, -weight)
    np.add.at(right, shifts.second, weight * value)
    np.add.at(right, shifts.first, -weight * value)
    bands[0, 1:] += weak
    bands[0, :-1] += weak
    bands[1, : n_frames - 1] -= weak
    bands[0, 0] += 1e6 * max(float(bands[0].max()), weak)
    track = linalg.solveh_banded(bands, right, lower=True)
    return np.asarray(track - track[0])
