"""Synthetic peers: they retry when the server asks them to, for a while; and their log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from streaming.app import serve
from streaming.bench.camera import drawn_pictures, record
from streaming.bench.peers import Peer, PeerLog, PeerTask, Refused
from streaming.bench.standin import StandIn
from streaming.settings import ServerSettings, SessionSettings, Settings
from tests.streaming.caller import calling
from tests.streaming.simulated import simulate

SETTINGS = Settings(
    server=ServerSettings(port=0, max_sessions=1, retry_after_s=1, grace_s=0.5),
    session=SessionSettings(loopback_ice=True),
)


async def test_a_refused_peer_retries_and_is_admitted(tmp_path: Path) -> None:
    recording = tmp_path / "camera.ivf"
    record(recording, drawn_pictures((320, 240)), frames=30, fps=15)
    async with serve(SETTINGS, StandIn()) as server, aiohttp.ClientSession() as http:
        peer = Peer(PeerTask(url=server.url, recording=str(recording)), seed=0)
        async with calling(server.url, http) as first:
            await first.wait_for("prediction")
            call = asyncio.create_task(peer.call(http))
            while not server.sessions.counts.refused:
                await first.wait_for_more("prediction")
            first.send(type="bye")
            await call
        try:
            assert peer.log.error is None and peer.log.predictions
            assert server.sessions.counts.admitted == 2
        finally:
            peer.stop_camera()
            await peer.close()


class Unwanted(Peer):
    """A peer of a server that never admits it."""

    def __init__(self, after_s: float | None) -> None:
        self.offered_s: list[float] = []
        self._after_s = after_s

    async def _signal(self, http: aiohttp.ClientSession, offer: str) -> str:
        self.offered_s.append(asyncio.get_running_loop().time())
        raise Refused("HTTP 503", self._after_s)


def test_a_peer_that_is_never_admitted_gives_up() -> None:
    async def offered_s(after_s: float | None) -> list[float]:
        peer = Unwanted(after_s)
        try:
            await peer._admitted(None, "")  # type: ignore[arg-type]
        except Refused:
            return peer.offered_s
        raise AssertionError("it was admitted")

    assert simulate(offered_s(None)) == [0.0]
    assert simulate(offered_s(6.0)) == [0.0, 6.0, 12.0]
    assert simulate(offered_s(60.0)) == [0.0]


def test_a_repeated_number_means_the_newest_frame_before() -> None:
    log = PeerLog(made_s=[float(n) for n in range(20)], numbers=8)
    assert log.made(3, before_s=3.5) == 3
    assert log.made(3, before_s=11.5) == 11
    assert log.made(3, before_s=100.0) == 19
    assert log.made(3, before_s=2.9) is None
    assert log.made(8, before_s=100.0) is None
