"""Simulated twins of a dataset: same optics, lattice and noise, known truth, another dose; through localisation and annealing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from scant.errors import CalibrationError, InputError
from scant.imaging.reciprocal import find_lattice
from scant.inference.prepare import frame_problem, grid_around
from scant.inference.refine import FrameEstimate, RefineSettings, refine_frames
from scant.inference.scoring import score
from scant.physics.detector import counts_with_noise
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, View, relative_image, true_frames
from scant.rng import stream
from scant.stages.localising import LocaliseSettings, localise_columns

TWINS = {
    "dose_e_per_angstrom2": pl.Float64, "window": pl.Int64, "twin": pl.Int64, "frame": pl.Int64, "rmsd_3d_angstrom": pl.Float64,
    "sigma_x_angstrom": pl.Float64, "sigma_y_angstrom": pl.Float64, "sigma_z_angstrom": pl.Float64,
    "claimed_sigma_z_angstrom": pl.Float64, "recall": pl.Float64, "precision": pl.Float64, "succeeded": pl.Boolean,
}  # fmt: skip
DETECTION_FRAMES = 5
MINIMUM_RECALL = 0.9


@dataclass(frozen=True)
class TwinTask:
    """One twin at one dose: a short movie whose middle frame is reconstructed and scored, with its neighbours' help and without."""

    optics: Optics
    view: View
    dose_e_per_angstrom2: float
    read_noise_e: float
    excess_noise: float
    margin_angstrom: float
    settings: RefineSettings

    def __call__(self, twin: int) -> list[dict[str, Any]]:
        """The twin's rows, one for each window; the same twin has the same truth at every dose."""
        specimen = Specimen(self.settings.temperature_k, self.settings.lattice_constant_angstrom)
        truth = true_frames(self.view, DETECTION_FRAMES, specimen, seed=self.settings.seed + twin)
        frames = [self._expose(twin, n, relative_image(frame, self.optics, self.view)) for n, frame in enumerate(truth)]
        middle = DETECTION_FRAMES // 2
        return [self._row(twin, part, truth[middle].positions) for part in (np.stack(frames), np.stack(frames[middle : middle + 1]))]

    def _row(self, twin: int, frames: np.ndarray, true: np.ndarray) -> dict[str, Any]:
        known = {"dose_e_per_angstrom2": self.dose_e_per_angstrom2, "window": len(frames), "twin": twin, "frame": DETECTION_FRAMES // 2}
        row = known | {"succeeded": False}
        try:
            estimate, in_view = self._reconstruct(twin, frames)
        except (CalibrationError, InputError):
            return row
        return row if estimate is None else row | self._scored(estimate, in_view, true)

    def _expose(self, twin: int, frame: int, image: np.ndarray) -> np.ndarray:
        mean_e = self.dose_e_per_angstrom2 * self.view.pixel_size_angstrom**2
        rng = stream(self.settings.seed, f"dose {self.dose_e_per_angstrom2:g}", frame, twin)
        return counts_with_noise(image, mean_e, self.read_noise_e, self.excess_noise, rng)

    def _reconstruct(self, twin: int, frames: np.ndarray) -> tuple[FrameEstimate | None, np.ndarray]:
        pixel = self.view.pixel_size_angstrom
        lattice = find_lattice(frames, lattice_constant_angstrom=self.settings.lattice_constant_angstrom, pixel_size_angstrom=pixel)
        image = frames[len(frames) // 2]
        no_bad = np.zeros(image.shape, bool)
        sight = LocaliseSettings(lattice, no_bad, self.read_noise_e, max(self.excess_noise, 1.0), self.margin_angstrom, self.optics)
        located = localise_columns(image, frames.mean(axis=0), len(frames), sight)
        variance_e2 = max(self.excess_noise, 1.0) * image.mean() + self.read_noise_e**2
        weights = np.full(image.shape, 1 / variance_e2, np.float32)
        guide = frames.mean(axis=0), len(frames) * weights
        problem = frame_problem(twin, image, weights, located, pixel, ("C", "C"), guide)
        grid = grid_around([problem], pixel)
        estimates, _ = refine_frames([problem], self.optics, grid, self.settings)
        return (estimates[0] if estimates else None), located["in_view"]

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


def twins_table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Rows of all twins, by dose, window and twin."""
    return pl.DataFrame(list(rows), schema=TWINS).fill_nan(None).sort("dose_e_per_angstrom2", "window", "twin")
