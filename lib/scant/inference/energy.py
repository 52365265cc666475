"""E(structure) = -log likelihood(frame | structure) + U(structure) / (k_B T): no free weights (DESIGN 4).

The likelihood is Gaussian with the calibrated variance of every pixel, on the frame's own corrected counts; bad
pixels and X-ray hits weigh nothing. The frame's mean intensity is profiled, not fitted by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scant.inference.prior import Prior
from scant.physics.forward import ForwardModel
from scant.xp import array_module


class PosteriorEnergy:
    """Energy of a batch of replicas, each against its own counts (B, H, W) in electrons with inverse variances (B, H, W).

    The quadratic part of the image and the mean intensity are held between calls of `refresh`, so that the energy is a
    fixed function while a Metropolis step decides.
    """

    def __init__(self, model: ForwardModel, prior: Prior, counts_e: Any, inverse_variance: Any):
        self.model, self.prior = model, prior
        self._quadratic: Any = 0
        self.intensity_e: Any = None
        self.observe(counts_e, inverse_variance)

    def observe(self, counts_e: Any, inverse_variance: Any) -> None:
        """Take other counts and weights from here on; `refresh` is due then."""
        self.counts_e, self.weight = counts_e, inverse_variance

    def refresh(self, positions: Any) -> None:
        """Re-evaluate the quadratic image and the maximum-likelihood intensity of each replica at its structure."""
        self._quadratic = self.model.quadratic_image(positions)
        relative = 1 + self.model.linear_image(positions)[0] + self._quadratic
        weighted = self.weight * relative
        self.intensity_e = (weighted * self.counts_e).sum(axis=(1, 2)) / (weighted * relative).sum(axis=(1, 2))

    def __call__(self, positions: Any) -> tuple[Any, Any, Any]:
        """Energy (B,), gradient (B, N, 3) in 1/A and the likelihood's share (B,) of the energy."""
        misfit, data_gradient = self.misfit(positions)
        prior, prior_gradient = self.prior.energy_and_gradient(positions)
        return misfit + prior, data_gradient + prior_gradient, misfit

    def misfit(self, positions: Any) -> tuple[Any, Any]:
        """The likelihood's share of the energy (B,), and its gradient (B, N, 3)."""
        linear, waves = self.model.linear_image(positions)
        intensity = self.intensity_e[:, None, None]
        weighted = self.weight * (intensity * (1 + linear + self._quadratic) - self.counts_e)
        return 0.5 * _dot(weighted**2, 1 / self._safe_weight()), self.model.gradient(intensity * weighted, waves)

    def _safe_weight(self) -> Any:
        xp = array_module(self.weight)
        return xp.where(self.weight > 0, self.weight, 1)

    def correlation(self, positions: Any) -> Any:
        """Weighted correlation (B,) of model and counts: what the refinement gate looks at."""
        xp = array_module(positions)
        model = self.model.image(positions)
        total = self.weight.sum(axis=(1, 2), keepdims=True)
        a = model - (self.weight * model).sum(axis=(1, 2), keepdims=True) / total
        b = self.counts_e - (self.weight * self.counts_e).sum(axis=(1, 2), keepdims=True) / total
        return _dot(self.weight * a, b) / xp.sqrt(_dot(self.weight * a, a) * _dot(self.weight * b, b))


def _dot(a: Any, b: Any) -> Any:
    """Sum over pixels in double precision: energies of 1e4 are compared to 1e-2."""
    return (a * b).sum(axis=(1, 2), dtype=np.float64)
