"""What the tests of other people's clients share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.server import Server
from streaming.settings import ServerSettings, SessionSettings, Settings
from tests.web.conftest import levels_camera as levels_camera

SETTINGS = Settings(
    server=ServerSettings(port=0, grace_s=0.5), session=SessionSettings(loopback_ice=True)
)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(SETTINGS, StandIn()) as server:
        yield server
