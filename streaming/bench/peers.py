"""The other end of a benchmark: cameras that call the server from a process of their own.

    task from the parent -> [peers] -> WebRTC to the server; results -> logs to the parent

A child process gets its task as JSON and reports in lines of JSON (`Child`): one when all peers are
connected and, once the parent lets it go on, another when their time is over. Times are of
CLOCK_MONOTONIC, which all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from yarl import URL

from streaming.bench import barcode
from streaming.bench.camera import RecordedCamera, SyntheticCamera, clip_pictures, record
from streaming.bench.network import NetworkConditions, impair
from streaming.subscribers import PREDICTIONS, RESULTS
from streaming.webrtc.ice import gather_loopback

CONNECT_S = 30.0  # from the offer to the first prediction
SETTLE_S = 1.0  # after the last frame, for results that are on their way
_RETRY_S = 15.0  # a server that refuses for now is asked again for so long
_SEEDS = 8  # of one peer's links
_LINE_BYTES = 1 << 26  # of a child's report
_END_S = 5.0  # from closing its stdin until it is killed
_ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTask:
    """What a process of peers has to do."""

    url: str
    peers: int = 1
    duration_s: float = 0.0
    fps: float = 30.0
    size: tuple[int, int] = (640, 480)  # px, (width, height)
    clip: str | None = None  # a video file; None: drawn pictures
    recording: str | None = None  # an IVF file, sent as it is instead of encoding anything
    network: NetworkConditions = field(default_factory=NetworkConditions)
    seed: int = 0  # of the first peer


async def with_recording(task: PeerTask, seconds: float, stack: AsyncExitStack) -> PeerTask:
    """The task with a recording of what its cameras would send; deleted with the stack."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    path, fps = Path(folder) / "camera.ivf", round(task.fps)
    pictures = clip_pictures(task.clip, task.size)
    await asyncio.to_thread(record, path, pictures, frames=round(seconds * fps), fps=fps)
    return replace(task, recording=str(path))


class Refused(Exception):
    """The server did not admit a peer; the message is its response."""

    def __init__(self, response: str, retry_after_s: float | None = None) -> None:
        super().__init__(response)
        self.retry_after_s = retry_after_s  # None: the server named no time


@dataclass(slots=True, kw_only=True)
class PeerLog:
    """What one peer sent and received."""

    session: str = ""
    made_s: list[float] = field(default_factory=list)  # of each frame
    numbers: int = barcode.NUMBERS  # frame n shows the number n modulo this
    predictions: list[tuple[int, float, dict[str, float]]] = field(default_factory=list)
    # rtp_end (of other servers: the picture's number), when it was received, latency_ms
    error: str | None = None

    def made(self, number: int, before_s: float) -> float | None:
        """When the newest frame before `before_s` that shows `number` was made."""
        frames = self.made_s[number :: self.numbers] if number < self.numbers else []
        count = bisect.bisect_right(frames, before_s)
        return frames[count - 1] if count else None


