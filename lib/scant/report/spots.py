"""The atoms found in one image: where they are and how sure each is, and what the fit leaves."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from scant.imaging.spot_search import FoundSpots
from scant.report.style import new_figure, robust_limits, styled

LEFT_SIGMA = 4.0
# Of a mark as wide as two standard deviations of the atom, in points^2 for an image as wide as itself.
MARK_AREA = 1.6e5


@styled
def spots_figure(image_e: np.ndarray, found: FoundSpots, noise_variance_e2: float) -> Figure:
    """The image (H, W) with a mark on every atom, coloured by its probability, beside the residual in units of the noise."""
    figure = new_figure(4.0)
    image_axes, left_axes = figure.subplots(1, 2, sharex=True, sharey=True)
    low, high = robust_limits(image_e)
    image_axes.imshow(image_e, vmin=low, vmax=high, cmap="gray")
    x, y = found.spots.positions_px.T
    size = MARK_AREA * (found.spots.width_px / max(image_e.shape)) ** 2
    marks = image_axes.scatter(x, y, s=size, marker="+", c=found.p_atom, cmap="viridis", vmin=0.5, vmax=1.0, linewidths=0.5)
    figure.colorbar(marks, ax=image_axes, label="probability of the atom", shrink=0.8)
    image_axes.set_title(f"{len(x)} atoms")
    left = (image_e - found.spots.model_e) / np.sqrt(np.maximum(found.spots.model_e + noise_variance_e2, 1e-9))
    shown = left_axes.imshow(left, vmin=-LEFT_SIGMA, vmax=LEFT_SIGMA, cmap="RdBu_r")
    figure.colorbar(shown, ax=left_axes, label="image less fit, in noise sd", shrink=0.8)
    left_axes.set_title(f"what is left: sd {left.std():.2f}")
    for axes in (image_axes, left_axes):
        axes.set_axis_off()
    return figure
