"""The page does not grow with the movie: a thousand frames of a thousand atoms stay far below 20 MB, and are written in seconds."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import polars as pl
from report_inputs import everything
from report_tables import atoms_table, failures_table, frames_table, images, md_table
from scant.analysis.neighbours import FrameAtoms
from scant.report.findings import ExampleImages, ReportInputs
from scant.report.page import render_page, script_json
from scant.report.results import build_report
from scant.report.style import LOSSLESS_BYTES, new_figure, webp_bytes
from scant.report.viewer import MAX_ATOMS, viewer_data

N_FRAMES, VIEW_ANGSTROM, VIEWER_FRAMES = 1000, 51.2, 24
LARGEST_BYTES = 20e6
CPU_S = 60.0


def thousand_frames() -> ReportInputs:
    """As large as the open validation movie and forty times as long; a frame in fifty fails."""
    some, stage = atoms_table(8, VIEW_ANGSTROM), images(256)
    failed = tuple(range(0, N_FRAMES, 50))
    return replace(
        everything(),
        atoms=pl.concat([some.with_columns(frame=pl.col("frame") + 8 * k) for k in range(N_FRAMES // 8)]).lazy(),
        frames=frames_table(N_FRAMES, failed=failed),
        md=md_table(N_FRAMES),
        failures=pl.concat([failures_table().with_columns(frame=pl.lit(frame, pl.Int64)) for frame in range(N_FRAMES)]),
        example=ExampleImages(1, stage["raw"], stage["corrected"], stage["model"], stage["corrected"] - stage["model"], 0.2),
        provenance={"inputs": {f"frame_{n:04d}.tif": "sha256:" + "0" * 64 for n in range(N_FRAMES)}},
        viewer_frames=VIEWER_FRAMES,
    )


def test_a_page_of_a_thousand_frames_is_small_and_quick():
    began = time.process_time()
    page = build_report(thousand_frames())
    html = render_page(page)
    spent, size = time.process_time() - began, len(html.encode())
    print(f"{N_FRAMES} frames: {size / 1e6:.1f} MB, {spent:.1f} CPU-s")
    assert size < LARGEST_BYTES
    assert spent < CPU_S
    assert page.viewer is not None and len(page.viewer["frames"]) == VIEWER_FRAMES
    assert html.count("<tr>") < 300 and "the first 50 of 1\u2009000" in html and "950 more" in html


def test_the_largest_view_leaves_room_for_all_figures():
    """Sixty frames of as many atoms as the viewer takes, with heights of four digits."""
    rng = np.random.default_rng(0)
    n = MAX_ATOMS // 60
    side = np.sqrt(2.6 * n)
    frames = [
        FrameAtoms(t, np.arange(n), np.column_stack([rng.uniform(0, side, (n, 2)), rng.normal(0, 5, n)]), np.full((n, 3), 0.123))
        for t in range(60)
    ]
    assert len(script_json(viewer_data(frames, dict.fromkeys(range(60), 1.234)))) < 8e6


def test_an_image_that_lossless_compression_leaves_large_is_compressed_further():
    figure = new_figure(7.0)
    figure.subplots().imshow(np.random.default_rng(0).normal(size=(900, 900)))
    assert len(webp_bytes(figure, 150)) < LOSSLESS_BYTES * 2
