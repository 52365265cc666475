"""Hostile settings given to a real Snakemake: nothing of them runs, nothing is written outside the results."""

from __future__ import annotations

import pytest
from house import House


@pytest.fixture(scope="module")
def house(tmp_path_factory, repository) -> House:
    return House(tmp_path_factory.mktemp("attacked"), repository)


@pytest.mark.parametrize(
    "text",
    [
        'results: !!python/object/apply:os.system ["touch PWNED"]\n',
        "datasets: {'x; touch PWNED': a.yaml}\n",
        "datasets: {'$(touch PWNED)': a.yaml}\n",
        "datasets: {'../outside': a.yaml}\n",
        "datasets: {'/outside': a.yaml}\n",
        "simulate: {'a b': {}}\n",
        "simulate: {'a{b}': {}}\n",
        "anneal: {potential: 'tersoff; shell touch PWNED'}\n",
        "denoise: {method: '$(touch PWNED)'}\n",
        "scheduler_address: tcp://0.0.0.0:8786\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
    ],
)
def test_hostile_configuration_is_refused_by_name(house, text):
    (house.root / "hostile.yaml").write_text(text)
    done = house.snakemake("--configfile", "hostile.yaml")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout, done.stdout[-3000:]
    assert not list(house.root.rglob("PWNED")) and not (house.root.parent / "outside").exists()
    assert not (house.root / "results").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("seed: 1\nresults: a\nseed: 2\n", "`seed` stands on line 1 and again on line 3; keep one of them"),
        ("datasets: {a: acquisition.yaml}\n", "Voltage_kv: Extra inputs are not permitted (found 80); did you mean voltage_kV?"),
        ("datasets: {a: gone.yaml}\n", "gone.yaml: no such file; check the path under `datasets:`"),
    ],
)
def test_a_slip_in_a_file_is_said_without_a_traceback(house, settings, words):
    (house.root / "slip.yaml").write_text(settings)
    (house.root / "acquisition.yaml").write_text("movie: a.tif\nVoltage_kv: 80\n")
    done = house.snakemake("-n", "--configfile", "slip.yaml")
    assert done.returncode != 0 and words in done.stdout, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
