"""Block arithmetic against its definition, frame by frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scant.errors import ConfigError, InputError
from scant.io.blocks import (
    Block,
    chunk_frames_for,
    frames_of_a_block,
    parse_label,
    plan_blocks,
    sample_frames,
    sample_runs,
    usable_samples,
    window,
)


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 40))
def test_blocks_cover_every_frame_once_and_start_on_chunks(n_frames: int, chunk_frames: int, chunks_per_block: int) -> None:
    blocks = plan_blocks(n_frames, chunk_frames * chunks_per_block, chunk_frames)
    assert [frame for block in blocks for frame in block.frames] == list(range(n_frames))
    assert all(block.start % chunk_frames == 0 and block.index == i for i, block in enumerate(blocks))
    assert sorted(block.label for block in blocks) == [block.label for block in blocks]


@pytest.mark.parametrize(
    ("asked", "n_frames", "side_px", "frames"),
    [
        ("auto", 50_000, 2048, 64),
        ("auto", 50_000, 1024, 256),
        ("auto", 50_000, 256, 512),
        ("auto", 3_000, 256, 128),
        ("auto", 24, 256, 64),
        ("auto", 50_000, 4096, 64),
        (100, 50_000, 256, 112),
    ],
)
def test_blocks_grow_where_frames_are_small_and_many(asked, n_frames, side_px, frames):
    assert frames_of_a_block(asked, n_frames, side_px**2, 16) == frames


def test_block_that_cuts_a_chunk_is_refused_with_the_next_step() -> None:
    with pytest.raises(ConfigError, match=r"block_frames 100.*16-frame.*set it to 96"):
        plan_blocks(1000, 100, 16)


def test_label_round_trip_and_foreign_labels() -> None:
    assert Block(0, 0, 64).label == "0000000-0000064"
    assert parse_label(Block(3, 192, 12_345_678).label) == (192, 12_345_678)
    for wrong in ("64-0", "0000064-0000064", "../0000000-0000064", "0000000-0000064.zarr"):
        with pytest.raises(InputError, match="expected START-STOP"):
            parse_label(wrong)


@pytest.mark.parametrize(
    ("height", "width", "itemsize", "expected"),
    [(16, 16, 2, 64), (256, 256, 2, 32), (1024, 1024, 2, 2), (2048, 2048, 4, 1), (4096, 4096, 8, 1)],
)
def test_chunk_is_the_largest_power_of_two_within_the_target(height: int, width: int, itemsize: int, expected: int) -> None:
    assert chunk_frames_for(height, width, itemsize) == expected


@given(st.integers(1, 300), st.integers(1, 12), st.sets(st.integers(0, 299)))
def test_sampled_frames_are_the_first_usable_of_short_runs_whatever_the_blocks(n_frames: int, count: int, lost: set[int]) -> None:
    runs, usable = sample_runs(n_frames, count), set(range(n_frames)) - lost
    assert [run[0] for run in runs] == sample_frames(n_frames, count).tolist()
    assert all(0 <= frame < n_frames for run in runs for frame in run)
    found = usable_samples(n_frames, count, usable)
    assert len(found) == len(set(found)) <= len(runs) and set(found) <= usable
    sampled = {frame for run in runs for frame in run}
    for size in (1, 7, 64):
        held = {frame for block in plan_blocks(n_frames, size, 1) if sampled & set(block.frames) for frame in block.frames}
        assert usable_samples(n_frames, count, usable & held) == found
    assert {run[0] for run in runs} - lost <= set(found)


def test_a_lost_frame_has_a_stand_in_that_no_other_sample_needs() -> None:
    assert usable_samples(8, 6, set(range(8)) - {3}) == [0, 1, 4, 5, 6, 7]


def test_window_is_cut_at_the_ends_and_never_shifted() -> None:
    assert list(window(0, 10, 5)) == [0, 1, 2]
    assert list(window(5, 10, 5)) == [3, 4, 5, 6, 7]
    assert list(window(9, 10, 5)) == [7, 8, 9]
    with pytest.raises(ConfigError, match="odd"):
        window(3, 10, 4)
    with pytest.raises(InputError, match="frame 10"):
        window(10, 10, 5)
