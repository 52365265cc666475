"""What the report and the movie show of single frames: images, model, histograms, traces, errors against a truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from scant.analysis.neighbours import iterate_frames
from scant.imaging.correction import counts_and_weights
from scant.imaging.counts import CorrectedFrame, Detector, correct_frame
from scant.imaging.denoise import denoise_frame
from scant.inference.scoring import score
from scant.io.store import read_frames
from scant.physics.forward import ForwardModel, ImageGrid
from scant.report.findings import ExampleImages
from scant.report.movie import FilmFrame
from scant.report.viewer import evenly_spread
from scant.rng import stream
from scant.stages.calibration import optics_from
from scant.stages.truth import read_truth

HEIGHT_SAMPLES = 200_000
PAD_ANGSTROM = 5.0


@dataclass(frozen=True)
class Examples:
    """Single frames of a movie, corrected, denoised or modelled on demand."""

    movie: str
    detector: Detector
    calibration: Mapping[str, Any]
    hit_threshold_sigma: float

    def middle_frame(self, frames: pl.DataFrame) -> int:
        """The middle one of the frames that have a structure; of all frames when none has."""
        good = frames.filter(pl.col("status") == "ok")["frame"]
        usable = good if len(good) else frames["frame"]
        return int(usable[len(usable) // 2])

    def spread(self, frames: pl.DataFrame, count: int) -> list[int]:
        """At most `count` frames spread evenly over those that could be corrected."""
        return [int(f) for f in evenly_spread(frames.filter(pl.col("fault").is_null())["frame"].to_numpy(), count)]

    def corrected(self, frame: int) -> CorrectedFrame:
        return correct_frame(read_frames(self.movie, frame, frame + 1)[0], self.detector, self.hit_threshold_sigma)

    def denoised(self, frame: int) -> np.ndarray:
        """Frame (H, W) in electrons, denoised by BM3D for the eye."""
        d, image = self.detector, self.corrected(frame).image_e
        return denoise_frame(
            image, method="bm3d", read_noise_e=d.read_noise_e, excess_noise=d.excess_noise, spectrum=d.noise_spectrum
        ).image_e

    def modelled(self, frame: int, atoms: pl.LazyFrame) -> np.ndarray | None:
        """Model image (H, W) in electrons of the frame's structure; None without optics or structure."""
        rows = atoms.filter(pl.col("frame") == frame).collect()
        if self.calibration["optics"] is None or not len(rows):
            return None
        height_px, width_px = self.detector.bad.shape
        grid = ImageGrid.padded(height_px, width_px, self.calibration["pixel_size_angstrom"], PAD_ANGSTROM)
        model = ForwardModel(optics_from(self.calibration["optics"]), grid, rows["species"].to_numpy())
        positions = rows.select("x_angstrom", "y_angstrom", "z_angstrom").to_numpy().astype(np.float32)
        image = self.corrected(frame)
        relative = model.image(positions[None])[0]
        return relative * float(image.image_e[image.weight_mask].mean() / relative.mean())

    def images(self, frame: int, atoms: pl.LazyFrame) -> ExampleImages:
        """Raw, corrected and modelled image of one frame, and (counts - model) / sigma, NaN at pixels without counts."""
        raw = read_frames(self.movie, frame, frame + 1)[0]
        counts_e, weights = counts_and_weights(raw, self.detector, self.hit_threshold_sigma)
        model = self.modelled(frame, atoms)
        # weights are for the noise at the reflections; here a single pixel's counts
        per_sigma = np.where(weights > 0, np.sqrt(weights * self.detector.signal_noise), np.nan)
        residual = None if model is None else (counts_e - model) * per_sigma
        return ExampleImages(frame, raw, counts_e, model, residual, self.calibration["pixel_size_angstrom"])

    def histograms(self, frame: int, atoms: pl.LazyFrame) -> tuple[np.ndarray, np.ndarray] | None:
        """Measured counts of the good pixels, and the model's with the calibrated noise; None without a model."""
        model = self.modelled(frame, atoms)
        if model is None:
            return None
        corrected = self.corrected(frame)
        kept = corrected.weight_mask
        spread = np.sqrt(self.detector.excess_noise * np.maximum(model[kept], 0) + self.detector.read_noise_e**2)
        return corrected.image_e[kept], model[kept] + spread * stream(0, "report-histogram", frame).standard_normal(kept.sum())


def energy_traces(traces: pl.DataFrame, frame: int) -> tuple[np.ndarray, int]:
    """Energies (chains, moves) of the traced frame nearest to the given one, and that frame."""
    numbers = traces["frame"].unique().to_numpy()
    nearest = int(numbers[np.abs(numbers - frame).argmin()])
    rows = traces.filter(pl.col("frame") == nearest).sort("chain", "move")
    return rows["energy"].to_numpy().reshape(rows["chain"].n_unique(), -1), nearest


def truth_errors(atoms: pl.LazyFrame, truth: str, calibration: Mapping[str, Any]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of matched atoms with frame, error_{x,y,z}_angstrom and sigma_{x,y,z}_angstrom, and frames with recall, precision, RMSD.

    z is missing in a 2D dataset; the RMSD of a frame is over what is known.
    """
    known = read_truth(truth)
    view = (calibration["width_px"] * calibration["pixel_size_angstrom"], calibration["height_px"] * calibration["pixel_size_angstrom"])
    parts, scores = [], []
    for frame in iterate_frames(atoms.collect()):
        if frame.frame not in known:
            continue
        result = score(frame.xyz_angstrom, known[frame.frame], view)
        sigma = frame.sigma_angstrom[result.found]
        columns = {f"error_{axis}_angstrom": result.error_angstrom[:, n] for n, axis in enumerate("xyz")}
        columns |= {f"sigma_{axis}_angstrom": sigma[:, n] for n, axis in enumerate("xyz")}
        parts.append(pl.DataFrame({"frame": np.full(len(result.found), frame.frame), **columns}))
        scores.append((frame.frame, result.recall, result.precision, result.rmsd_3d_angstrom))
    table = pl.DataFrame(scores, schema=["frame", "recall", "precision", "rmsd_3d_angstrom"], orient="row")
    return (pl.concat(parts) if parts else pl.DataFrame()), table


def sampled_heights(atoms: pl.LazyFrame) -> np.ndarray:
    """Heights of at most 200,000 atoms, for the movie's colour scale."""
    return atoms.select(pl.col("z_angstrom").fill_null(np.nan)).head(HEIGHT_SAMPLES).collect().to_numpy().ravel()


def film_frames(examples: Examples, atoms: pl.LazyFrame, frames: pl.DataFrame, chosen: Sequence[int]) -> Iterator[FilmFrame]:
    """The movie's pictures one by one: denoised image and structure."""
    status = dict(frames.select("frame", "status").iter_rows())
    for number in chosen:
        rows = list(iterate_frames(atoms.filter(pl.col("frame") == number).collect()))
        yield FilmFrame(number, examples.denoised(number), rows[0] if rows else None, status[number])
