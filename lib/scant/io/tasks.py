"""A pure function over the frames of stacks, in a form that workers can receive: what to read, what to call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scant.io.manifest import ChunkRecord
from scant.io.store import StackReader, layout_of, read_frames, write_frames
from scant.xp import to_numpy


@dataclass(frozen=True)
class MovieFrames:
    """Single frames (y, x) of a movie store, for those who read them in order: a time chunk is decoded once."""

    path: str
    _chunk: dict[int, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, frame: int) -> np.ndarray:
        if frame not in self._chunk:
            layout = layout_of(self.path)
            start = frame - frame % layout.chunk_frames
            stop = min(start + layout.chunk_frames, layout.n_frames)
            self._chunk.clear()
            self._chunk.update(zip(range(start, stop), read_frames(self.path, start, stop)))
        return self._chunk[frame]


@dataclass(frozen=True)
class StackFrames:
    """Single frames (y, x) of one or more block stacks."""

    paths: tuple[str, ...]

    def __call__(self, frame: int) -> np.ndarray:
        return StackReader(self.paths).read(frame, frame + 1)[0]


@dataclass(frozen=True)
class FrameTask:
    """Calls `function` with its constants and, by name, what each source gives for the frame."""

    function: Callable[..., Any]
    sources: Mapping[str, Callable[[int], Any]]
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, frame: int) -> Any:
        return self.function(**{name: source(frame) for name, source in self.sources.items()}, **self.constants)


@dataclass(frozen=True)
class StoredTask:
    """A task that gives an image (y, x) and something else: the image goes into the frame's own chunk of a stack, never through Dask."""

    task: FrameTask
    stack: str

    def __call__(self, frame: int) -> tuple[ChunkRecord, Any]:
        image, rest = self.task(frame)
        (record,) = write_frames(self.stack, frame, to_numpy(image).astype(np.float32, copy=False)[None])
        return record, rest


@dataclass(frozen=True)
class PerFrame:
    """A value per frame given as a mapping, as a source of a FrameTask."""

    values: Mapping[int, Any]

    def __call__(self, frame: int) -> Any:
        return self.values[frame]
