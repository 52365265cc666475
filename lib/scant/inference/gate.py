"""Why a model and a frame do not match: a wrong sign of contrast, a shift between them, or a wrong pixel size, told apart by trial."""

from __future__ import annotations

import numpy as np
import scipy.fft

from scant.errors import FrameFailure
from scant.inference.problem import FrameProblem
from scant.physics.forward import ForwardModel

SCALES = np.exp(np.linspace(-0.06, 0.06, 25))
# A trial explains a mismatch when it correlates so much better than the start, in standard errors of a correlation of that many pixels.
CLEARLY_BETTER = 6.0


def gate_failure(problem: FrameProblem, model: ForwardModel, correlation: float, minimum: float) -> FrameFailure:
    """The failure of a frame whose correlation with its start is below the minimum, with the likely reason as its remedy."""
    found = f"model and data correlate by {correlation:.3f} at the start, at least {minimum:.3f} is needed"
    return FrameFailure(problem.frame, "anneal", "correlation", found, likely_reason(problem, model, correlation, minimum))


def likely_reason(problem: FrameProblem, model: ForwardModel, correlation: float, minimum: float) -> str:
    """What to mend, from the trial that makes model and data match: the sign, a shift of the view, a scale of the structure."""
    good = problem.inverse_variance > 0
    enough = max(minimum, correlation + CLEARLY_BETTER / np.sqrt(good.sum()))
    if correlation < -max(minimum, CLEARLY_BETTER / np.sqrt(good.sum())):
        return "the contrast has the wrong sign: check the signs of defocus_angstrom and cs_um"
    data = np.where(good, problem.counts_e - problem.counts_e[good].mean(), 0).astype(float)
    shifted, (dy, dx) = _best_shift(data, _image(problem, model, 1.0))
    scaled = [_best_shift(data, _image(problem, model, scale))[0] for scale in SCALES]
    best = int(np.argmax(scaled))
    pixel = model.grid.pixel_size_angstrom
    if scaled[best] > max(enough, shifted + CLEARLY_BETTER / np.sqrt(good.sum())):
        return f"the frame matches at a pixel size of {pixel / SCALES[best]:.4g} A instead of {pixel:.4g} A: check pixel_size_angstrom"
    if shifted > enough:
        return (
            f"the frame matches ({shifted:.3f}) when shifted by ({dx * pixel:.2f}, {dy * pixel:.2f}) A in x, y: atoms and frame are not "
            "registered; run align and localise again on this movie"
        )
    return "no sign, shift or pixel size within 6 % makes them match: check the optics, and the atoms found by localise"


def _image(problem: FrameProblem, model: ForwardModel, scale: float) -> np.ndarray:
    """Model image (H, W) of the start, its lengths in the plane scaled about the middle of the view, without its mean."""
    middle = np.array(problem.counts_e.shape[::-1]) * model.grid.pixel_size_angstrom / 2
    positions = problem.positions.copy()
    positions[:, :2] = (positions[:, :2] - middle) * scale + middle
    alone = ForwardModel(model.optics, model.grid, problem.species)
    image = alone.linear_image(positions[None].astype(np.float32))[0][0]
    return image - image.mean()


def _best_shift(data: np.ndarray, image: np.ndarray) -> tuple[float, tuple[int, int]]:
    """Largest correlation over cyclic shifts of up to half the view, and that shift (dy, dx) of the data against the image in pixels."""
    product = scipy.fft.irfft2(scipy.fft.rfft2(data) * np.conj(scipy.fft.rfft2(image)), s=data.shape)
    at = np.unravel_index(int(np.argmax(product)), data.shape)
    norm = np.sqrt((data**2).sum() * (image**2).sum())
    dy, dx = (int((n + size // 2) % size - size // 2) for n, size in zip(at, data.shape))
    return float(product[at] / max(norm, 1e-30)), (dy, dx)
