"""Corrected frames made from the raw movie when they are asked for: cheaper than a stack of them, which for a long movie fills the disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from scant.imaging.counts import Detector, correct_frame
from scant.io.tasks import MovieFrames, PerFrame
from scant.xp import module_for


def usable_frames(frames: pl.DataFrame) -> frozenset[int]:
    """Frames that could be corrected, from the tables of the stage `correct` (frame, mean_e)."""
    return frozenset(frames.filter(pl.col("mean_e").is_not_null())["frame"].to_list())


@dataclass(frozen=True)
class CorrectedFrames:
    """Single frames (y, x) float32 in electrons, made and left on a resolved `device`; NaN for a frame that is not `usable`."""

    movie: MovieFrames
    detector: Detector
    hit_threshold_sigma: float
    usable: frozenset[int]
    device: str = "cpu"

    def __call__(self, frame: int) -> Any:
        xp = module_for(self.device)
        if frame not in self.usable:
            return xp.full(self.detector.bad.shape, np.nan, np.float32)
        return correct_frame(xp.asarray(self.movie(frame)), self._detector_there, self.hit_threshold_sigma).image_e

    @cached_property
    def _detector_there(self) -> Detector:
        return self.detector.on(module_for(self.device))

    def stack(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) as (t, y, x)."""
        return np.stack([self(frame) for frame in range(start, stop)])


@dataclass(frozen=True)
class CorrectedAround:
    """The corrected frames, each (y, x), within `reach` of a frame, out of [first, stop); those of the last call are kept for the next."""

    frames: CorrectedFrames
    reach: int
    first: int
    stop: int
    _held: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)

    def numbers(self, frame: int) -> range:
        return range(max(frame - self.reach, self.first), min(frame + self.reach + 1, self.stop))

    def __call__(self, frame: int) -> list[Any]:
        images: Mapping[int, Any] = {n: self._held[n] if n in self._held else self.frames(n) for n in self.numbers(frame)}
        self._held.clear()
        self._held.update(images)
        return list(images.values())


def window_sources(frames: CorrectedFrames, reach: int, known: pl.DataFrame, drift: pl.DataFrame, wanted: Iterable[int]) -> dict[str, Any]:
    """Sources of a `FrameTask` by name, for each wanted frame: its window's `frames`, its place `own` among them, and their `drift_px`.

    known: the tables of `correct` of all blocks within reach; drift: the movie's, of `align`.
    """
    around = CorrectedAround(frames, reach, int(known["frame"].min()), int(known["frame"].max()) + 1)  # type: ignore[arg-type]
    drift_px = drift.select("drift_y_px", "drift_x_px").to_numpy()
    numbers = {frame: around.numbers(frame) for frame in wanted}
    own = PerFrame({frame: frame - window.start for frame, window in numbers.items()})
    return {"frames": around, "own": own, "drift_px": PerFrame({frame: drift_px[n.start : n.stop] for frame, n in numbers.items()})}
