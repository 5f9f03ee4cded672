"""What the tests of the server share: one that runs, and an HTTP client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.server import Server


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """A server with the test module's SETTINGS and the stand-in recogniser."""
    async with serve(request.module.SETTINGS, StandIn()) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http
