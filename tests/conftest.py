"""What tests share: where the real clips are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offline.exporting import web_runtime
from tests.whole_way import way as way  # a fixture for all

ROOT = Path(__file__).resolve().parent.parent


# Browser tests that the second worker takes when it has done the rest: both then end together.
_TAKEN_OVER = ("test_demo.py", "test_network_camera.py", "test_recognition.py", "test_walk.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n 2` browsers get a worker of their own: they wait for cameras most of the time.
    Other clients come one after another, too, in whichever worker is free first; so do the tests
    of the service, for all of which one cluster is started."""
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        group = folder if folder in ("web", "clients", "service") else "rest"
        if item.path.name in _TAKEN_OVER:
            group = "clients"
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real clips; a test that needs it is skipped where there is none."""
    path = Path(os.environ.get("LIVEGLOSS_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (path / "manifest.csv").is_file():
        pytest.skip(f"no clips at {path}: set LIVEGLOSS_DATA to a copy of the project's data")
    return path


@pytest.fixture(scope="session")
def cases(data_dir: Path) -> Path:
    """The folder of small odd inputs beside the clips."""
    path = data_dir.parent / "cases"
    if not path.is_dir():
        pytest.skip(f"no cases at {path}")
    return path


@pytest.fixture(scope="session")
def web() -> None:
    """onnxruntime-web is here; `make test` installs it."""
    if (problem := web_runtime.missing()) is not None:
        pytest.skip(problem)
