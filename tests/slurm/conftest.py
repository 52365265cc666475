"""A virtual cluster for each worker of pytest-xdist, and one finished local run that they share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
from house import finished_house
from runs import TINY


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def local_run(tmp_path_factory, repository) -> Path:
    """The house of a local run of the same movie with as many cores as a job on the cluster has."""
    return finished_house(tmp_path_factory, repository, "finished-local", TINY, "--cores", "1")
