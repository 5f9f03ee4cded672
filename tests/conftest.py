"""What tests share: where the real clips are."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from filelock import ReadWriteLock
from xdist.scheduler import LoadScopeScheduling

from offline.exporting import web_runtime
from tests.whole_way import way as way  # a fixture for all

ROOT = Path(__file__).resolve().parent.parent


# Of these one at a time, begun first, in one worker: each is several processes (servers, clusters,
# browsers of others, or a minute and more of signs read live) that need the cores in time.
_LIVE = (
    "tests/clients/",
    "tests/offline/encoding/test_cluster.py",
    "tests/service/",
    "tests/streaming/cluster/",
    "tests/web/test_demo.py",
    "tests/web/test_recognition.py",
    "tests/web/test_walk.py",
)
# With no test beside them: what these read live is worse where frames are lost for want of a core.
_ALONE = (
    "tests/web/test_demo.py::test_the_right_gloss_for_half_a_minute_without_growing_delay",
    "tests/web/test_recognition.py",
)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Each test goes to whichever worker is free, but those of `_LIVE` stay together."""

    def _split_scope(self, nodeid: str) -> str:
        return "live" if nodeid.startswith(_LIVE) else nodeid


def pytest_configure() -> None:
    """The workers fill the cores. A second thread of torch's would wait for its turn in a loop:
    of 60 steps of a small head, 41 s instead of one.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    return _Scheduling(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the wait for the cores is not the test's time
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The tests of all workers share the cores; one of `_ALONE` waits until it has them all."""
    assert item.config.cache
    cores = ReadWriteLock(item.config.cache.mkdir("cores") / "lock")
    alone = item.nodeid.startswith(_ALONE)
    with cores.write_lock() if alone else cores.read_lock():
        return (yield)


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
