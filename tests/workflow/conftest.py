"""One finished run of the tiny movie, made once for all test files, and a copy of it for each."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest
from house import House


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory, repository) -> Path:
    """A house whose run has ended; the workers of pytest-xdist share it."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished-once"
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "results/tiny/complete.json").exists():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            done = House(root, repository).snakemake()
            assert done.returncode == 0, done.stdout[-6000:]
    return root


@pytest.fixture(scope="module")
def finished(finished_once, tmp_path_factory) -> House:
    """A copy of the finished house, all its dates new: nothing of it may count as out of date."""
    root = tmp_path_factory.mktemp("copy") / "house"
    shutil.copytree(finished_once, root, copy_function=shutil.copy)
    return House.at(root)
