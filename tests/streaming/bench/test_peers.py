"""Synthetic peers: they ask again when they are told to, and no longer than is worth it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from streaming.app import serve
from streaming.bench.camera import drawn_pictures, record
from streaming.bench.peers import Peer, PeerTask, Refused
from streaming.bench.standin import StandIn
from streaming.settings import ServerSettings, SessionSettings, Settings
from tests.streaming.caller import calling
from tests.streaming.simulated import simulate

SETTINGS = Settings(
    server=ServerSettings(port=0, max_sessions=1, retry_after_s=1, grace_s=0.5),
    session=SessionSettings(loopback_ice=True),
)


async def test_a_peer_that_is_refused_asks_again_and_is_let_in(tmp_path: Path) -> None:
    recording = tmp_path / "camera.ivf"
    record(recording, drawn_pictures((320, 240)), frames=30, fps=15)
    async with serve(SETTINGS, StandIn()) as server, aiohttp.ClientSession() as http:
        peer = Peer(PeerTask(url=server.url, peers=1, duration_s=0, recording=str(recording)), 0)
        async with calling(server.url, http) as first:
            await first.wait_for("prediction")
            call = asyncio.create_task(peer.call(http))
            while not server.sessions.counts.refused:
                await first.wait_for_more("prediction")
            first.send(type="bye")
            await call
        try:
            assert peer.heard.error is None and peer.heard.results
            assert server.sessions.counts.admitted == 2
        finally:
            peer.stop_camera()
            await peer.hang_up()


class Unwanted(Peer):
    """A peer of a server that never has room."""

    def __init__(self, after_s: float | None) -> None:
        self.asked_s: list[float] = []
        self._after_s = after_s

    async def _answer(self, http: aiohttp.ClientSession, offer: str) -> str:
        self.asked_s.append(asyncio.get_running_loop().time())
        raise Refused("HTTP 503", self._after_s)


def test_a_peer_that_is_never_let_in_gives_up() -> None:
    async def asked_s(after_s: float | None) -> list[float]:
        peer = Unwanted(after_s)
        try:
            await peer._asked(None, "")  # type: ignore[arg-type]
        except Refused:
            return peer.asked_s
        raise AssertionError("it was let in")

    assert simulate(asked_s(None)) == [0.0]
    assert simulate(asked_s(6.0)) == [0.0, 6.0, 12.0]
    assert simulate(asked_s(60.0)) == [0.0]
