"""What a run will take: jobs, memory, disk and time for a movie of any length, the refusal of a full disk, the rules in step."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import yaml
from scant.__main__ import main
from scant.commands.plan import disk_problem, free_bytes, movie_facts
from scant.config import load_acquisition, parse_config
from scant.imaging.window import window_for_dose
from scant.io.readers import open_movie
from scant.job_memory import frames_to_denoise, job_memory_mb, worker_job_memory_mb
from scant.plan import RATES, MovieFacts, annealed_tiles, plan
from scant.stages.facts import dataset_facts

LONG = MovieFacts(50_000, 2048, 2048, pixel_size_angstrom=0.2, dose_e_per_angstrom2=8000.0)
CONFIG = parse_config({"datasets": {"long": "acquisition.yaml"}})
ACROSS = parse_config({"datasets": {"long": "acquisition.yaml"}, "denoise": {"across_frames": True}})


def planned(n_frames: int = LONG.n_frames, n_cores: int = 24, **values):
    return plan(parse_config({"datasets": {"long": "acquisition.yaml"}} | values), "long", replace(LONG, n_frames=n_frames), n_cores)


def test_jobs_grow_with_blocks_and_nothing_else():
    whole, half, coarse = planned(), planned(25_000), planned(block_frames=128)
    assert (whole.n_blocks, half.n_blocks, coarse.n_blocks) == (782, 391, 391)
    per_block = sum(rate.per == "block" for rate in RATES.values())
    assert whole.jobs - half.jobs == 391 * per_block
    assert half.jobs == coarse.jobs
    assert set(whole.stages) == {
        "ingest_frames", "calibrate", "correct", "align_pairs", "average", "denoise", "localise", "anneal", "validate", "electrons",
        "analyse", "dose", "report",
    }  # fmt: skip


def test_without_optics_nothing_is_annealed():
    flat = plan(CONFIG, "long", replace(LONG, has_optics=False), 24)
    assert not {"anneal", "validate", "dose"} & set(flat.stages)


def test_memory_of_a_job_does_not_know_the_movie_s_length():
    assert planned().memory_mb == planned(100).memory_mb
    assert planned(n_cores=2).memory_mb["localise"] < planned(n_cores=24).memory_mb["localise"]


def test_disk_is_proportional_to_the_movie():
    long, short_movie = planned().disk_bytes, planned(5000).disk_bytes
    for part in ("movie", "stacks", "tables"):
        assert long[part] == pytest.approx(10 * short_movie[part], rel=1e-6)
    assert long["movie"] < 50_000 * 2048 * 2048 * 2


def test_what_is_there_is_not_counted_again():
    each = planned()
    assert each.bytes_to_come() == sum(each.disk_bytes.values())
    assert each.bytes_to_come(782) == sum(each.disk_bytes.values()) - each.disk_bytes["movie"]
    assert each.bytes_to_come(782, 782) == each.disk_bytes["report"]
    assert each.bytes_to_come(782, 782, reported=True) == 0


def test_time_falls_with_cores_and_serial_stages_stay():
    each = planned()
    times = [each.wall_s(n) for n in (1, 2, 24, 480)]
    assert times == sorted(times, reverse=True)
    assert times[1] > each.cpu_s / 2 * 0.9
    serial = [rule for rule in each.rules if rule.rate.per == "dataset"]
    assert times[-1] > sum(rule.wall_s(480, 16) for rule in serial) == sum(rule.wall_s(2, 2) for rule in serial) > 0


def test_annealing_scales_with_its_schedule():
    def anneal_s(each):
        return each.stages["anneal"][1]

    small = MovieFacts(100, 128, 128, pixel_size_angstrom=0.2)
    one = plan(CONFIG, "long", small, 2)
    two = plan(parse_config({"datasets": {"long": "a.yaml"}, "anneal": {"n_chains": 12}}), "long", small, 2)
    assert anneal_s(two) == pytest.approx(2 * anneal_s(one), rel=0.1)


def test_a_full_disk_is_refused_with_the_numbers():
    assert disk_problem("results", 10, 10) is None
    problem = disk_problem("results", 3_000_000_000_000, 80_000_000_000)
    for word in ("results", "3000000000000", "80000000000", "larger disk"):
        assert word in problem
    assert free_bytes("/nowhere/at/all") > 0


@pytest.mark.parametrize(("n_workers", "config"), [(2, CONFIG), (24, CONFIG), (2, ACROSS)])
def test_rules_declare_what_the_plan_says(repository, n_workers, config):
    frame = LONG.pixels * 4
    together = window_for_dose(LONG.dose_e_per_angstrom2) if config is ACROSS else 1
    names = {
        "memory_mb": lambda n: job_memory_mb(n(None) if callable(n) else n, frame), "frames_of_job": lambda w: 64,
        "worker_memory_mb": lambda n: worker_job_memory_mb(n, n_workers, frame),
        "workers": lambda: n_workers, "CONFIG": CONFIG, "WINDOW_FRAMES_MAX": 64, "denoising_frames": frames_to_denoise(together),
    }  # fmt: skip
    said = plan(config, "long", LONG, n_workers).memory_mb
    rules = {}
    for path in (repository / "workflow/rules/crystal2d").glob("*.smk"):
        rules |= dict(re.findall(r"^(?:rule|checkpoint) (\w+):.*?mem_mb=(.*?),\n", path.read_text(), re.M | re.S))
        for rule, text in re.findall(r"^(?:rule|checkpoint) (\w+):(.*?)\n    script:", path.read_text(), re.M | re.S):
            assert "workers=WORKERS" not in text or "mem_mb=worker_memory_mb(" in text, f"{rule}: memory of its workers"
    assert set(RATES) <= set(rules)
    for rule in RATES:
        declared = eval(rules[rule], names)
        assert declared == said[rule] if rule in said else declared <= 3000, rule


def test_the_command_prints_every_stage_and_says_no_when_the_disk_is_full(tmp_path, capsys, monkeypatch):
    config = tmp_path / "my.yaml"
    config.write_text(yaml.safe_dump({"simulate": {"tiny": {"n_frames": 3, "size_px": 84}}, "results": str(tmp_path / "results")}))
    assert main(["plan", "--config", str(config), "--cores", "3"]) == 0
    printed = capsys.readouterr().out
    for word in ("simulate", "anneal", "2 cores", "3 cores", "480 cores (30 jobs of 16)", "memory:", "disk"):
        assert word in printed
    monkeypatch.setattr("scant.commands.plan.free_bytes", lambda folder: 5)
    assert main(["plan", "--config", str(config)]) == 1
    assert "5 bytes are free" in capsys.readouterr().err
    assert main(["plan", "--config", str(tmp_path / "gone.yaml")]) == 1
    assert main(["nonsense"]) == main([]) == 2
    assert not (tmp_path / "results").exists()


def test_facts_come_from_the_file_s_header(tmp_path):
    import numpy as np
    import tifffile

    tifffile.imwrite(tmp_path / "movie.tif", np.ones((3, 40, 50), np.uint16), photometric="minisblack")
    (tmp_path / "acquisition.yaml").write_text("movie: movie.tif\npixel_size_angstrom: 0.1\n")
    config = parse_config({"datasets": {"a": str(tmp_path / "acquisition.yaml")}, "results": str(tmp_path / "results")})
    facts = movie_facts(config, "a")
    assert (facts.n_frames, facts.height_px, facts.width_px, facts.has_optics, facts.pixel_size_angstrom) == (3, 40, 50, False, 0.1)
    assert facts.atoms() == pytest.approx(4 * 5 / 2.62, rel=0.01)


def test_a_first_look_plans_and_reads_the_first_frames_alone(tmp_path):
    import numpy as np
    import tifffile

    tifffile.imwrite(tmp_path / "movie.tif", np.ones((3, 40, 50), np.uint16), photometric="minisblack")
    (tmp_path / "acquisition.yaml").write_text("movie: movie.tif\n")
    dataset = {"datasets": {"a": str(tmp_path / "acquisition.yaml")}, "results": str(tmp_path / "results")}
    look = parse_config(dataset | {"ingest": {"max_frames": 2}})
    source = open_movie(str(tmp_path / "movie.tif"), 10**6)
    facts = dataset_facts(source, load_acquisition(tmp_path / "acquisition.yaml"), tmp_path, look.ingest.max_frames)
    assert (facts["n_frames"], facts["n_frames_in_movie"]) == (2, 3)
    assert "the first 2 of 3 frames are read, as `ingest.max_frames` asks" in facts["missing"]
    assert movie_facts(look, "a").n_frames == 2
    ingested = tmp_path / "results/a/ingest/facts.json"
    ingested.parent.mkdir(parents=True)
    ingested.write_text(json.dumps(facts))
    assert movie_facts(parse_config(dataset), "a").n_frames == 3


def test_a_large_view_is_annealed_in_tiles():
    """So many that the time grows with the area, and as the annealer itself cuts them."""
    n_tiles, atoms = annealed_tiles(LONG, 3.0)
    assert n_tiles == 100
    assert 1000 < atoms < 2500
    assert annealed_tiles(replace(LONG, height_px=256, width_px=256), 3.0)[0] == 1
    n_double, same = annealed_tiles(replace(LONG, height_px=4096), 3.0)
    assert (n_double, same) == (pytest.approx(2 * n_tiles, rel=0.1), atoms)
