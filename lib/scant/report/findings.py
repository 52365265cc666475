"""What a run hands to the report, and what is computed from it once for all sections.

Tables may be lazy: statistics over all atoms run streaming, and figures that need atoms take at most 60 frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from scant.analysis.bonds import bond_table
from scant.analysis.neighbours import SIGMA, FrameAtoms, iterate_frames
from scant.analysis.rigidity import Rigidity, bending_rigidity
from scant.analysis.ripples import ripple_table
from scant.analysis.strain import GRAPHENE_LATTICE_ANGSTROM
from scant.inference.problem import frames_are_linked, schedule_of
from scant.report.viewer import MAX_FRAMES, evenly_spread

QUANTILE_STEP_ANGSTROM = 1e-4


@dataclass(frozen=True)
class ExampleImages:
    """One frame at three stages, each (y, x), and what is left over in units of the noise; no model where the optics are unknown."""

    frame: int
    raw_adu: np.ndarray
    corrected_e: np.ndarray
    model_e: np.ndarray | None = None
    residual_sigma: np.ndarray | None = None
    pixel_size_angstrom: float = 1.0


@dataclass(frozen=True)
class Response:
    """Tables behind the electronic section: response of all atoms, and each frame's sums for the correlations."""

    electronic: pl.LazyFrame
    sums: pl.DataFrame


@dataclass(frozen=True)
class Defects:
    """`tracked_defects` and `event_table` of the movie, and the area of the view in which defects are looked for."""

    tracked: pl.DataFrame
    events: pl.DataFrame
    area_angstrom2: float


@dataclass(frozen=True)
class ReportInputs:
    """What a run has: tables of the data contracts, and None for what it has not.

    parameters: {stage: {key: value}} as really used. provenance: {name: value or mapping}. truth: rows of matched atoms
    with error_{x,y,z}_angstrom and sigma_{x,y,z}_angstrom; truth_scores: recall, precision, rmsd_3d_angstrom of each frame.
    dose_summary: `Threshold.summary()`. histograms: measured and simulated intensities in electrons. energy: (chains, moves) of
    the example frame. denoisers: tables of `compare_denoisers`. response: None without optics. ripple_powers:
    `ripple_power_table` of all frames. surface, bonds: `surface_table` and `sampled_bond_table` of all frames. viewer_frames: at most so
    many in the 3D view.
    """

    name: str
    atoms: pl.DataFrame | pl.LazyFrame
    frames: pl.DataFrame
    calibration: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    md: pl.DataFrame | None = None
    dose: pl.DataFrame | None = None
    dose_bound: pl.DataFrame | None = None
    defocus_bound: pl.DataFrame | None = None
    dose_summary: dict[str, Any] | None = None
    failures: pl.DataFrame | None = None
    example: ExampleImages | None = None
    truth: pl.DataFrame | None = None
    truth_scores: pl.DataFrame | None = None
    histograms: tuple[np.ndarray, np.ndarray] | None = None
    energy: np.ndarray | None = None
    denoisers: tuple[pl.DataFrame, pl.DataFrame] | None = None
    response: Response | None = None
    ripple_powers: pl.DataFrame | None = None
    defects: Defects | None = None
    surface: pl.LazyFrame | None = None
    bonds: pl.LazyFrame | None = None
    viewer_frames: int = MAX_FRAMES


