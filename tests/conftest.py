"""What tests share: where the real clips are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.whole_way import way as way  # a fixture for all

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real clips; a test that needs it is skipped where there is none."""
    path = Path(os.environ.get("LIVEGLOSS_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (path / "manifest.csv").is_file():
        pytest.skip(f"no clips at {path}: set LIVEGLOSS_DATA to a copy of the project's data")
    return path
