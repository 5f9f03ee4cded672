"""The other end of a benchmark: synthetic cameras that call the server from a process of their own.

Started by `streaming.bench` with its task as JSON; writes two JSON lines to stdout, when all peers
are connected and when their time is over, and hangs up when stdin closes. Its times are of
CLOCK_MONOTONIC, which the processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from streaming.audience import PREDICTIONS, RESULTS
from streaming.ice import gather_loopback
from streaming.synthetic import SyntheticCamera, clip_pictures, lossy, random_loss

_CONNECT_S = 30.0  # to the first prediction
_SETTLE_S = 1.0  # after the last frame, for results under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a process of peers is to do."""

    url: str
    peers: int
    duration_s: float
    fps: float
    size: tuple[int, int]  # px, (width, height)
    clip: str | None  # a video file; None: a drawn picture
    loss: float  # share of the media packets
    seed: int


@dataclass(slots=True, kw_only=True)
class Heard:
    """What one peer sent and was told."""

    session: str = ""
    made_s: list[float] = field(default_factory=list)  # of each frame, by its number
    results: list[tuple[int, float, dict[str, float]]] = field(default_factory=list)
    # of each prediction: rtp_end, when it came, latency_ms
    error: str | None = None


class Peer:
    """One camera in a call."""

    def __init__(self, task: Task, seed: int) -> None:
        pictures = clip_pictures(task.clip, task.size) if task.clip else None
        self.heard = Heard()
        self._task = task
        self._seed = seed
        self._camera = SyntheticCamera(fps=task.fps, size=task.size, pictures=pictures)
        self._first = asyncio.Event()
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection = self._connection
        for channel in (
            connection.createDataChannel(RESULTS),
            connection.createDataChannel(PREDICTIONS, ordered=False, maxRetransmits=0),
        ):
            channel.on("message", self._hear)
        self._connection.addTransceiver(self._camera, "sendonly")

    async def call(self, http: aiohttp.ClientSession) -> None:
        """Connect, and wait for the first prediction; what fails is kept in `heard.error`."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                await self._connection.setLocalDescription(await self._connection.createOffer())
                offer = self._connection.localDescription.sdp
                headers = {"Content-Type": "application/sdp"}
                url = f"{self._task.url}/whip"
                async with http.post(url, data=offer, headers=headers) as response:
                    body = await response.text()
                if response.status != 201:
                    self.heard.error = f"HTTP {response.status}: {body}"
                    return
                answer = RTCSessionDescription(sdp=body, type="answer")
                await self._connection.setRemoteDescription(answer)
                if self._task.loss:
                    lossy(self._connection, random_loss(self._task.loss, self._seed))
                await self._first.wait()
        except TimeoutError:
            self.heard.error = f"no prediction within {_CONNECT_S:g} s"

    def stop_camera(self) -> None:
        self.heard.made_s = self._camera.made_s
        self._camera.stop()

    async def hang_up(self) -> None:
        await self._connection.close()

    def _hear(self, text: str) -> None:
        now_s = time.monotonic()
        message: dict[str, Any] = json.loads(text)
        if message["type"] == "hello":
            self.heard.session = message["session"]
        elif message["type"] == "prediction":
            self.heard.results.append((message["rtp_end"], now_s, message["latency_ms"]))
            self._first.set()


async def _work(task: Task) -> None:
    gather_loopback()
    peers = [Peer(task, task.seed + number) for number in range(task.peers)]
    try:
        async with aiohttp.ClientSession() as http:
            await asyncio.gather(*(peer.call(http) for peer in peers))
        _say({"connected": sum(peer.heard.error is None for peer in peers)})
        await asyncio.sleep(task.duration_s)
        for peer in peers:
            peer.stop_camera()
        await asyncio.sleep(_SETTLE_S)
        _say({"heard": [asdict(peer.heard) for peer in peers]})
        await _stdin_closed()
    finally:
        await asyncio.gather(*(peer.hang_up() for peer in peers))


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


async def _stdin_closed() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()
    transport.close()


def main() -> int:
    task = json.loads(sys.argv[1])
    asyncio.run(_work(Task(**{**task, "size": tuple(task["size"])})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