@dataclass(frozen=True)
class Findings:
    """What is computed once and used by several sections."""

    inputs: ReportInputs
    good_frames: np.ndarray
    sample: list[FrameAtoms]
    sample_table: pl.DataFrame
    sigma_quantiles: np.ndarray
    atoms_per_frame: tuple[float, float]

    @property
    def heights(self) -> bool:
        return bool(self.sample) and all(frame.has_heights for frame in self.sample)

    @property
    def lattice_angstrom(self) -> float:
        constant = self.calibrated("lattice").get("lattice_constant_angstrom")
        return float(constant or GRAPHENE_LATTICE_ANGSTROM)

    @property
    def shown(self) -> FrameAtoms | None:
        """The frame of the example images where it was reconstructed, else the middle one of the sample."""
        if not self.sample:
            return None
        wanted = self.inputs.example.frame if self.inputs.example else None
        return next((f for f in self.sample if f.frame == wanted), self.sample[len(self.sample) // 2])

    @property
    def clean_sigma_angstrom(self) -> np.ndarray:
        """Stated sigma (n, 3) of the sampled atoms without a flag, NaN where not known."""
        clean = self.sample_table.filter(pl.col("flag").fill_null(0) == 0)
        return clean.select(pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in SIGMA).to_numpy()

    def used(self, stage: str) -> dict[str, Any]:
        """The parameters of a stage, none where they are not known."""
        return self.inputs.parameters.get(stage, {})

    def calibrated(self, part: str) -> dict[str, Any]:
        """The calibrated optics or detector, nothing where they are not known."""
        return self.inputs.calibration.get(part) or {}

    def pairs_of(self, frame: int) -> np.ndarray:
        """Bonds (n, 2) of a sampled frame as numbers of its atoms."""
        atoms = next(f for f in self.sample if f.frame == frame)
        return np.searchsorted(atoms.ids, self.bonds.filter(pl.col("frame") == frame).select("id_a", "id_b").to_numpy())

    @cached_property
    def bonds(self) -> pl.DataFrame:
        """Bonds of the sampled frames: the run's own, whose sigma comes from samples of the posterior, where they are there."""
        if self.inputs.bonds is None:
            return bond_table(self.sample_table)
        return self.inputs.bonds.filter(pl.col("frame").is_in([frame.frame for frame in self.sample])).collect()

    @cached_property
    def ripples(self) -> pl.DataFrame:
        return ripple_table(self.sample_table)

    @cached_property
    def rigidity(self) -> Rigidity | None:
        """Of the frames that count, at the temperature of the prior."""
        powers, temperature = self.inputs.ripple_powers, self.used("anneal").get("temperature_k")
        if powers is None or temperature is None:
            return None
        return bending_rigidity(powers.filter(pl.col("frame").is_in(self.good_frames.tolist())), temperature)

    @property
    def n_annealed(self) -> int:
        """Moves of a chain before it samples the frame's own posterior."""
        used = self.used("anneal")
        return schedule_of(used).n_searched(self.linked) if used else 0

    @property
    def linked(self) -> bool:
        """Whether a frame's neighbours entered its likelihood."""
        used = self.used("anneal")
        return "link_frames" in used and frames_are_linked(used, self.used("average").get("window", 1))

    @property
    def times_ms(self) -> dict[int, float]:
        table = self.inputs.frames
        return dict(table.select("frame", "time_ms").drop_nulls().iter_rows()) if "time_ms" in table.columns else {}


def collect_findings(inputs: ReportInputs) -> Findings:
    """Statistics over the atoms of frames that succeeded and converged, and the evenly spread sample of such frames."""
    good = inputs.frames
    if "status" in good.columns:
        good = good.filter(pl.col("status") == "ok")
    if "converged" in good.columns:
        good = good.filter(pl.col("converged").fill_null(True))
    atoms = inputs.atoms.lazy().filter(pl.col("frame").is_in(good["frame"].to_list()))
    with_atoms = atoms.group_by("frame").agg(pl.len().alias("n")).sort("frame").collect(engine="streaming")
    chosen = evenly_spread(with_atoms["frame"].to_numpy(), MAX_FRAMES).tolist()
    if inputs.example is not None and inputs.example.frame in with_atoms["frame"]:
        chosen = sorted({*chosen, inputs.example.frame})
    sample_table = atoms.filter(pl.col("frame").is_in(chosen)).collect(engine="streaming")
    clean = atoms.filter(pl.col("flag").fill_null(0) == 0)
    quantiles = np.array([_quantiles(clean, name) for name in SIGMA])
    count = with_atoms["n"].cast(pl.Float64).to_numpy()
    per_frame = (float(count.mean()), float(count.std())) if count.size else (np.nan, np.nan)
    return Findings(inputs, good["frame"].to_numpy(), list(iterate_frames(sample_table)), sample_table, quantiles, per_frame)


def _quantiles(atoms: pl.LazyFrame, column: str, levels: tuple[float, ...] = (0.05, 0.5, 0.95)) -> list[float]:
    """Quantiles to 1e-4 angstrom from a streamed histogram: memory does not grow with the film; NaN without values."""
    value = pl.col(column).cast(pl.Float64)
    steps = (value / QUANTILE_STEP_ANGSTROM).round().alias("step")
    counts = atoms.filter(value.is_finite()).select(steps).group_by("step").len().sort("step").collect(engine="streaming")
    if counts.height == 0:
        return [np.nan] * len(levels)
    cumulative = np.cumsum(counts["len"].to_numpy())
    positions = np.searchsorted(cumulative, np.array(levels) * cumulative[-1])
    return (counts["step"].to_numpy()[positions] * QUANTILE_STEP_ANGSTROM).tolist()
