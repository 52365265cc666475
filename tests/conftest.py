"""Fixtures that every test may use: where the repository and the validation data are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The validation data (graphene-open, graphene-dtu, formats): $SCANT_SHARED_DATA, else `shared/data` beside the checkout."""
    folder = Path(os.environ.get("SCANT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"validation data not found in {folder}; set SCANT_SHARED_DATA")
    return folder
