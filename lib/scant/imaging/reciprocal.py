"""The lattice of a honeycomb crystal from the power spectrum of its image, with no pixel size given.

A honeycomb lattice with hollow centres at the lattice points has, per cell, the structure factor -1 at the six first-order
reflections and +2 at the six second-order ones. The first-order phases therefore locate the hollow whatever the contrast, and
the translation-invariant phase sum of three reflections with g1 + g2 + g3 = 0 is pi for bright atoms and 0 for dark ones (a
structure invariant, Hauptman & Karle 1953). Second-order reflections cannot tell hollows from atoms and only sharpen the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter
from scipy.special import ndtr
from scipy.stats import gamma

from scant.errors import CalibrationError, InputError
from scant.imaging.binning import on_coarser_pixels
from scant.imaging.phase_fields import FIRST_ORDER, PAD_CELLS, ReflectionFields, local_reflections, rotation

Array = NDArray[np.float64]

SECOND_ORDER = np.array([(1, -1), (1, 2), (-2, -1)])
MIN_SNR = 6.0
NOMINAL_TOLERANCE = 0.15
MAX_STRAIN = 0.08
MIN_LOCAL_SNR = 10.0
MAX_FIELD_FRAMES = 16
FIELD_WIDTH = 1.6
# A shear common to the whole view is tilt (prior sd 1 %) or distortion of the projector lenses (prior sd 0.5 %): 1 / (1 + 0.25).
TILT_SHARE = 0.8
# Projected against flat lattice constant of a free sheet at 300 K: its bonds grow by 0.15 %, out-of-plane motion between neighbours
# (slopes of 0.1 rms, too short to be seen as tilt) takes 0.5 %. Molecular dynamics with LCBOP; half of it is counted as uncertainty.
THERMAL_CONTRACTION = 0.0035
INNER = (slice(PAD_CELLS + 3, -PAD_CELLS - 3), slice(PAD_CELLS + 3, -PAD_CELLS - 3))


@dataclass(frozen=True)
class Lattice2D:
    """Projected lattice of one image: lattice points are ring (hollow) centres; vectors are (x, y) in pixels.

    `a1_px`, `a2_px` enclose 60 degrees; `sigma_px` is the standard error of their components; `origin_px` is the hollow nearest to the
    image centre; `contrast_sign` +1 for bright atoms, -1 for dark, with `contrast_confidence` the probability of that sign;
    `reflection_snr` the power of the weakest first-order reflection over the local background, `noise_snr` what noise alone reaches
    about once in such a spectrum.
    """

    a1_px: Array
    a2_px: Array
    sigma_px: float
    origin_px: Array
    pixel_size_angstrom: float
    pixel_size_sigma_angstrom: float
    rotation_rad: float
    anisotropy: float
    contrast_sign: int
    contrast_confidence: float
    reflection_snr: float
    noise_snr: float
    lattice_constant_angstrom: float

    @property
    def is_weak(self) -> bool:
        """Whether its reflections may be chance."""
        return self.reflection_snr < self.noise_snr

    @property
    def vectors_px(self) -> Array:
        """(2, 2): rows a1, a2."""
        return np.stack([self.a1_px, self.a2_px])

    @property
    def reciprocal_per_px(self) -> Array:
        """(2, 2): rows b1, b2 with a_i . b_j = delta_ij."""
        return np.asarray(np.linalg.inv(self.vectors_px).T)

    def coarser(self, factor: int) -> Lattice2D:
        """The same lattice on pixels that are `factor` times coarser."""
        return replace(
            self, a1_px=self.a1_px / factor, a2_px=self.a2_px / factor, sigma_px=self.sigma_px / factor,
            origin_px=on_coarser_pixels(self.origin_px, factor), pixel_size_angstrom=self.pixel_size_angstrom * factor,
            pixel_size_sigma_angstrom=self.pixel_size_sigma_angstrom * factor,
        )  # fmt: skip

    @property
    def bond_px(self) -> float:
        """Mean projected bond length in pixels."""
        return float(np.sqrt(abs(np.linalg.det(self.vectors_px)) * 2 / np.sqrt(3)) / np.sqrt(3))


def find_lattice(
    image: NDArray[np.floating],
    *,
    lattice_constant_angstrom: float = 2.46,
    pixel_size_angstrom: float | None = None,
) -> Lattice2D:
    """Lattice vectors, hollow position, pixel size and contrast sign of a honeycomb image.

    `image`: (ny, nx) or (t, ny, nx), bad pixels filled in. Of several frames the mean power spectrum and the mean structure invariant
    are used, so drift between them does no harm; the origin is that of the first frame. A `pixel_size_angstrom` narrows the search
    to 15 % around it. Raises CalibrationError when no hexagonal set of reflections stands out.
    """
    frames = _as_frames(image)
    # the mean of n power spectra of noise is gamma distributed: peaks are judged by the same false-alarm rate as one spectrum's
    noise = gamma(len(frames), scale=1 / len(frames))
    snr = _signal_to_background(np.mean([_power(frame) for frame in frames], axis=0)) * float(noise.median())
    # the half plane of a real image's spectrum is independent
    least, highest = float(noise.isf(np.exp(-MIN_SNR))), float(noise.isf(2 / frames[0].size))
    nominal = None if pixel_size_angstrom is None else pixel_size_angstrom / (lattice_constant_angstrom * np.sqrt(3) / 2)
    b, weakest = _hexagonal_triple(snr, nominal, least)
    b, sigma_b = _refine(frames, b)
    vectors = np.linalg.inv(b).T
    vectors, b = _sixty_degrees(np.asarray(vectors, dtype=np.float64))
    sides = np.linalg.norm(np.stack([vectors[0], vectors[1], vectors[1] - vectors[0]]), axis=1)
    anisotropy = float(sides.max() / sides.min() - 1)
    if anisotropy > 2 * MAX_STRAIN:
        raise CalibrationError(
            f"reflections are not hexagonal: lattice sides {np.round(sides, 2)} px differ by {100 * anisotropy:.0f} % "
            f"(allowed {200 * MAX_STRAIN:.0f} %); give pixel_size_angstrom or a frame with a clean lattice"
        )
    cell_px = float(np.sqrt(abs(np.linalg.det(vectors)) * 2 / np.sqrt(3)))
    fields = [local_reflections(frame, b, FIELD_WIDTH * cell_px) for frame in frames[:MAX_FIELD_FRAMES]]
    noise = [local_reflections(frame, b, FIELD_WIDTH * cell_px, turn_degrees=30) for frame in frames[:MAX_FIELD_FRAMES]]
    sign, confidence = _contrast(fields, noise)
    shear = float(np.mean([_local_shear(f, n) for f, n in zip(fields, noise, strict=True)]))
    pixel = lattice_constant_angstrom * (1 - THERMAL_CONTRACTION) / (cell_px * (1 + shear))
    relative_sigma = np.sqrt((sigma_b * cell_px) ** 2 + (shear / 3) ** 2 + (THERMAL_CONTRACTION / 2) ** 2)
    sigma_px = float(sigma_b * cell_px**2)
    return Lattice2D(
        a1_px=vectors[0], a2_px=vectors[1], sigma_px=sigma_px, origin_px=_hollow_near_centre(fields[0], frames.shape[1:], sign),
        pixel_size_angstrom=pixel, pixel_size_sigma_angstrom=float(pixel * relative_sigma),
        rotation_rad=float(np.arctan2(vectors[0, 1], vectors[0, 0])), anisotropy=anisotropy,
        contrast_sign=sign, contrast_confidence=confidence, reflection_snr=weakest, noise_snr=highest,
        lattice_constant_angstrom=lattice_constant_angstrom,
    )  # fmt: skip


def _as_frames(image: NDArray[np.floating]) -> Array:
    frames = np.asarray(image, dtype=np.float64)
    frames = frames[None] if frames.ndim == 2 else frames
    if frames.ndim != 3 or min(frames.shape[1:]) < 32:
        raise InputError(f"lattice search needs a (ny, nx) or (t, ny, nx) image of at least 32 x 32 pixels, not shape {image.shape}")
    if not np.isfinite(frames).all():
        raise InputError("lattice search: the image holds NaN or Inf; fill bad pixels first")
    if frames[0].std() == 0:
        raise CalibrationError("no lattice: the image is constant; check that the frame is not blank")
    return frames


def _window(shape: tuple[int, ...]) -> Array:
    return np.asarray(np.outer(np.hanning(shape[0]), np.hanning(shape[1])))


def _power(frame: Array) -> Array:
    w = _window(frame.shape)
    return np.asarray(np.abs(np.fft.fftshift(np.fft.fft2((frame - (frame * w).sum() / w.sum()) * w))) ** 2)


def _signal_to_background(power: Array) -> Array:
    """Power over its local median: flattens the radial fall-off and the low frequencies of contamination."""
    ny, nx = power.shape
    ty, tx = max(ny // 32, 6), max(nx // 32, 6)
    tiles = power[: ny // ty * ty, : nx // tx * tx].reshape(ny // ty, ty, nx // tx, tx)
    medians = np.median(tiles, axis=(1, 3))
    rows, columns = (np.arange(ny) - (ty - 1) / 2) / ty, (np.arange(nx) - (tx - 1) / 2) / tx
    background = map_coordinates(medians, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    snr = power / np.maximum(background, 1e-12 * power.max())
    cy, cx = ny // 2, nx // 2
    snr[cy - 4 : cy + 5, cx - 4 : cx + 5] = 0
    return np.asarray(snr)


def _hexagonal_triple(snr: Array, nominal: float | None, least: float) -> tuple[Array, float]:
    """Reciprocal vectors (2, 2) in cycles per pixel of the best first-order triple, and the SNR of its weakest reflection."""
    ny, nx = snr.shape
    smooth = maximum_filter(snr, size=3)
    rows, columns = np.nonzero((snr == smooth) & (snr > least))
    order = np.argsort(snr[rows, columns])[::-1][:60]
    peaks = np.stack([(columns[order] - nx // 2) / nx, (rows[order] - ny // 2) / ny], axis=1)
    best: tuple[float, Array, float] = (0.0, np.zeros((2, 2)), 0.0)
    seeds = np.concatenate([peaks, peaks @ rotation(30) / np.sqrt(3)])
    for seed in seeds:
        length = np.hypot(*seed)
        if length > 0.45 or length < 6 / min(ny, nx) or (nominal is not None and abs(length / nominal - 1) > NOMINAL_TOLERANCE):
            continue
        triple, strength = _best_near(snr, np.stack([seed, seed @ rotation(120), seed @ rotation(240)]))
        if strength.min() < least or np.linalg.norm(triple.sum(axis=0)) > 2.5 / min(ny, nx) + 0.1 * length:
            continue
        if _best_near(snr, triple @ rotation(30) / np.sqrt(3))[1].min() > least:
            continue  # these are second-order reflections: the first order is there
        _, second = _best_near(snr, SECOND_ORDER @ triple[:2])
        score = float(np.log(strength).sum() + 0.5 * np.log(np.maximum(second, 1)).sum())
        if score > best[0]:
            best = (score, triple[:2], float(strength.min()))
    if best[0] == 0:
        hint = "" if nominal is None else f" within {100 * NOMINAL_TOLERANCE:.0f} % of the nominal pixel size"
        raise CalibrationError(
            f"no lattice found{hint}: no three reflections at 120 degrees reach {least:.1f} x background "
            f"(strongest peak {snr.max():.1f}); average more frames, or check pixel size, focus and field of view"
        )
    return best[1], best[2]


def _best_near(snr: Array, k: Array) -> tuple[Array, Array]:
    """Highest bin near each expected reflection (strain allowed), as positions (n, 2) and strengths (n,)."""
    ny, nx = snr.shape
    found, strength = k.copy(), np.zeros(len(k))
    for n, (kx, ky) in enumerate(k):
        reach = 1.5 + 0.5 * MAX_STRAIN * np.hypot(kx * nx, ky * ny)
        y0, x0, r = ky * ny + ny // 2, kx * nx + nx // 2, int(np.ceil(reach))
        ys = np.arange(max(round(y0) - r, 0), min(round(y0) + r + 1, ny))
        xs = np.arange(max(round(x0) - r, 0), min(round(x0) + r + 1, nx))
        if not len(ys) or not len(xs):
            continue
        near = np.hypot(ys[:, None] - y0, xs - x0) <= reach
        patch = np.where(near, snr[np.ix_(ys, xs)], 0)
        iy, ix = np.unravel_index(np.argmax(patch), patch.shape)
        strength[n] = patch[iy, ix]
        found[n] = (xs[ix] - nx // 2) / nx, (ys[iy] - ny // 2) / ny
    return found, strength


def _refine(frames: Array, b: Array) -> tuple[Array, float]:
    """Sub-bin reciprocal vectors by weighted least squares over the peaks of six reflections, and their standard error (1/px)."""
    indices = np.concatenate([FIRST_ORDER, SECOND_ORDER])
    for step in (0.5, 0.25, 0.1):
        k, weight = zip(*[_peak(frames, g, step / np.array(frames.shape[:0:-1])) for g in indices @ b], strict=True)
        w = np.sqrt(np.array(weight) / max(weight))[:, None]
        b = np.linalg.lstsq(w * indices, w * np.array(k), rcond=None)[0]
    residual = (np.array(k) - indices @ b) * w
    covariance = np.linalg.inv((w * indices).T @ (w * indices))
    variance = (residual**2).sum() / (2 * (w**2).sum() - 4 + 1e-9) if (w**2).sum() > 2.5 else (residual**2).max()
    return b, float(np.sqrt(variance * np.trace(covariance) / 2))


def _peak(frames: Array, k: Array, step: Array) -> tuple[Array, float]:
    """Maximum of the mean windowed power near k by a quadratic fit on a 3 x 3 grid of spacing `step`; and its excess power."""
    ny, nx = frames.shape[1:]
    windowed = (frames - frames.mean(axis=(1, 2), keepdims=True)) * _window((ny, nx))
    offsets = np.array([-1, 0, 1])
    for _ in range(4):
        ex = np.exp(-2j * np.pi * np.outer(np.arange(nx), k[0] + offsets * step[0]))
        ey = np.exp(-2j * np.pi * np.outer(k[1] + offsets * step[1], np.arange(ny)))
        power = np.mean([np.abs(ey @ (frame @ ex)) ** 2 for frame in windowed], axis=0)
        shift = np.array([_parabola(power.sum(axis=0)), _parabola(power.sum(axis=1))])
        k = k + shift * step
        if np.abs(shift).max() < 0.05:
            break
    return k, float(power[1, 1])


def _parabola(v: Array) -> float:
    curvature = v[0] - 2 * v[1] + v[2]
    return float(np.clip(0.5 * (v[0] - v[2]) / curvature, -1, 1)) if curvature < 0 else float(np.argmax(v) - 1)


def _sixty_degrees(vectors: Array) -> tuple[Array, Array]:
    """Equivalent basis with 60 degrees between a1 and a2, right-handed on screen, a1 within 30 degrees of x; and its reciprocal."""
    candidates = [vectors[0], vectors[1], vectors[0] + vectors[1], vectors[1] - vectors[0]]
    shortest = sorted(candidates, key=lambda v: float(np.hypot(*v)))[:3]
    ring = np.array([s * v for v in shortest for s in (1, -1)])
    ring = ring[np.argsort(np.arctan2(ring[:, 1], ring[:, 0]))]
    first = int(np.argmin(np.abs(np.arctan2(ring[:, 1], ring[:, 0]))))
    basis = np.stack([ring[first], ring[(first + 1) % 6]])
    return basis, np.asarray(np.linalg.inv(basis).T)


def _contrast(fields: list[ReflectionFields], noise: list[ReflectionFields]) -> tuple[int, float]:
    """Sign of the atoms' contrast from the mean local structure invariant, and the probability that it is right."""
    products = [f.values.prod(axis=0)[INNER] for f in fields]
    powers = [np.abs(f.values[:, *INNER]) ** 2 for f in fields]
    floors = [np.abs(n.values[:, *INNER]) ** 2 for n in noise]
    value = float(np.mean([p.real.mean() for p in products]))
    # error propagation through a product: relative variances add; a smoothed field holds about one sample per 4 pi s^2
    samples = sum(p.shape[1] * p.shape[2] for p in powers) / (64 * np.pi)
    relative = sum(float(np.mean([f[i].mean() for f in floors]) / np.mean([p[i].mean() for p in powers])) for i in range(3)) / 2
    scale = float(np.mean([np.abs(p).mean() for p in products]))
    spread = scale * np.sqrt(relative / max(samples, 1) + 1e-4)
    return (-1 if value > 0 else 1), float(ndtr(abs(value) / spread))


