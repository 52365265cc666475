"""X-ray hits: pixels sharper than the microscope can image, and the filling of holes from good neighbours."""

from __future__ import annotations

import numpy as np
from numba import njit

LARGEST_WINDOW_PX = 64
SCREENED_PX = 64
PAIR_NOISE = 1.224744871391589
"""Noise of a pixel minus the mean of two others, in that of one: sqrt(3/2)."""
STRUCTURE = 1.5
"""Sharpness allowed per difference of the rings: a Gaussian atom of standard deviation 1.2 px has 0.7, 0.9 px 1.4, a hit no rings."""
FLOOR, FLOOR_QUANTILE = 1.5, 0.99
GROWTH_STEPS = 2
# Shares of the threshold: of pixels worth a look, and of those that touch a hit.
SUSPECT, TOUCHING = 0.6, 0.5


def find_hits(image_e: np.ndarray, good: np.ndarray, excess_noise: float, read_noise_e: float, threshold_sigma: float = 6.0) -> np.ndarray:
    """Pixels of a corrected frame (y, x), in electrons, that an X-ray or cosmic ray struck: (y, x) bool.

    A hit is sharper than the microscope can image: it exceeds the mean of opposite neighbours in all four directions by more than
    `threshold_sigma` times the noise, plus what an atom shows there, taken from the medians of the rings of 8 and 16 good pixels around
    it (the idea of van Dokkum, PASP 113, 1420, 2001), plus the skewness of a Poisson tail, (sigma^2 - 1) / 6 (Cornish and Fisher 1938).
    Where pixels are so coarse that atoms are sharp too, the limit is 1.5 times the 99 % quantile of that excess over the frame.
    Touching pixels go with a hit at half the threshold (shared charge). Downward spikes count as hits too.
    `image_e` must be finite everywhere: fill what is not `good` with `inpaint` first.
    """
    floor = FLOOR * float(np.quantile(_sharpness_sample(image_e, *sample_steps(*image_e.shape)), FLOOR_QUANTILE))
    hits = np.zeros(image_e.shape, np.bool_)
    _mark_hits(image_e, good, np.array([excess_noise, read_noise_e**2, threshold_sigma, floor]), hits)
    return hits


@njit(cache=True)
def inpaint(image, holes, good):
    """Gaussian mean of the good pixels around every hole, in a window that grows until it holds four of them."""
    height, width = image.shape
    for y in range(height):
        if holes[y].sum() == 0:
            continue
        for hole in np.flatnonzero(holes[y]):
            x, reach = int(hole), 2
            while True:
                total, weights, n = 0.0, 0.0, 0
                for v in range(max(0, y - reach), min(height, y + reach + 1)):
                    for u in range(max(0, x - reach), min(width, x + reach + 1)):
                        if good[v, u]:
                            w = np.exp(-2.0 * ((v - y) ** 2 + (u - x) ** 2) / reach**2)
                            total += w * image[v, u]
                            weights += w
                            n += 1
                if n >= 4 or reach >= LARGEST_WINDOW_PX:
                    break
                reach *= 2
            image[y, x] = total / weights if n else 0.0


@njit(cache=True)
def _ring_median(image, good, y, x, inner, values):
    """Median of the good pixels on the ring of 8 (inner) or 16 around (y, x); NaN when it has fewer than three."""
    reach, n = 1 if inner else 2, 0
    for v in range(max(0, y - reach), min(image.shape[0], y + reach + 1)):
        for u in range(max(0, x - reach), min(image.shape[1], x + reach + 1)):
            if good[v, u] and max(abs(v - y), abs(u - x)) == reach:
                values[n] = image[v, u]
                n += 1
    return np.median(values[:n]) if n >= 3 else np.nan


@njit(cache=True)
def _sharp_excess(image, y, x, sign):
    """How far (y, x) stands above (sign 1) or below (-1) the opposite neighbours that are nearest to it in value; inf without a pair."""
    height, width = image.shape
    least = np.inf
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        if y - dy >= 0 and y + dy < height and min(x - dx, x + dx) >= 0 and max(x - dx, x + dx) < width:
            pair = 0.5 * (image[y - dy, x - dx] + image[y + dy, x + dx])
            least = min(least, sign * (image[y, x] - pair))
    return least


