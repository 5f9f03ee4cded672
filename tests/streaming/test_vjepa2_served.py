"""A V-JEPA 2 bundle behind the same server: same messages as any other model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import RecognizerSettings, ServerSettings, SessionSettings, Settings
from tests.streaming.caller import Camera, calling

SETTINGS = Settings(
    server=ServerSettings(port=0),
    session=SessionSettings(loopback_ice=True, heartbeat_s=1.0),
)


def green(n: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(n)
    noise = random.integers(-20, 20, (240, 320, 3))
    return (np.array((20, 220, 20)) + noise).astype(np.uint8)


async def messages(settings: Settings, *standins: StandIn) -> list[dict[str, Any]]:
    """What a page hears in a call in which each kind of message occurs."""
    async with serve(settings, *standins) as server, aiohttp.ClientSession() as http:
        async with calling(server.url, http, Camera(green)) as caller:
            await caller.wait_for("prediction", 8)
            await caller.wait_for("stats")
            caller.say(type="ping", t=1)
            await caller.wait_for("pong")
            return list(caller.messages)


async def test_the_same_messages_come(way: Path) -> None:
    chosen = RecognizerSettings(model=str(way / "bundle"), device="cpu")
    ours = await messages(
        Settings(server=SETTINGS.server, session=SETTINGS.session, recognizer=chosen)
    )
    theirs = await messages(SETTINGS, StandIn())
    for kind in ("hello", "prediction", "stats", "pong"):
        one = next(message for message in ours if message["type"] == kind)
        other = next(message for message in theirs if message["type"] == kind)
        assert one.keys() == other.keys()
    hello = ours[0]
    assert hello["model"]["encoder"] == "vjepa2"
    assert set(hello["model"]["glosses"]) == {"tree", "floor"}
    last = [message for message in ours if message["type"] == "prediction"][-1]
    assert last["top"][0]["gloss"] == "tree"
    assert len(last["attention"]) == 2
    assert sum(last["attention"]) == pytest.approx(1, abs=0.01)
    signs = [message for message in ours if message["type"] == "sign"]
    assert signs and signs[0]["gloss"] == "tree"
