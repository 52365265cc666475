"""Frames through the annealer: what a worker reads and calls for a batch, and the tables that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from scant.errors import FrameFailure
from scant.imaging.average import mean_onto
from scant.imaging.candidates import FLAG_DEFECT
from scant.imaging.correction import counts_and_weights
from scant.imaging.counts import Detector
from scant.inference.prepare import frame_problem, grid_around
from scant.inference.problem import FrameEstimate, FrameProblem, RefineSettings
from scant.inference.refine import frames_that_fit, refine_frames
from scant.io.store import read_frames
from scant.io.structures import read_table
from scant.physics.optics import Optics
from scant.stages.localising import columns_of
from scant.xp import free_memory_bytes

FLAG_NOT_CONVERGED = 1 << 8
ATOMS = {
    "frame": pl.Int64, "id": pl.Int64, "species": pl.String,
    **{f"{prefix}{axis}_angstrom": pl.Float64 for prefix in ("", "sigma_") for axis in "xyz"}, "flag": pl.Int64,
}  # fmt: skip
SAMPLES = {"frame": pl.Int64, "id": pl.Int64, "draw": pl.Int8, **{f"{axis}_angstrom": pl.Float32 for axis in "xyz"}}
CONVERGENCE = {
    "energy": pl.Float64, "chains_in_basin": pl.Int64, "reduced_chi2": pl.Float64, "correlation": pl.Float64, "intensity_e": pl.Float64,
    "acceptance": pl.Float64, "r_hat": pl.Float64, "chain_spread_z_angstrom": pl.Float64,
    "defocus_angstrom": pl.Float64, "sigma_defocus_angstrom": pl.Float64, "converged": pl.Boolean, "n_moves": pl.Int64,
    "n_rebonded": pl.Int64, "motion_angstrom": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Annealed:
    """A frame's estimate or its failure: exactly one is None."""

    frame: int
    estimate: FrameEstimate | None
    failure: FrameFailure | None


@dataclass(frozen=True)
class Window:
    """Which frames guide the search: the `usable` ones among `size` around each, with the drift table that registers them.

    linked: they enter the frame's likelihood, so that the frame itself is kept out of their mean.
    """

    size: int
    usable: frozenset[int]
    drift: str
    linked: bool = False

    def around(self, frame: int) -> tuple[list[int], np.ndarray]:
        """Numbers of the window's frames and the drift (n, 2) as (dy, dx) in pixels."""
        half = self.size // 2
        members = [n for n in range(frame - half, frame + half + 1) if n in self.usable]
        rows = read_table(self.drift).filter(pl.col("frame").is_in(members)).sort("frame")
        return members, rows.select("drift_y_px", "drift_x_px").to_numpy()


