"""The dose below which reconstruction fails: where the 3D RMSD curve crosses the criterion, with a bootstrap interval.

The criterion 0.87 angstrom is the RMSD at 4.6e3 e/A^2, the dose below which the source's reconstructions fail
(Zhang et al., arXiv 2604.07271).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from scant.errors import InputError

SOURCE_FAILURE_RMSD_ANGSTROM = 0.87
Position = Literal["crossed", "below", "above"]


@dataclass(frozen=True)
class Threshold:
    """Dose (e/A^2) from which on every tested dose meets the criterion, with the interval that holds `confidence`.

    position: 'crossed'; 'below': even the lowest dose tested meets it, the dose given is an upper bound; 'above': the
    highest fails, the dose given is a lower bound. low_open, high_open: that end of the interval left the tested range.
    """

    dose_e_per_angstrom2: float
    low_e_per_angstrom2: float
    high_e_per_angstrom2: float
    position: Position
    low_open: bool
    high_open: bool
    criterion_angstrom: float
    confidence: float

    @property
    def text(self) -> str:
        """The threshold in words."""
        if self.position == "below":
            return f"below the lowest dose tested ({self.dose_e_per_angstrom2:.4g} e/Å²)"
        if self.position == "above":
            return f"above the highest dose tested ({self.dose_e_per_angstrom2:.4g} e/Å²)"
        low = f"{'≤ ' if self.low_open else ''}{self.low_e_per_angstrom2:.3g}"
        high = f"{'≥ ' if self.high_open else ''}{self.high_e_per_angstrom2:.3g}"
        return f"{self.dose_e_per_angstrom2:.3g} e/Å² ({self.confidence:.0%} interval {low} to {high})"

    def summary(self) -> dict[str, float | str | bool]:
        """The threshold as the `dose_summary` that the report takes."""
        return {
            "threshold_e_per_angstrom2": self.dose_e_per_angstrom2,
            "low_e_per_angstrom2": self.low_e_per_angstrom2,
            "high_e_per_angstrom2": self.high_e_per_angstrom2,
            "position": self.position,
            "criterion_angstrom": self.criterion_angstrom,
            "confidence": self.confidence,
            "text": self.text,
        }


def dose_threshold(
    dose_e_per_angstrom2: np.ndarray,
    rmsd_angstrom: np.ndarray,
    criterion_angstrom: float = SOURCE_FAILURE_RMSD_ANGSTROM,
    n_bootstrap: int = 2000,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> Threshold:
    """Threshold from the median RMSD over twins, interpolated in log dose and log RMSD.

    dose (d,), rmsd (d, twins); inf is a failed reconstruction, NaN one that was not made. The bootstrap draws twins.
    The highest crossing counts, so a lucky low dose cannot lower the threshold.
    Raises InputError for shapes that do not fit, doses not positive and distinct, RMSD not positive, a dose without result.
    """
    dose, rmsd = _checked(dose_e_per_angstrom2, rmsd_angstrom)
    value, position = _crossing(dose, _median(rmsd), criterion_angstrom)
    draws = rng.integers(rmsd.shape[1], size=(n_bootstrap, rmsd.shape[1]))
    boot = [_crossing(dose, _median(rmsd[:, draw]), criterion_angstrom) for draw in draws]
    tail = 50 * (1 - confidence)
    low, high = np.percentile([v for v, _ in boot], [tail, 100 - tail], method="nearest")
    n_below, n_above = (sum(p == side for _, p in boot) for side in ("below", "above"))
    return Threshold(
        value,
        float(low),
        float(high),
        position,
        low_open=n_below > tail / 100 * n_bootstrap,
        high_open=n_above > tail / 100 * n_bootstrap,
        criterion_angstrom=criterion_angstrom,
        confidence=confidence,
    )


def rmsd_by_dose(dose: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Doses (d,) ascending and RMSD (d, twins) from a dose table: the median over a twin's frames.

    A frame that did not succeed, or has no RMSD, counts as inf; a twin missing at a dose is NaN.
    """
    value = pl.when(pl.col("succeeded")).then(pl.col("rmsd_3d_angstrom")).fill_null(float("inf"))
    per_twin = dose.with_columns(value=value).group_by("dose_e_per_angstrom2", "twin").agg(pl.col("value").median())
    doses, row = np.unique(per_twin["dose_e_per_angstrom2"].to_numpy(), return_inverse=True)
    twins, column = np.unique(per_twin["twin"].to_numpy(), return_inverse=True)
    rmsd = np.full((doses.size, twins.size), np.nan)
    rmsd[row, column] = per_twin["value"].to_numpy()
    return doses, rmsd


def _checked(dose: np.ndarray, rmsd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dose, rmsd = np.asarray(dose, dtype=float), np.asarray(rmsd, dtype=float)
    if dose.ndim != 1 or rmsd.ndim != 2 or rmsd.shape[0] != dose.size or rmsd.size == 0:
        raise InputError(f"dose series: doses {dose.shape} and RMSD {rmsd.shape} do not fit; expected (d,) and (d, twins)")
    if not (dose > 0).all() or np.unique(dose).size != dose.size:
        raise InputError(f"dose series: doses {dose.tolist()} e/A^2 must be positive and distinct")
    if (rmsd <= 0).any():
        raise InputError(f"dose series: RMSD {np.nanmin(rmsd)} angstrom is not positive; use NaN for missing, inf for failed")
    empty = dose[np.isnan(rmsd).all(axis=1)]
    if empty.size:
        raise InputError(f"dose series: no result at {empty.tolist()} e/A^2; leave the dose out or count it as failed (inf)")
    order = np.argsort(dose)
    return dose[order], rmsd[order]


def _median(rmsd: np.ndarray) -> np.ndarray:
    """Median over twins; a dose all of whose drawn twins are missing counts as failed."""
    ordered = np.sort(rmsd, axis=1)
    count = np.sum(~np.isnan(ordered), axis=1)
    rows = np.arange(len(rmsd))
    middle = 0.5 * (ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, count // 2])
    return np.where(count > 0, middle, np.inf)


def _crossing(dose: np.ndarray, rmsd: np.ndarray, criterion: float) -> tuple[float, Position]:
    failed = np.flatnonzero(rmsd > criterion)
    if failed.size == 0:
        return float(dose[0]), "below"
    last = int(failed[-1])
    if last == dose.size - 1:
        return float(dose[-1]), "above"
    if not np.isfinite(rmsd[last]):
        return float(dose[last + 1]), "crossed"
    x, y = np.log(dose[last : last + 2]), np.log(rmsd[last : last + 2])
    return float(np.exp(x[0] + (np.log(criterion) - y[0]) / (y[1] - y[0]) * (x[1] - x[0]))), "crossed"
