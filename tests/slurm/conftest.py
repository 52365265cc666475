"""A virtual cluster for each worker of pytest-xdist, and one finished local run that they share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
from house import House, made_once
from runs import TINY


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def local_run(tmp_path_factory, repository) -> Path:
    """The house of a local run of the same movie with as many cores as a job on the cluster has."""

    def run(root: Path) -> None:
        house = House(root, repository)
        house.write_config(TINY)
        done = house.snakemake("--cores", "1")
        assert done.returncode == 0, done.stdout[-6000:]

    return made_once(tmp_path_factory, "finished-local", run)
