"""One finished run of the tiny movie, made once for all test files, and a copy of it for each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from house import CONFIG, House, finished_house


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory, repository) -> Path:
    """A house whose run has ended; the workers of pytest-xdist share it."""
    return finished_house(tmp_path_factory, repository, "finished-once", CONFIG)


@pytest.fixture(scope="module")
def finished(finished_once, tmp_path_factory) -> House:
    """A copy of the finished house, all its dates new: nothing of it may count as out of date."""
    root = tmp_path_factory.mktemp("copy") / "house"
    shutil.copytree(finished_once, root, copy_function=shutil.copy)
    return House.at(root)