class Peer:
    """One camera in a call. Subclasses speak the signalling of other servers."""

    def __init__(self, task: PeerTask, seed: int) -> None:
        self.log = PeerLog()
        self.location = ""  # URL of the session, once it is admitted
        self._url = task.url
        self._network = task.network
        self._seed = seed
        self._camera: RecordedCamera | SyntheticCamera
        if task.recording is not None:
            self._camera = RecordedCamera(task.recording)
        else:
            self._camera = SyntheticCamera(fps=task.fps, size=task.size, clip=task.clip)
        self._first = asyncio.Event()
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._open_channels(self._connection)
        self._connection.addTransceiver(self._camera, "sendonly")

    async def call(self, http: aiohttp.ClientSession) -> None:
        """Connect, and wait for the first prediction; what fails is kept in `log.error`."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connection.setLocalDescription(await self._connection.createOffer())
                if self._network.impaired:
                    impair(self._connection, self._network, self._seed)
                sdp = await self._admitted(http, self._connection.localDescription.sdp)
                answer = RTCSessionDescription(sdp=sdp, type="answer")
                await self._connection.setRemoteDescription(answer)
                await self._first.wait()
        except (Refused, aiohttp.ClientError) as error:
            self.log.error = str(error) or type(error).__name__
        except TimeoutError:
            self.log.error = f"no prediction within {CONNECT_S:g} s"

    async def _admitted(self, http: aiohttp.ClientSession, offer: str) -> str:
        """The SDP answer. Asks again after the time that a refusal names, as the page does."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _RETRY_S
        while True:
            try:
                return await self._signal(http, offer)
            except Refused as error:
                if error.retry_after_s is None or loop.time() + error.retry_after_s > until_s:
                    raise
                await asyncio.sleep(error.retry_after_s)

    def log_prediction(self, key: int, latency_ms: Mapping[str, float] | None = None) -> None:
        """Note when a prediction came; `key` names the picture that it belongs to."""
        self.log.predictions.append((key, time.monotonic(), dict(latency_ms or {})))
        self._first.set()

    def stop_camera(self) -> None:
        self.log.made_s, self.log.numbers = self._camera.made_s, self._camera.numbers
        self._camera.stop()

    def vanish(self) -> None:
        """Lose everything from now on, like a peer whose network is gone."""
        impair(self._connection, NetworkConditions(loss=1 - 1e-12), self._seed)

    async def close(self) -> None:
        await self._connection.close()

    def _open_channels(self, connection: RTCPeerConnection) -> None:
        """Open the data channels on which the server sends its messages."""
        self.results = connection.createDataChannel(RESULTS)
        predictions = connection.createDataChannel(PREDICTIONS, ordered=False, maxRetransmits=0)
        for channel in (self.results, predictions):
            channel.on("message", self._receive)

    async def _signal(self, http: aiohttp.ClientSession, offer: str) -> str:
        """Send the SDP offer; returns the SDP answer. Raises `Refused`."""
        headers = {"Content-Type": "application/sdp"}
        async with http.post(f"{self._url}/whip", data=offer, headers=headers) as response:
            body = await response.text()
        if response.status != 201:
            after = response.headers.get("Retry-After")
            raise Refused(f"HTTP {response.status}: {body}", float(after) if after else None)
        self.location = str(response.url.join(URL(response.headers["Location"])))
        return body

    def _receive(self, text: str | bytes) -> None:
        message: dict[str, Any] = json.loads(text)
        if message["type"] == "hello":
            self.log.session = message["session"]
        elif message["type"] == "prediction":
            self.log_prediction(message["rtp_end"], message["latency_ms"])


async def run_peers(task: PeerTask, make: Callable[[PeerTask, int], Peer] = Peer) -> None:
    """Let the peers of a task call, send for its duration, and report their logs."""
    gather_loopback()
    peers = [make(task, _SEEDS * (task.seed + number)) for number in range(task.peers)]
    try:
        parent = await parent_input()
        async with aiohttp.ClientSession() as http:
            await asyncio.gather(*(peer.call(http) for peer in peers))
            send_line({"connected": sum(peer.log.error is None for peer in peers)})
            await parent.readline()
            await asyncio.sleep(task.duration_s)
            for peer in peers:
                peer.stop_camera()
            await asyncio.sleep(SETTLE_S)
            send_line({"logs": [peer.log for peer in peers]})
            await parent.read()
    finally:
        await asyncio.gather(*(peer.close() for peer in peers))


class Child:
    """A running process of a benchmark. Started by `start`, ended with the stack that it was given.

    A line on its `stdin` lets it go on; closing it asks it to end: it may still report.
    """

    def __init__(self, process: asyncio.subprocess.Process, module: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.stdin, self._stdout = process.stdin, process.stdout
        self.process, self._module = process, module

    @classmethod
    async def start(cls, stack: AsyncExitStack, module: str, task: object) -> Child:
        """Run `python -m module TASK`; the task, a dataclass, becomes JSON."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, msgspec.json.encode(task).decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            cwd=_ROOT,
        )
        child = cls(process, module)
        stack.push_async_callback(child._end)
        return child

    async def receive(self) -> dict[str, Any]:
        """The next JSON object that it reports; libraries print other lines.

        Raises:
            OSError: it has ended.
        """
        while not (line := await self._stdout.readline()).startswith(b"{"):
            if not line:
                status = await self.process.wait()
                raise OSError(f"{self._module} ended early, with status {status}")
        message: dict[str, Any] = msgspec.json.decode(line)
        return message

    async def _end(self) -> None:
        self.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


def send_line(message: Mapping[str, Any]) -> None:
    """In a child: report one JSON object to the parent."""
    print(msgspec.json.encode(message).decode(), flush=True)


async def parent_input() -> asyncio.StreamReader:
    """In a child: a line of it means "go on", its end that the parent closed it or is gone."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


async def parent_gone() -> None:
    """In a child: wait until the parent closes stdin, or is gone."""
    await (await parent_input()).read()


if __name__ == "__main__":
    asyncio.run(run_peers(msgspec.json.decode(sys.argv[1], type=PeerTask)))
