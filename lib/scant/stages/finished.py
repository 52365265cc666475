"""A finished dataset product by product: how notebooks and scripts of one's own read `results/NAME`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from scant.analysis.defect_events import inner_area_angstrom2
from scant.analysis.neighbours import FrameAtoms, iterate_frames
from scant.analysis.samples import iterate_samples
from scant.errors import InputError
from scant.imaging.average import averaged_frame
from scant.imaging.counts import Detector
from scant.imaging.denoise import denoise_frame, window_and_noise
from scant.io.structures import FieldOfView, read_provenance, read_table, read_tables
from scant.io.tasks import MovieFrames
from scant.physics.optics import Optics
from scant.report.findings import Defects, Findings, ReportInputs, Response, collect_findings
from scant.stages.calibration import optics_from, read_arrays, read_detector, read_json
from scant.stages.corrected import CorrectedFrames, usable_frames, window_sources
from scant.stages.facts import coarser_pixels
from scant.stages.integrity import MOVIE
from scant.stages.reporting import Examples, truth_errors

LEARNED = {"ksvd": "denoise/dictionary.npz", "unet": "denoise/unet.npz"}


def open_results(folder: str) -> FinishedRun:
    """The finished run in `folder`, which is looked for from here upwards: `results/demo` is found from anywhere in the repository.

    Raises InputError where there is none.
    """
    here = Path.cwd()
    for place in (here, *here.parents):
        if (place / folder / "frames.parquet").is_file():
            return FinishedRun(place / folder)
    raise InputError(f"{folder}: no finished run in {here} or above; run `make demo`, or give the folder of a run of your own")


@dataclass(frozen=True)
class FinishedRun:
    """Products of one dataset, each read when it is asked for; `movie` is the store with the raw counts."""

    folder: Path

    def table(self, name: str, frame: int | None = None) -> pl.DataFrame:
        """A table by its name in workflow/COLUMNS.md, such as "atoms" or "dose/bound"; of one frame alone where it is given, by id.

        Raises DataIntegrityError when the run has no such table.
        """
        path = str(self.folder / f"{name}.parquet")
        if frame is None:
            return read_table(path)
        rows = pl.scan_parquet(path, glob=False).filter(pl.col("frame") == frame).collect()
        return rows.sort("id", maintain_order=True) if "id" in rows.columns else rows

    def blocks(self, stage: str, part: str = "") -> pl.DataFrame | None:
        """A stage's tables of all blocks, one after another: ("anneal", "samples") reads anneal/BLOCK.samples.parquet; None without."""
        paths = self._of_blocks(stage, part)
        return read_tables([str(path) for path in paths]) if all(path.is_file() for path in paths) else None

    def used(self, stage: str) -> dict[str, Any]:
        """The parameters that a stage ran with, as its first table tells them; empty where it did not run."""
        written = [*self._of_blocks(stage, "")[:1], *self._of_blocks(stage, "failures")[:1], self.folder / f"{stage}.parquet"]
        return next((read_provenance(str(path)).get("params", {}) for path in written if path.is_file()), {})

    def _of_blocks(self, stage: str, part: str) -> list[Path]:
        return [self.folder / stage / f"{block}{'.' * bool(part)}{part}.parquet" for block in self.facts["blocks"]]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What ingest found out about the movie, and what is missing."""
        return read_json(str(self.folder / "ingest/facts.json"))

    @cached_property
    def calibration(self) -> dict[str, Any]:
        return read_json(str(self.folder / "calibration.json"))

    @property
    def optics(self) -> Optics | None:
        """The fitted optics; None for a run in 2D."""
        found = self.calibration["optics"]
        return optics_from(found) if found else None

    @cached_property
    def detector(self) -> Detector:
        return read_detector(str(self.folder / "calibrate/detector.npz"))

    @property
    def movie(self) -> str:
        return str(self.folder / MOVIE)

    @cached_property
    def examples(self) -> Examples:
        """Single frames, raw, corrected and modelled."""
        return Examples(self.movie, self.detector, self.calibration, self.used("correct")["hit_threshold_sigma"])

    @property
    def atoms(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.folder / "atoms.parquet", glob=False)

    def structure(self, frame: int) -> FrameAtoms:
        """The atoms of a frame, in the order of their ids. Raises InputError for a frame without a structure."""
        rows = self.table("atoms", frame)
        if not rows.height:
            raise InputError(f"{self.folder}: frame {frame} has no structure; failures.parquet says why, or the movie has no such frame")
        return next(iterate_frames(rows))

    def bonded(self, frame: int) -> np.ndarray:
        """Bonds (m, 2) of a frame as places of its atoms in `structure`."""
        return np.searchsorted(self.structure(frame).ids, self.table("bonds", frame).select("id_a", "id_b").to_numpy())

    def samples(self, frame: int) -> np.ndarray | None:
        """Positions (S, n, 3), in angstrom, of a frame's atoms in the samples of its posterior; None for a run in 2D."""
        paths = self._of_blocks("anneal", "samples")
        if not all(path.is_file() for path in paths):
            return None
        drawn = pl.concat([pl.scan_parquet(path, glob=False).filter(pl.col("frame") == frame) for path in paths]).collect()
        return next(iterate_samples(self.table("atoms", frame), drawn))[1]

    def averaged(self, frame: int) -> tuple[np.ndarray, int]:
        """The mean (y, x) in electrons of a frame's window, drift taken out, and how many frames it holds.

        A run deletes its stacks of means and of denoised images; this makes one of them again, as the run did.
        """
        return averaged_frame(**self._window(frame))

    def _window(self, frame: int) -> dict[str, Any]:
        """The frame's window as `averaged_frame` and `window_and_noise` take it."""
        known = read_tables([str(path) for path in self._of_blocks("correct", "")])
        corrected = CorrectedFrames(MovieFrames(self.movie), self.detector, self.examples.hit_threshold_sigma, usable_frames(known))
        sources = window_sources(corrected, self.used("average")["window"] // 2, known, self.table("align/drift"), [frame])
        return {name: source(frame) for name, source in sources.items()}

    def denoised(self, frame: int) -> np.ndarray:
        """The frame's image (y, x), denoised as the run did; NaN for a frame that could not be corrected."""
        mean, count = self.averaged(frame)
        if not count:
            return mean
        used, detector = self.used("denoise"), self.detector
        coarser = coarser_pixels(self.facts, self.calibration["pixel_size_angstrom"]) if used["coarse_pixels"] else 1
        known: dict[str, Any] = {"spectrum": detector.noise_spectrum, "coarser": coarser}
        if used["method"] == "bm3d" and used["across_frames"]:
            known |= {"read_noise_e": detector.read_noise_e, "excess_noise": detector.excess_noise}
            return window_and_noise(**self._window(frame), **known)[0]
        known |= {"read_noise_e": detector.read_noise_e / count**0.5, "excess_noise": detector.excess_noise / count}
        learned = read_arrays(str(self.folder / LEARNED[used["method"]])) if used["method"] in LEARNED else None
        return denoise_frame(mean, method=used["method"], learned=learned, **known).image_e

    @cached_property
    def findings(self) -> Findings:
        """What the report computes from the tables: frames that count, sampled frames, quantiles of sigma, bonds, ripples, rigidity."""
        sums = self.blocks("electrons", "sums")
        threshold = self.folder / "dose/threshold.json"
        return collect_findings(
            ReportInputs(
                name=self.folder.name,
                atoms=self.atoms,
                frames=self.table("frames"),
                calibration=self.calibration,
                parameters={stage: self.used(stage) for stage in ("average", "anneal")},
                md=self.table("md"),
                dose=self._made("dose"),
                dose_bound=self._made("dose/bound"),
                defocus_bound=self._made("dose/defocus"),
                dose_summary=read_json(str(threshold)) if threshold.is_file() else None,
                failures=self.table("failures"),
                ripple_powers=self.table("ripples"),
                surface=pl.scan_parquet(self.folder / "surface.parquet", glob=False),
                defects=Defects(self.table("defects"), self.table("defect_events"), inner_area_angstrom2(FieldOfView.of(self.calibration))),
                response=Response(pl.scan_parquet(self.folder / "electronic.parquet", glob=False), sums) if sums is not None else None,
            )
        )

    def _made(self, name: str) -> pl.DataFrame | None:
        return self.table(name) if (self.folder / f"{name}.parquet").is_file() else None

    def errors(self, truth: str | None = None) -> pl.DataFrame | None:
        """Errors of the report's sampled frames against a truth (extended XYZ), by default the simulated movie's own; None without one."""
        path = Path(truth) if truth else self.folder / "simulated/truth.extxyz"
        if not path.is_file():
            return None
        return truth_errors(self.findings.sample_table.lazy(), str(path), self.calibration)[0]
