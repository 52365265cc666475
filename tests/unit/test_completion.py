"""The last word of a run: counts where all went well, an error that says what was lost where not."""

from __future__ import annotations

import polars as pl
import pytest
from scant.errors import FrameFailure, ScantError
from scant.io.ledger import failure_table
from scant.stages.checks import completion

FRAMES = pl.DataFrame({"frame": [0, 1, 2], "status": ["ok", "ok", "faulty"]})
FAULTY = FrameFailure(2, "ingest", "empty", "the frame is empty", "leave it out")


def test_a_faulty_frame_of_the_camera_is_no_failure_of_the_run():
    counted = completion(FRAMES, failure_table([FAULTY]), failure_table([]), "report.html")
    assert counted == {"n_frames": 3, "n_reconstructed": 2, "n_faulty_in_movie": 1}


def test_lost_frames_and_lost_doses_are_said():
    failed = failure_table([FAULTY, FrameFailure(1, "anneal", "killed", "its worker died", "look at the log")])
    lost = failure_table([FrameFailure(4, "dose", "timeout", "too long", "raise frame_timeout_s")])
    with pytest.raises(ScantError, match=r"1 of 3 frames failed: anneal 1 \(killed\); 1 reconstructions of.*dose 1 \(timeout\)"):
        completion(FRAMES, failed, lost, "report.html")
    with pytest.raises(ScantError, match="dose study"):
        completion(FRAMES, failure_table([]), lost, "report.html")