def _local_shear(fields: ReflectionFields, noise: ReflectionFields) -> float:
    """Mean amplitude of the local shear strain, its noise removed: what the mean cell of a rippled sheet lacks to the true one.

    A sheet that bends without stretching keeps the length across the slope and loses it along, so the larger eigenvalue of the local
    projected metric is the true scale: the mean one times (1 + shear).
    """
    gradients = [np.imag(np.gradient(fields.values, axis=k) / fields.values) / (2 * np.pi) for k in (2, 1)]
    change = np.stack(gradients, axis=-1)[:, *INNER] / fields.step_px
    pinv = np.linalg.pinv(FIRST_ORDER.astype(float))
    strain = -np.einsum("ki,ij,jyxl->yxkl", np.linalg.inv(fields.b_per_px), pinv, change)
    strain += TILT_SHARE * _mean_shear(fields.b_per_px)
    shear = np.hypot(strain[..., 0, 0] - strain[..., 1, 1], strain[..., 0, 1] + strain[..., 1, 0]) / 2
    power = np.abs(fields.values[:, *INNER]) ** 2
    floor = (np.abs(noise.values[:, *INNER]) ** 2).mean()
    if power.mean() < MIN_LOCAL_SNR * floor:  # phases of noise have no small-error theory: only the mean cell can be trusted
        tilt = TILT_SHARE * _mean_shear(fields.b_per_px)
        return float(np.hypot(tilt[0, 0] - tilt[1, 1], tilt[0, 1] + tilt[1, 0]) / 2)
    weight = power.min(axis=0)
    g = np.linalg.norm(FIRST_ORDER @ fields.b_per_px, axis=1).mean()
    # white noise smoothed by a Gaussian s: var(d phase/dx) = (noise power / signal power) / (4 s^2); three vectors at 120 degrees
    noise_variance = floor / power.mean() / (4 * fields.width_px**2) / (2 * np.pi * g) ** 2 * (2 / 3)
    mean_square = float(np.average(shear**2, weights=weight))
    return float(np.average(shear, weights=weight)) * np.sqrt(max(1 - noise_variance / mean_square, 0))


def _mean_shear(b_per_px: Array) -> Array:
    """Traceless strain (2, 2), in image axes, of a lattice against the hexagonal one of the same area."""
    hexagonal = np.array([[1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    deformation = np.linalg.inv(hexagonal) @ np.linalg.inv(b_per_px).T
    finger = deformation.T @ deformation
    return np.asarray(finger / np.trace(finger) - np.eye(2) / 2)


def _hollow_near_centre(fields: ReflectionFields, shape: tuple[int, ...], sign: int) -> Array:
    """Hollow centre nearest to the image centre, from the local phases there."""
    centre = (np.array(shape[::-1]) - 1) / 2
    b = fields.b_per_px
    # at a hollow the first-order coefficient is -h: negative for bright atoms, positive for dark ones
    phase = np.angle(fields.sample(centre[None])[:, 0] * -sign) / (2 * np.pi)
    target = np.round(centre @ b.T + phase[:2]) - phase[:2]
    shifts = np.array([(m, n) for m in (-1, 0, 1) for n in (-1, 0, 1)])
    points = (target + shifts) @ np.linalg.inv(b).T
    return np.asarray(points[int(np.argmin(np.hypot(*(points - centre).T)))])
