"""Simulated twins of a dataset: same optics, lattice and noise, known truth, another dose; through localisation and annealing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from scant.errors import CalibrationError, InputError
from scant.imaging.reciprocal import find_lattice
from scant.inference.prepare import frame_problem, grid_around
from scant.inference.problem import FrameEstimate, FrameProblem, RefineSettings
from scant.inference.refine import refine_frames
from scant.inference.scoring import score
from scant.physics.detector import counts_with_noise
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, TrueFrame, View, relative_image, true_frames
from scant.rng import seed_of, stream
from scant.stages.localising import LocaliseSettings, localise_columns

TWINS = {
    "dose_e_per_angstrom2": pl.Float64, "window": pl.Int64, "twin": pl.Int64, "frame": pl.Int64, "rmsd_3d_angstrom": pl.Float64,
    "sigma_x_angstrom": pl.Float64, "sigma_y_angstrom": pl.Float64, "sigma_z_angstrom": pl.Float64,
    "claimed_sigma_z_angstrom": pl.Float64, "recall": pl.Float64, "precision": pl.Float64, "succeeded": pl.Boolean,
}  # fmt: skip
DETECTION_FRAMES = 5
EQUILIBRATION_PS = 10.0
MINIMUM_RECALL = 0.9


@dataclass(frozen=True)
class TwinTask:
    """One twin: a short movie of known truth whose middle frame is reconstructed at any dose, with its neighbours' help and without."""

    twin: int
    truth: Sequence[TrueFrame]
    optics: Optics
    view: View
    read_noise_e: float
    excess_noise: float
    margin_angstrom: float
    settings: RefineSettings

    def __call__(self, dose_e_per_angstrom2: float) -> list[dict[str, Any]]:
        """The twin's rows at a dose, one for each window."""
        frames = [
            self._expose(n, relative_image(frame, self.optics, self.view), dose_e_per_angstrom2) for n, frame in enumerate(self.truth)
        ]
        middle = len(frames) // 2
        return [
            {"dose_e_per_angstrom2": dose_e_per_angstrom2} | self._row(part, self.truth[middle].positions)
            for part in (np.stack(frames), np.stack(frames[middle : middle + 1]))
        ]

    def _row(self, frames: np.ndarray, true: np.ndarray) -> dict[str, Any]:
        row = {"window": len(frames), "twin": self.twin, "frame": len(self.truth) // 2, "succeeded": False}
        try:
            estimate, in_view = self._reconstruct(frames)
        except (CalibrationError, InputError):
            return row
        return row if estimate is None else row | self._scored(estimate, in_view, true)

    def _expose(self, frame: int, image: np.ndarray, dose_e_per_angstrom2: float) -> np.ndarray:
        mean_e = dose_e_per_angstrom2 * self.view.pixel_size_angstrom**2
        rng = stream(self.settings.seed, f"dose {dose_e_per_angstrom2:g}", frame, self.twin)
        return counts_with_noise(image, mean_e, self.read_noise_e, self.excess_noise, rng)

    def _reconstruct(self, frames: np.ndarray) -> tuple[FrameEstimate | None, np.ndarray]:
        pixel = self.view.pixel_size_angstrom
        lattice = find_lattice(frames, lattice_constant_angstrom=self.settings.lattice_constant_angstrom, pixel_size_angstrom=pixel)
        image = frames[len(frames) // 2]
        no_bad = np.zeros(image.shape, bool)
        sight = LocaliseSettings(lattice, no_bad, self.read_noise_e, max(self.excess_noise, 1.0), self.margin_angstrom, self.optics)
        located = localise_columns(image, frames.mean(axis=0), len(frames), sight)
        variance_e2 = max(self.excess_noise, 1.0) * image.mean() + self.read_noise_e**2
        weights = np.full(image.shape, 1 / variance_e2, np.float32)
        problem = self._guided(frame_problem(self.twin, image, weights, located, pixel, ("C", "C")), frames)
        grid = grid_around([problem], pixel)
        settings = self.settings if len(frames) > 1 else replace(self.settings, motion=None)
        estimates, _ = refine_frames([problem], self.optics, grid, settings)
        return (estimates[0] if estimates else None), located["in_view"]

    def _guided(self, problem: FrameProblem, frames: np.ndarray) -> FrameProblem:
        """The problem with the mean of the movie as its guide; of the other frames alone where they are to be linked."""
        middle = len(frames) // 2
        linked = self.settings.motion is not None and len(frames) > 1
        members = [n for n in range(len(frames)) if not linked or n != middle]
        return replace(
            problem,
            guide_e=frames[members].mean(axis=0),
            guide_inverse_variance=len(members) * problem.inverse_variance,
            guide_offsets=tuple(n - middle for n in members) if linked else (),
        )

    def _scored(self, estimate: FrameEstimate, in_view: np.ndarray, true: np.ndarray) -> dict[str, Any]:
        size = self.view.size_angstrom
        inside = np.all((true[:, :2] >= 0) & (true[:, :2] <= size), axis=1)
        result = score(estimate.positions[in_view], true[inside], (size, size))
        spread = result.error_angstrom.std(axis=0) if len(result.found) else np.full(3, np.nan)
        return {
            "rmsd_3d_angstrom": result.rmsd_3d_angstrom,
            **{f"sigma_{axis}_angstrom": float(s) for axis, s in zip("xyz", spread)},
            "claimed_sigma_z_angstrom": float(np.sqrt((estimate.sigma[in_view][result.found, 2] ** 2).mean()))
            if len(result.found)
            else np.nan,
            "recall": result.recall,
            "precision": result.precision,
            "succeeded": bool(result.recall >= MINIMUM_RECALL and np.isfinite(result.rmsd_3d_angstrom)),
        }


def twin_truth(view: View, settings: RefineSettings, twin: int) -> list[TrueFrame]:
    """The movie of a twin: a warm sheet under LCBOP, given time for its ripples to settle; the same whatever the dose."""
    specimen = Specimen(settings.temperature_k, settings.lattice_constant_angstrom, equilibration_ps=EQUILIBRATION_PS)
    return true_frames(view, DETECTION_FRAMES, specimen, seed=seed_of(settings.seed, "twin", twin))


def twins_table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Rows of all twins, by dose, window and twin."""
    return pl.DataFrame(list(rows), schema=TWINS).fill_nan(None).sort("dose_e_per_angstrom2", "window", "twin")
