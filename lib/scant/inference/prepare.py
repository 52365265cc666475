"""From located atoms to what the annealer and the optics fit want: starts, bonds, species of one frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scant.inference.problem import FrameProblem
from scant.physics.forward import ImageGrid

TAIL_ANGSTROM = 2.0


def frame_problem(
    frame: int,
    counts_e: np.ndarray,
    inverse_variance: np.ndarray,
    sites: Mapping[str, np.ndarray],
    pixel_size_angstrom: float,
    species: tuple[str, ...],
) -> FrameProblem:
    """Problem of one frame, flat to begin with, from its sites (columns as in stages.localising) and the species of the sublattices."""
    xy = np.column_stack([sites["x_px"], sites["y_px"]]) * pixel_size_angstrom
    neighbours = np.column_stack([sites[f"neighbour_{n}"] for n in range(3)])
    start, end = np.repeat(np.arange(len(xy)), 3), neighbours.ravel()
    elements = np.array(species)[np.clip(sites["sublattice"], 0, len(species) - 1)]
    bonds = np.column_stack([start, end])[end > start]
    return FrameProblem(
        frame,
        counts_e,
        inverse_variance,
        np.column_stack([xy, np.zeros(len(xy))]),
        elements,
        bonds,
        np.asarray(sites["coordination"]),
    )


def grid_around(problems: list[FrameProblem], pixel_size_angstrom: float) -> ImageGrid:
    """The frames' pixels with room around them for the outermost atom of any frame and its image's tail."""
    height_px, width_px = problems[0].counts_e.shape
    far = np.array([width_px, height_px]) * pixel_size_angstrom
    reach = max(0.0, *(float(max(-p.positions[:, :2].min(), (p.positions[:, :2] - far).max())) for p in problems))
    return ImageGrid.padded(height_px, width_px, pixel_size_angstrom, reach + TAIL_ANGSTROM)
