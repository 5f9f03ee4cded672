"""A session that has ended holds no picture, whenever Python next looks for cycles."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import aiohttp

from models.schema import Frame
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import ServerSettings, SessionSettings, Settings
from tests.streaming.caller import calling

SETTINGS = Settings(
    server=ServerSettings(port=0, grace_s=0.5), session=SessionSettings(loopback_ice=True)
)


async def test_pictures_are_free_when_their_session_ends(http: aiohttp.ClientSession) -> None:
    seen: list[weakref.ref[Any]] = []

    def look(frame: Frame) -> None:
        seen.append(weakref.ref(frame.image))

    gc.disable()
    try:
        async with serve(SETTINGS, StandIn(inspect=look)) as server:
            async with calling(server.url, http) as caller:
                await caller.wait_for("prediction", 5)
                assert any(image() is not None for image in seen)
                ends = [session.ended for session in server.sessions]
                caller.send(type="bye")
                await asyncio.wait(ends)
            assert len(seen) >= 5
            assert [image for image in seen if image() is not None] == []
    finally:
        gc.enable()
