"""Seals and what is done about damage before a run: cut files set aside, curable failures forgotten, links refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from scant.commands import verify
from scant.commands.failures import failures_in, ranges, text_of
from scant.commands.verify import prepare_rerun
from scant.errors import DataIntegrityError, FrameFailure, ScantError
from scant.io.ledger import failure_table
from scant.io.runs import lock_results
from scant.io.seals import check_inputs, problems_of, seal_outputs, to_make_again
from scant.io.structures import write_table
from scant.stages.integrity import forget_curable_failures

BLOCKS = ("0000000-0000004", "0000004-0000008")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset with a sealed table, a sealed folder, and ledgers of two blocks and of two dose twins."""
    folder = tmp_path / "results/tiny"
    for stage in ("ingest", "anneal", "dose", "figures"):
        (folder / stage).mkdir(parents=True)
    (folder / "figures/a.png").write_bytes(b"picture")
    (folder / "anneal/table").write_bytes(b"twelve bytes")
    seal_outputs(folder, [str(folder / "figures"), str(folder / "anneal/table")])
    failed = [FrameFailure(5, "anneal", "killed", "its worker died 3 times", "look at the log")]
    lost = [FrameFailure(2, "dose", "timeout", "it took longer than 1800 s", "raise frame_timeout_s")]
    for name, rows in (
        (f"anneal/{BLOCKS[0]}", []),
        (f"anneal/{BLOCKS[1]}", failed),
        ("dose/0", []),
        ("dose/1", lost),
        ("failures", failed),
    ):
        path = folder / (f"{name}.failures.parquet" if "/" in name else f"{name}.parquet")
        write_table(str(path), failure_table(rows), {})
    return folder


def test_a_cut_file_is_set_aside_and_named_until_it_is_made_again(folder: Path) -> None:
    table = folder / "anneal/table"
    table.write_bytes(b"twelve")
    results = str(folder.parent)
    assert prepare_rerun(results, ["tiny"], dry=True) == [] and table.exists()
    assert prepare_rerun(results, ["tiny"], dry=False) == [str(table)]
    assert not table.exists() and to_make_again(folder) == ["anneal/table"]
    table.write_bytes(b"twelve bytes")
    seal_outputs(folder, [str(table)])
    assert to_make_again(folder) == [] and not table.with_name("table.damaged").exists()


def test_changed_contents_are_found_by_reading_and_never_used(folder: Path) -> None:
    (folder / "figures/a.png").write_bytes(b"pictuRe")
    assert problems_of(folder, "figures", contents=False) == []
    assert "changed since it was made (sha256" in problems_of(folder, "figures")[0]
    with pytest.raises(DataIntegrityError, match=r"figures/a\.png: changed since it was made"):
        check_inputs(folder, [str(folder / "figures"), "/somewhere/else"])
    assert to_make_again(folder) == ["figures"]


@pytest.mark.parametrize("given", [".", "results/tiny"])
def test_verifying_waits_for_the_run_that_works_on_the_folder(folder: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scant.io.runs.ORPHANS_S", 0.1)
    monkeypatch.chdir(folder if given == "." else folder.parents[1])
    with lock_results(str(folder.parent)), pytest.raises(ScantError, match="another run works on this folder"):
        verify.run(given)


def test_only_blocks_and_twins_with_a_curable_failure_are_tried_again(folder: Path) -> None:
    assert forget_curable_failures(folder) == [f"anneal/{BLOCKS[1]}.failures.parquet", "dose/1.failures.parquet"]
    assert not (folder / "failures.parquet").exists()
    assert (folder / f"anneal/{BLOCKS[0]}.failures.parquet").exists() and (folder / "dose/0.failures.parquet").exists()
    assert forget_curable_failures(folder) == []


def test_failures_on_the_terminal(folder: Path) -> None:
    lines = "\n".join(text_of("results/tiny", failures_in(folder)))
    assert "1 frame(s) failed" in lines and "anneal: killed, 1 frame(s): 5" in lines and "remedy: look at the log" in lines
    assert "dose: timeout, 1 dose(s): 2" in lines
    assert ranges([9, 3, 7, 8, 12]) == "3, 7-9, 12"


def test_links_are_refused(folder: Path) -> None:
    (folder / "report.html").symlink_to("/etc/passwd")
    with pytest.raises(DataIntegrityError, match=r"report\.html: a link to /etc/passwd"):
        prepare_rerun(str(folder.parent), ["tiny"], dry=True)