@dataclass(frozen=True)
class AnnealTask:
    """Called with a tuple of frames by a worker; reads raw counts, those of the guiding window too, and sites; anneals the batch.

    `unexplained` raises the noise's variance by what the calibration found beyond it (Birge, Phys. Rev. 40 (1932) 207): pixel gains without
    a flat, above all.
    """

    movie: str
    sites: str
    window: Window
    detector: Detector
    optics: Optics
    pixel_size_angstrom: float
    species: tuple[str, ...]
    settings: RefineSettings
    hit_threshold_sigma: float
    device: str
    unexplained: float = 1.0

    def __call__(self, frames: Sequence[int]) -> list[Annealed]:
        table = read_table(self.sites)
        problems = [self.problem(table.filter(frame=frame), frame) for frame in frames]
        grid = grid_around(problems, self.pixel_size_angstrom)
        estimates, failures = refine_frames(problems, self.optics, grid, self.settings, self.device)
        found = {e.frame: Annealed(e.frame, e, None) for e in estimates} | {f.frame: Annealed(f.frame, None, f) for f in failures}
        return [found[frame] for frame in frames]

    def problem(self, rows: pl.DataFrame, frame: int) -> FrameProblem:
        """One frame as the annealer wants it, flat to begin with."""
        counts_e, weights = self._observed(frame)
        alone = frame_problem(frame, counts_e, weights, columns_of(rows), self.pixel_size_angstrom, self.species)
        return self._guided(alone) if self.window.size > 1 else alone

    def _observed(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        raw = read_frames(self.movie, frame, frame + 1)[0]
        counts, weights = counts_and_weights(raw, self.detector, self.hit_threshold_sigma)
        return counts, (weights / self.unexplained).astype(np.float32)

    def _guided(self, problem: FrameProblem) -> FrameProblem:
        """The problem with the mean (H, W) of its window's frames shifted onto it, weight 0 where no frame has a good pixel."""
        members, drift_px = self.window.around(problem.frame)
        offsets = tuple(m - problem.frame for m in members if m != problem.frame) if self.window.linked else ()
        counts, weights = (np.stack(part) for part in zip(*(self._observed(m) for m in members), strict=True))
        own = members.index(problem.frame)
        unseen = weights == 0
        unseen[own] |= bool(offsets)
        mean, used = mean_onto(np.where(unseen, np.nan, counts).astype(np.float32), own, drift_px)
        usual = float(np.median(weights[weights > 0]))
        return replace(
            problem, guide_e=np.nan_to_num(mean), guide_inverse_variance=(used * usual).astype(np.float32), guide_offsets=offsets
        )


def batch_size(frames_per_batch: int | str, task: AnnealTask) -> int:
    """Frames of one batch: as given, or for 'auto' one on the CPU, whose caches hold no more, and what fits on a GPU."""
    if isinstance(frames_per_batch, int):
        return frames_per_batch
    if task.device == "cpu":
        return 1
    sites = read_table(task.sites)
    largest = sites.filter(frame=sites["frame"].value_counts().sort("count")["frame"][-1])
    frame = int(largest["frame"][0])
    grid = grid_around([task.problem(largest, frame)], task.pixel_size_angstrom)
    return frames_that_fit(len(largest), grid, task.settings.n_chains, free_memory_bytes(task.device))


def atoms_table(results: Sequence[Annealed], sites: pl.DataFrame, ids: pl.DataFrame, task: AnnealTask) -> pl.DataFrame:
    """Atoms whose centre lies in the field of view, in frame and identity order, with the standard deviation of each coordinate.

    ids: frame, atom, id. Flags are those of localise, FLAG_DEFECT where annealing found other bonds, and FLAG_NOT_CONVERGED
    where the chains of the frame disagree.
    """
    parts = [_frame_atoms(r.estimate, sites.filter(frame=r.frame), task) for r in results if r.estimate is not None]
    if not parts:
        return pl.DataFrame(schema=ATOMS)
    return pl.concat(parts).join(ids, on=["frame", "atom"], how="left").select(*ATOMS).sort("frame", "id")


def _frame_atoms(estimate: FrameEstimate, rows: pl.DataFrame, task: AnnealTask) -> pl.DataFrame:
    height_px, width_px = task.detector.bad.shape
    not_converged = 0 if estimate.converged else FLAG_NOT_CONVERGED
    columns: dict[str, Any] = {
        "frame": rows["frame"],
        "atom": rows["atom"],
        "species": np.array(task.species)[rows["sublattice"].to_numpy()],
    }
    columns |= {f"{axis}_angstrom": estimate.positions[:, n] for n, axis in enumerate("xyz")}
    columns |= {f"sigma_{axis}_angstrom": estimate.sigma[:, n] for n, axis in enumerate("xyz")}
    columns["flag"] = rows["flag"].to_numpy() | not_converged | np.where(estimate.rebonded, FLAG_DEFECT, 0)
    at_px = estimate.positions[:, :2] / task.pixel_size_angstrom
    inside = ((at_px > -0.5) & (at_px < np.array([width_px, height_px]) - 0.5)).all(axis=1)
    return pl.DataFrame(columns).filter(pl.Series(inside))


def samples_table(results: Sequence[Annealed], sites: pl.DataFrame, ids: pl.DataFrame, atoms: pl.DataFrame) -> pl.DataFrame:
    """Samples of the posterior for the rows of the atoms table: frame, id, draw, x, y, z; neighbours err together in them as they do."""
    parts = [pl.DataFrame(schema=SAMPLES)]
    for estimate in (r.estimate for r in results if r.estimate is not None):
        number = sites.filter(frame=estimate.frame).select("frame", "atom").join(ids, on=["frame", "atom"], how="left")
        for draw, positions in enumerate(estimate.samples):
            columns = {f"{axis}_angstrom": positions[:, n] for n, axis in enumerate("xyz")}
            parts.append(number.with_columns(pl.lit(draw).alias("draw"), **{k: pl.Series(v) for k, v in columns.items()}).select(
                pl.col(name).cast(kind) for name, kind in SAMPLES.items()))  # fmt: skip
    return pl.concat(parts).join(atoms, on=["frame", "id"], how="semi").sort("frame", "draw", "id")


def convergence_table(results: Sequence[Annealed]) -> pl.DataFrame:
    """One row per annealed frame: energy, agreement with the data, acceptance, R-hat."""
    found = [r.estimate for r in results if r.estimate is not None]
    read = [key for key in CONVERGENCE if key != "n_rebonded"]
    rows = [{"frame": e.frame, "n_rebonded": int(e.rebonded.sum()), **{key: getattr(e, key) for key in read}} for e in found]
    return pl.DataFrame(rows, schema={"frame": pl.Int64, **CONVERGENCE}).fill_nan(None)


def trace_table(results: Sequence[Annealed]) -> pl.DataFrame:
    """Energy of every chain after every move, for the middle one of the annealed frames: frame, chain, move, energy."""
    schema = {"frame": pl.Int64, "chain": pl.Int64, "move": pl.Int64, "energy": pl.Float64}
    found = [r.estimate for r in results if r.estimate is not None]
    if not found:
        return pl.DataFrame(schema=schema)
    shown = found[len(found) // 2]
    moves, chains = shown.trace.shape
    chain, move = np.divmod(np.arange(chains * moves), moves)
    return pl.DataFrame(
        {"frame": np.full(len(chain), shown.frame), "chain": chain, "move": move, "energy": shown.trace.T.ravel()}, schema=schema
    )
