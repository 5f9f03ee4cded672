"""The other end of a benchmark: synthetic cameras that call the server from a process of their own.

Started by `streaming.bench.run` with its task as JSON; reports two lines, when all peers are
connected and when their time is over, which begins when the parent says so, and hangs up when its
parent does. Its times are of
CLOCK_MONOTONIC, which the processes of one machine share.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from streaming.bench import barcode
from streaming.bench.camera import RecordedCamera, SyntheticCamera, clip_pictures
from streaming.bench.children import parent, say
from streaming.bench.network import worsen
from streaming.bench.settings import NetworkConditions
from streaming.subscribers import PREDICTIONS, RESULTS
from streaming.webrtc.ice import gather_loopback

CONNECT_S = 30.0  # to the first prediction
_ASK_S = 15.0  # a server that is full is asked again for so long
SETTLE_S = 1.0  # after the last frame, for results under way
_SEEDS = 8  # of a peer's links


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTask:
    """What a process of peers is to do."""

    url: str
    peers: int
    duration_s: float
    fps: float = 30.0
    size: tuple[int, int] = (640, 480)  # px, (width, height)
    clip: str | None = None  # a video file; None: a drawn picture
    recording: str | None = None  # sent as it is, instead of encoding anything
    network: NetworkConditions = field(default_factory=NetworkConditions)
    seed: int = 0  # of the first peer
    loopback: bool = True  # call over 127.0.0.1 and nothing else


class Refused(Exception):
    """The server would not have a peer; the message is its answer.

    `after_s`: it may be asked again after so long; None: it did not say.
    """

    def __init__(self, answer: str, after_s: float | None = None) -> None:
        super().__init__(answer)
        self.after_s = after_s


@dataclass(slots=True, kw_only=True)
class PeerLog:
    """What one peer sent and was told."""

    session: str = ""
    made_s: list[float] = field(default_factory=list)  # of each frame
    pictures: int = barcode.NUMBERS  # frame n shows the number n modulo this
    results: list[tuple[int, float, dict[str, float]]] = field(default_factory=list)
    # of each prediction: rtp_end (others' servers: the picture), when it came, latency_ms
    error: str | None = None

    def made(self, number: int, came_s: float) -> float | None:
        """When the newest frame that shows `number` was made, of those before `came_s`."""
        frames = self.made_s[number :: self.pictures] if number < self.pictures else []
        before = bisect.bisect_right(frames, came_s)
        return frames[before - 1] if before else None


class Peer:
    """One camera in a call.

    Subclasses speak other servers' signalling: `_open`, `_answer` and `_hear` are theirs.
    """

    def __init__(self, task: PeerTask, seed: int) -> None:
        self.heard = PeerLog()
        self._url = task.url
        self._network = task.network
        self._seed = seed
        self._camera = _camera(task)
        self._first = asyncio.Event()
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.location = ""  # of the session, once it is answered
        self._open(self._connection)
        self._connection.addTransceiver(self._camera, "sendonly")

    async def call(self, http: aiohttp.ClientSession) -> None:
        """Connect, and wait for the first prediction; what fails is kept in `heard.error`."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connection.setLocalDescription(await self._connection.createOffer())
                if self._network.bad:
                    worsen(self._connection, self._network, self._seed)
                sdp = await self._asked(http, self._connection.localDescription.sdp)
                answer = RTCSessionDescription(sdp=sdp, type="answer")
                await self._connection.setRemoteDescription(answer)
                await self._first.wait()
        except (Refused, aiohttp.ClientError) as error:
            self.heard.error = str(error) or type(error).__name__
        except TimeoutError:
            self.heard.error = f"no prediction within {CONNECT_S:g} s"

    async def _asked(self, http: aiohttp.ClientSession, offer: str) -> str:
        """The answer of a server that is asked again when it says so, as the page does."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _ASK_S
        while True:
            try:
                return await self._answer(http, offer)
            except Refused as error:
                if error.after_s is None or loop.time() + error.after_s > until_s:
                    raise
                await asyncio.sleep(error.after_s)

    def told(self, key: int, latency_ms: Mapping[str, float] | None = None) -> None:
        """A prediction has come; `key` says which picture it is of."""
        self.heard.results.append((key, time.monotonic(), dict(latency_ms or {})))
        self._first.set()

    def stop_camera(self) -> None:
        self.heard.made_s, self.heard.pictures = self._camera.made_s, self._camera.pictures
        self._camera.stop()

    def vanish(self) -> None:
        """Fall silent, as a peer does whose network is gone: not a word gets out any more."""
        worsen(self._connection, NetworkConditions(loss=1 - 1e-12), self._seed)

    async def hang_up(self) -> None:
        await self._connection.close()

    def _open(self, connection: RTCPeerConnection) -> None:
        """Open the data channels that the server talks on."""
        self.results = connection.createDataChannel(RESULTS)
        predictions = connection.createDataChannel(PREDICTIONS, ordered=False, maxRetransmits=0)
        for channel in (self.results, predictions):
            channel.on("message", self._hear)

    async def _answer(self, http: aiohttp.ClientSession, offer: str) -> str:
        """The server's answer to an offer, both SDP. Raises `Refused`."""
        headers = {"Content-Type": "application/sdp"}
        async with http.post(f"{self._url}/whip", data=offer, headers=headers) as response:
            body = await response.text()
        if response.status != 201:
            after = response.headers.get("Retry-After")
            raise Refused(f"HTTP {response.status}: {body}", float(after) if after else None)
        self.location = f"{self._url}{response.headers['Location']}"
        return body

    def _hear(self, text: str) -> None:
        message: dict[str, Any] = json.loads(text)
        if message["type"] == "hello":
            self.heard.session = message["session"]
        elif message["type"] == "prediction":
            self.told(message["rtp_end"], message["latency_ms"])


def _camera(task: PeerTask) -> SyntheticCamera | RecordedCamera:
    if task.recording is not None:
        return RecordedCamera(task.recording)
    pictures = clip_pictures(task.clip, task.size) if task.clip else None
    return SyntheticCamera(fps=task.fps, size=task.size, pictures=pictures)


async def work(task: PeerTask, make: Callable[[PeerTask, int], Peer] = Peer) -> None:
    """Let the peers of a task call, talk for its time, and report."""
    if task.loopback:
        gather_loopback()
    peers = [make(task, _SEEDS * (task.seed + number)) for number in range(task.peers)]
    try:
        async with aiohttp.ClientSession() as http, parent() as told:
            await asyncio.gather(*(peer.call(http) for peer in peers))
            say({"connected": sum(peer.heard.error is None for peer in peers)})
            await told.readline()
            await asyncio.sleep(task.duration_s)
            for peer in peers:
                peer.stop_camera()
            await asyncio.sleep(SETTLE_S)
            say({"heard": [asdict(peer.heard) for peer in peers]})
            await told.read()
    finally:
        await asyncio.gather(*(peer.hang_up() for peer in peers))


def task_from(argv: list[str]) -> PeerTask:
    """The task that a process of peers was started with."""
    given = json.loads(argv[1])
    network = NetworkConditions(**given["network"])
    return PeerTask(**{**given, "size": tuple(given["size"]), "network": network})


if __name__ == "__main__":
    asyncio.run(work(task_from(sys.argv)))