@njit(cache=True)
def _is_hit(image, good, y, x, noise, values):
    """The test of `find_hits` on one pixel."""
    near, far = _ring_median(image, good, y, x, True, values), _ring_median(image, good, y, x, False, values)
    if np.isnan(near) or np.isnan(far):
        return False
    sign = 1.0 if image[y, x] > near else -1.0
    excess = min(_sharp_excess(image, y, x, sign), sign * (image[y, x] - near))
    sigma = np.sqrt(noise[0] * max(near, far, 0.0) + noise[1])
    tail = noise[0] * max(noise[2] ** 2 - 1.0, 0.0) / 6.0 if sign > 0 else 0.0
    return excess > max(noise[2] * sigma * PAIR_NOISE + STRUCTURE * max(0.0, sign * (near - far)) + tail, noise[3])


def sample_steps(height: int, width: int) -> tuple[int, int]:
    """Steps in y and x that take up to 16,384 pixels of an image; an odd one cannot stay in phase with a mosaic's rows or the lattice."""
    return -(-height // 128) | 1, -(-width // 128) | 1


@njit(cache=True)
def _sharpness_sample(image, step_y, step_x):
    """Sharp excess of pixels on an even grid, either sign."""
    sample = np.empty((-(-image.shape[0] // step_y), -(-image.shape[1] // step_x)))
    for i in range(sample.shape[0]):
        for j in range(sample.shape[1]):
            y, x = i * step_y, j * step_x
            value = max(_sharp_excess(image, y, x, 1.0), _sharp_excess(image, y, x, -1.0))
            sample[i, j] = value if value < np.inf else 0.0
    return sample


@njit(cache=True)
def _mark_hits(image, good, noise, hits):
    """Marks hits and their neighbours. A cheap test on the four nearest pixels spares most pixels the medians."""
    height, width = image.shape
    values = np.empty(16)
    excess, read = np.float32(noise[0]), np.float32(noise[1])
    screen = np.float32((SUSPECT * noise[2]) ** 2)
    suspect, n_hits = np.empty(width, np.bool_), 0
    for y in range(height):
        row, above, below = image[y], image[y - 1 if y else y + 1], image[y + 1 if y + 1 < height else y - 1]
        for x in (0, width - 1):
            # no pair across: a corner has none at all, and is always looked at
            along = np.float32(0.5) * (above[x] + below[x])
            limit = screen * (excess * max(along, np.float32(0)) + read)
            suspect[x] = y == 0 or y == height - 1 or (row[x] - along) ** 2 > limit
        # x is the left neighbour: indices that cannot be negative are what LLVM vectorises
        for x in range(width - 2):
            value = row[x + 1]
            across = np.float32(0.5) * (row[x] + row[x + 2])
            along = np.float32(0.5) * (above[x + 1] + below[x + 1])
            lower, upper = min(across, along), max(across, along)
            outside = max(max(value - upper, lower - value), np.float32(0))
            suspect[x + 1] = outside * outside > screen * (excess * max(lower, np.float32(0)) + read)
        for begin in range(0, width, SCREENED_PX):
            if not suspect[begin : begin + SCREENED_PX].sum():
                continue
            for x in range(begin, min(begin + SCREENED_PX, width)):
                if suspect[x] and good[y, x] and _is_hit(image, good, y, x, noise, values):
                    hits[y, x] = True
                    n_hits += 1
    if n_hits:
        _grow_hits(image, good, noise, hits, values)


@njit(cache=True)
def _grow_hits(image, good, noise, hits, values):
    """Spreads hits to pixels within two of them that exceed half the threshold above their ring of 16, those hit so far left out of it.

    No further: on a high-contrast lattice every atom would lead to the next.
    """
    height, width = image.shape
    for _ in range(GROWTH_STEPS):
        front, free = np.argwhere(hits), good & ~hits
        for k in range(len(front)):
            y, x = front[k, 0], front[k, 1]
            for v in range(max(0, y - 1), min(height, y + 2)):
                for u in range(max(0, x - 1), min(width, x + 2)):
                    far = _ring_median(image, free, v, u, False, values) if free[v, u] else np.nan
                    if image[v, u] - far > TOUCHING * noise[2] * np.sqrt(noise[0] * max(far, 0.0) + noise[1]) + noise[0]:
                        hits[v, u] = True
