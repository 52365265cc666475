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
