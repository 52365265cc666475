"""Arithmetic of frames, time chunks and blocks: a job is a block, and jobs never share a chunk."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scant.errors import ConfigError, InputError

CHUNK_FRAMES_MAX = 64
SPARE_FRAMES = 8
BLOCK_FRAMES, BLOCK_FRAMES_MAX, BLOCKS_MIN = 64, 512, 16
LARGE_FRAME_PX = 2048 * 2048
CHUNK_TARGET_BYTES = 4 * 2**20


@dataclass(frozen=True, order=True)
class Block:
    """Frames [start, stop), the `index`-th block of the movie."""

    index: int
    start: int
    stop: int

    @property
    def label(self) -> str:
        """Name for files and wildcards, sorted like the frames: 0000000-0000064."""
        return f"{self.start:07d}-{self.stop:07d}"

    @property
    def frames(self) -> range:
        return range(self.start, self.stop)


def parse_label(label: str) -> tuple[int, int]:
    """(start, stop) of a block's label; InputError for anything else."""
    match = re.fullmatch(r"(\d{7,})-(\d{7,})", label)
    if match is None or int(match[1]) >= int(match[2]):
        raise InputError(f"block label {label!r}: expected START-STOP with seven digits or more each, such as 0000000-0000064")
    return int(match[1]), int(match[2])


def frames_of_a_block(asked: int | Literal["auto"], n_frames: int, frame_px: int, chunk_frames: int) -> int:
    """Frames of one job: the number asked for, rounded up to whole time chunks.

    'auto' is 64; of small frames in a long movie, where jobs would cost more in starts than in work, up to 512, with no more pixels than 64
    frames of 2048 x 2048 and no fewer than 16 blocks.
    """
    if asked == "auto":
        most = min(BLOCK_FRAMES_MAX, BLOCK_FRAMES * LARGE_FRAME_PX // frame_px, n_frames // BLOCKS_MIN)
        asked = BLOCK_FRAMES
        while 2 * asked <= most:
            asked *= 2
    return -(-asked // chunk_frames) * chunk_frames


def plan_blocks(n_frames: int, block_frames: int, chunk_frames: int) -> list[Block]:
    """Blocks that cover the movie; the last may be shorter. ConfigError unless `block_frames` is a multiple of `chunk_frames`."""
    if n_frames < 1 or chunk_frames < 1 or block_frames < 1:
        raise ConfigError(f"n_frames {n_frames}, block_frames {block_frames}, chunk_frames {chunk_frames}: each must be at least 1")
    if block_frames % chunk_frames:
        nearest = max(1, round(block_frames / chunk_frames)) * chunk_frames
        raise ConfigError(f"block_frames {block_frames}: must be a multiple of the {chunk_frames}-frame time chunk; set it to {nearest}")
    starts = range(0, n_frames, block_frames)
    return [Block(i, start, min(start + block_frames, n_frames)) for i, start in enumerate(starts)]


def chunk_frames_for(height_px: int, width_px: int, itemsize: int, target_bytes: int = CHUNK_TARGET_BYTES) -> int:
    """Frames per time chunk: the largest power of two, 1 to 64, whose chunk stays within `target_bytes` (one frame may exceed it)."""
    frame_bytes = height_px * width_px * itemsize
    if frame_bytes < 1:
        raise InputError(f"frame of {height_px} x {width_px} px and {itemsize} bytes a pixel: each must be at least 1")
    chunk = CHUNK_FRAMES_MAX
    while chunk > 1 and chunk * frame_bytes > target_bytes:
        chunk //= 2
    return chunk


def sample_frames(n_frames: int, n_samples: int) -> np.ndarray:
    """Indices of at most `n_samples` frames spread evenly over the movie, first and last included; increasing, without repeats.

    Raises InputError when either number is below 1.
    """
    if n_frames < 1 or n_samples < 1:
        raise InputError(f"cannot sample {n_samples} of {n_frames} frames: both numbers must be at least 1")
    if n_samples >= n_frames:
        return np.arange(n_frames)
    return np.round(np.linspace(0, n_frames - 1, n_samples)).astype(np.int64)


def sample_runs(n_frames: int, count: int) -> list[range]:
    """Short runs of frames that begin at most `count` frames spread evenly over the movie, each towards its middle.

    Of each run a stage takes the first frame that can be used (`usable_samples`): which they are depends on the movie alone, not on the
    size of its blocks.
    """
    starts = (int(start) for start in sample_frames(n_frames, count))
    return [
        range(start, min(start + SPARE_FRAMES, n_frames)) if start < n_frames / 2 else range(start, max(start - SPARE_FRAMES, -1), -1)
        for start in starts
    ]


def usable_samples(n_frames: int, count: int, usable: Collection[int]) -> list[int]:
    """Of each of `sample_runs` the first usable frame that no other run has, in the order of frames; a run without one is left out."""
    runs = sample_runs(n_frames, count)
    chosen = {run[0] for run in runs if run[0] in usable}
    for run in runs:
        if run[0] not in usable:
            chosen.update([frame for frame in run if frame in usable and frame not in chosen][:1])
    return sorted(chosen)


def window(frame: int, n_frames: int, size: int) -> range:
    """Frames of a centred window of odd `size`, cut at the movie's ends (never shifted, so that no frame changes its place)."""
    if size < 1 or size % 2 == 0:
        raise ConfigError(f"window of {size} frames: must be odd and at least 1, so that it is centred on its frame")
    if not 0 <= frame < n_frames:
        raise InputError(f"frame {frame}: outside the movie; allowed: 0 to {n_frames - 1}")
    return range(max(0, frame - size // 2), min(n_frames, frame + size // 2 + 1))
