"""Optics by maximum likelihood from frames whose structures are known well enough: Gauss-Newton on the image model.

Free: defocus, two-fold astigmatism, coma, three-fold astigmatism, focal spread, isotropic envelope (detector transfer and fast motion),
contrast scale; each with a Gaussian prior around its nominal value, which is what separates focal spread, envelope and contrast. The
mean intensity of each frame is profiled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from scant.errors import CalibrationError
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.optics import Optics

PRIOR_SD = {
    "defocus_angstrom": 15.0,
    "astigmatism_x_angstrom": 8.0,
    "astigmatism_y_angstrom": 8.0,
    "coma_x_angstrom": 150.0,
    "coma_y_angstrom": 150.0,
    "threefold_x_angstrom": 150.0,
    "threefold_y_angstrom": 150.0,
    "focal_spread_angstrom": 1.0,
    "envelope_b_angstrom2": 2.0,
    "contrast_scale": 0.3,
}
STEP = {
    "defocus_angstrom": 0.5,
    "astigmatism_x_angstrom": 0.5,
    "astigmatism_y_angstrom": 0.5,
    "coma_x_angstrom": 20.0,
    "coma_y_angstrom": 20.0,
    "threefold_x_angstrom": 20.0,
    "threefold_y_angstrom": 20.0,
    "focal_spread_angstrom": 0.3,
    "envelope_b_angstrom2": 0.1,
    "contrast_scale": 0.02,
}
# An envelope below zero would sharpen, which nothing in a microscope does.
LEAST = {"contrast_scale": 0.05, "focal_spread_angstrom": 0.0, "envelope_b_angstrom2": 0.0}
MAX_STEP_SD = 1.0


@dataclass(frozen=True)
class CalibrationFrame:
    """One frame's counts (H, W) in electrons, inverse variances (H, W), and its atoms (N, 3) in angstrom with species."""

    counts_e: np.ndarray
    inverse_variance: np.ndarray
    positions: np.ndarray
    species: np.ndarray


@dataclass(frozen=True)
class OpticsFit:
    """Fitted optics, a standard deviation per free parameter, and how well model and data agree."""

    optics: Optics
    sigma: dict[str, float]
    correlation: float
    reduced_chi2: float
    kl_divergence: float


def fit_optics(
    nominal: Optics, grid: ImageGrid, frames: list[CalibrationFrame], start: Optics | None = None, max_iterations: int = 12
) -> OpticsFit:
    """Maximum a posteriori optics over all frames together; priors are centred on `nominal`, iteration begins at `start`.

    Raises CalibrationError when the iteration leaves the range in which the model holds.
    """
    names = list(PRIOR_SD)
    prior_sd = np.array([PRIOR_SD[n] for n in names])
    centre = np.array([getattr(nominal, n) for n in names])
    least = np.array([LEAST.get(n, -np.inf) for n in names])
    values = np.maximum([getattr(start or nominal, n) for n in names], least)
    for _ in range(max_iterations):
        hessian, slope = np.diag(prior_sd**-2.0), (centre - values) / prior_sd**2
        for frame in frames:
            h, g = _normal_equations(nominal, names, values, grid, frame)
            hessian, slope = hessian + h, slope + g
        move = _step(hessian, slope, prior_sd, least - values)
        scale = min(1.0, MAX_STEP_SD / np.max(np.abs(move) / prior_sd))
        values = values + scale * move
        sigma = np.sqrt(np.diag(np.linalg.inv(hessian)))
        if np.all(np.abs(move) < 0.1 * sigma):
            break
    if not np.all(np.isfinite(values)):
        raise CalibrationError("the optics fit diverged; check defocus_angstrom and cs_um (signs and units) in acquisition.yaml")
    fitted = nominal.with_values(**dict(zip(names, map(float, values))))
    return OpticsFit(fitted, dict(zip(names, map(float, sigma))), *agreement(fitted, grid, frames))


def _step(hessian: np.ndarray, slope: np.ndarray, unit: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """Minimum of the quadratic model above the lowest steps allowed: where one is reached, the other parameters settle around it."""
    root = np.linalg.cholesky(hessian * np.outer(unit, unit)).T
    target = np.linalg.solve(root.T, slope * unit)
    return unit * lsq_linear(root, target, bounds=(np.minimum(lowest, 0.0) / unit, np.inf), method="bvls").x


def _normal_equations(
    nominal: Optics, names: list[str], values: np.ndarray, grid: ImageGrid, frame: CalibrationFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton matrix and slope of one frame, by one-sided differences of the relative image."""

    def image(v: np.ndarray) -> np.ndarray:
        return _model_image(nominal.with_values(**dict(zip(names, map(float, v)))), grid, frame)

    base = image(values)
    intensity, residual = _profiled(base, frame)
    weight = frame.inverse_variance
    slopes = []
    for n, name in enumerate(names):
        shifted = values.copy()
        shifted[n] += STEP[name]
        slope = intensity * (image(shifted) - base) / STEP[name]
        # The profiled intensity follows the parameter: remove from each slope what it explains.
        slopes.append((slope - base * (weight * slope * base).sum() / (weight * base * base).sum()).ravel())
    jacobian = np.array(slopes)
    return (jacobian * weight.ravel()) @ jacobian.T, (jacobian * weight.ravel()) @ residual.ravel()


def _model_image(optics: Optics, grid: ImageGrid, frame: CalibrationFrame) -> np.ndarray:
    model = ForwardModel(optics, grid, frame.species)
    return model.image(frame.positions[None].astype(np.float32))[0].astype(float)


def _profiled(image: np.ndarray, frame: CalibrationFrame) -> tuple[float, np.ndarray]:
    """Maximum-likelihood intensity of the frame given the relative image, and the residual counts."""
    weight = frame.inverse_variance
    intensity = float((weight * image * frame.counts_e).sum() / (weight * image**2).sum())
    return intensity, frame.counts_e - intensity * image


def agreement(optics: Optics, grid: ImageGrid, frames: list[CalibrationFrame]) -> tuple[float, float, float]:
    """Correlation of model and data, reduced chi^2, and KL divergence of simulated from measured histograms (nats)."""
    correlations, chi2, simulated, measured = [], [], [], []
    for n, frame in enumerate(frames):
        image = _model_image(optics, grid, frame)
        intensity, residual = _profiled(image, frame)
        used = frame.inverse_variance > 0
        correlations.append(np.corrcoef(image[used], frame.counts_e[used])[0, 1])
        chi2.append((frame.inverse_variance * residual**2).sum() / used.sum())
        noise = np.random.default_rng(n).standard_normal(used.sum()) / np.sqrt(frame.inverse_variance[used])
        simulated.append(intensity * image[used] + noise)
        measured.append(frame.counts_e[used])
    return float(np.mean(correlations)), float(np.mean(chi2)), histogram_kl(np.concatenate(measured), np.concatenate(simulated))


def histogram_kl(measured: np.ndarray, simulated: np.ndarray, n_bins: int = 64) -> float:
    """KL divergence sum p log(p / q) in nats of two samples' histograms over the measured 0.1 .. 99.9 % range."""
    edges = np.quantile(measured, [0.001, 0.999])
    bins = np.linspace(edges[0], edges[1], n_bins + 1)
    p = np.histogram(measured, bins)[0] + 0.5
    q = np.histogram(simulated, bins)[0] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())
