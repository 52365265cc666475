"""From located atoms to what the annealer and the optics fit want: starts, bonds, species of one frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scant.inference.refine import FrameProblem


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
        frame, counts_e, inverse_variance, np.column_stack([xy, np.zeros(len(xy))]), elements, bonds, np.asarray(sites["coordination"])
    )


def reach_beyond_view_angstrom(problems: list[FrameProblem], shape: tuple[int, int], pixel_size_angstrom: float) -> float:
    """How far the outermost atom lies beyond the view (H, W) of any of the frames."""
    far = np.array(shape[::-1]) * pixel_size_angstrom
    return max(0.0, *(float(max(-p.positions[:, :2].min(), (p.positions[:, :2] - far).max())) for p in problems))
