"""A pure function over the frames of stacks, in a form that workers can receive: what to read, what to call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scant.io.store import ChunkRecord, StackReader, read_frames, write_frames


@dataclass(frozen=True)
class MovieFrames:
    """Single frames (y, x) of a movie store."""

    path: str

    def __call__(self, frame: int) -> np.ndarray:
        return read_frames(self.path, frame, frame + 1)[0]


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
        (record,) = write_frames(self.stack, frame, np.asarray(image, np.float32)[None])
        return record, rest


@dataclass(frozen=True)
class PerFrame:
    """A value per frame given as a mapping, as a source of a FrameTask."""

    values: Mapping[int, Any]

    def __call__(self, frame: int) -> Any:
        return self.values[frame]
