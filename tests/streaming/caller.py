"""A caller for the tests: a real aiortc peer that sends video and keeps the messages that come."""

from __future__ import annotations

import asyncio
import fractions
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from yarl import URL

Picture = Callable[[int], np.ndarray[Any, Any]]  # frame number -> (H, W, 3) RGB


def moving_square(n: int) -> np.ndarray[Any, Any]:
    """A grey picture in which a bright square walks to the right."""
    picture = np.full((240, 320, 3), 90, np.uint8)
    x = (n * 5) % 280
    picture[100:140, x : x + 40] = 230
    return picture


class Camera(MediaStreamTrack):
    """Sends `picture(n)` at `fps`, on the wall clock, as a browser's camera would."""

    kind = "video"

    def __init__(self, picture: Picture = moving_square, fps: int = 30) -> None:
        super().__init__()
        self._picture = picture
        self._fps = fps
        self._n = 0
        self._began_s = 0.0

    async def recv(self) -> av.VideoFrame:
        if self._n == 0:
            self._began_s = time.monotonic()
        due_s = self._began_s + self._n / self._fps
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        frame = av.VideoFrame.from_ndarray(self._picture(self._n), format="rgb24")
        frame.pts, frame.time_base = self._n * 90_000 // self._fps, fractions.Fraction(1, 90_000)
        self._n += 1
        return frame


class Caller:
    """One peer of a server at `url`: `messages` holds all that came on its data channel."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.messages: list[dict[str, Any]] = []
        self._came = asyncio.Event()
        self.location = ""  # path of the session
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.connection.createDataChannel("results")
        self.channel.on("message", self._receive)

    def _receive(self, data: str) -> None:
        self.messages.append(json.loads(data))
        self._came.set()

    async def offer(self, camera: MediaStreamTrack | None = None) -> str:
        self.connection.addTransceiver(camera or Camera(), direction="sendonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def call(
        self, http: aiohttp.ClientSession, camera: MediaStreamTrack | None = None
    ) -> None:
        """Connect. Raises AssertionError when the status is not 201."""
        headers = {"Content-Type": "application/sdp"}
        sdp = await self.offer(camera)
        async with http.post(f"{self.url}/whip", data=sdp, headers=headers) as response:
            body = await response.text()
            assert response.status == 201, (response.status, body)
            self.location = response.url.join(URL(response.headers["Location"])).path
        await self.connection.setRemoteDescription(RTCSessionDescription(body, "answer"))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    async def wait_for(
        self, kind: str, count: int = 1, within_s: float = 15
    ) -> list[dict[str, Any]]:
        """The messages of a kind, once there are `count` of them."""
        async with asyncio.timeout(within_s):
            while len(self.of(kind)) < count:
                self._came.clear()
                await self._came.wait()
        return self.of(kind)

    async def wait_for_more(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """The messages of a kind, once `count` have come from now on."""
        return await self.wait_for(kind, len(self.of(kind)) + count)

    def send(self, **message: Any) -> None:
        self.channel.send(json.dumps(message))

    async def close(self) -> None:
        await self.connection.close()


@asynccontextmanager
async def calling(
    url: str, http: aiohttp.ClientSession, camera: MediaStreamTrack | None = None
) -> AsyncIterator[Caller]:
    """A connected caller for as long as the block lasts."""
    caller = Caller(url)
    try:
        await caller.call(http, camera)
        yield caller
    finally:
        await caller.close()


async def problem(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The body of a response that is a problem."""
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = json.loads(await response.text())
    assert body["status"] == response.status
    assert body["title"]
    return body


async def offered(url: str) -> str:
    """An offer whose maker is gone."""
    caller = Caller(url)
    sdp = await caller.offer()
    await caller.close()
    return sdp


async def predicted(caller: Caller, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first prediction from now on for which `what` is true."""
    place = len(caller.of("prediction"))
    while True:
        newest = (await caller.wait_for("prediction", place + 1))[place]
        if what(newest):
            return newest
        place += 1
