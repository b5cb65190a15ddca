"""Fixtures that several rooms share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Folder with the public data sets, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("BUDWOOD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}; set BUDWOOD_DATA to a folder that holds banking77/")
    return folder
