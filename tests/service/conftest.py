"""What the tests of the service share: one server, and then two on a Ray cluster, at an address.

Each test runs against both. It knows the service by its address alone, and leaves no session.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack

import aiohttp
import pytest

from tests.conftest import ROOT
from tests.service.client import RIGHT, Service
from tests.web.conftest import levels_camera as levels_camera

KINDS = ("one", "cluster")
Processes = dict[str, subprocess.Popen[str]]  # by kind


_running = ExitStack()  # until the last of these tests: it is not the last of all


@pytest.hookimpl(trylast=True)  # after the fixtures of the last one
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or nextitem.path.parent != item.path.parent:
        _running.close()


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Processes:
    """Both at once: the cluster starts (20 s) while the one server is tested."""
    started = {}
    for kind in KINDS:
        folder = str(tmp_path_factory.mktemp(f"signs-{kind}"))
        started[kind] = _running.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.service.serving", kind, folder],
                cwd=ROOT,
                stdin=subprocess.PIPE,  # closing the stack closes it, and waits
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    return started


@pytest.fixture(params=KINDS, scope="session")
def started(
    request: pytest.FixtureRequest,
    processes: Processes,
) -> Service:
    """The service, once it is ready."""
    output = processes[request.param].stdout
    assert output
    url = output.readline().strip()
    assert url, "it ended before it was ready; see its stderr"
    return Service(url)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that has the token."""
    async with aiohttp.ClientSession(headers=RIGHT) as http:
        yield http


@pytest.fixture
async def stranger() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that has none."""
    async with aiohttp.ClientSession() as http:
        yield http


@pytest.fixture
async def service(started: Service, http: aiohttp.ClientSession) -> AsyncIterator[Service]:
    yield started
    await started.until_empty(http)
