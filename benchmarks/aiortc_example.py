"""aiortc as its example server shows it: a track that transforms, on the event loop.

https://github.com/aiortc/aiortc/blob/main/examples/server/server.py: `VideoTransformTrack.recv`
awaits a frame, converts it, computes, returns it; a data channel answers. The example's
`MediaBlackhole` pulls the track here. It also sends the picture back; nobody asks for that here.

`--careful` is what its documentation offers to those whom this is too slow: `MediaRelay.subscribe`
with `buffered=False`, which passes frames over while the last one is being worked on
(https://aiortc.readthedocs.io/en/latest/helpers.html#media-relay), and the model in a thread.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.contrib.media import MediaBlackhole, MediaRelay

from benchmarks.host import Hosting, Served, main
from benchmarks.page import listening
from benchmarks.reader import Window, WindowReader


class RecognisedTrack(MediaStreamTrack):
    """The example's `VideoTransformTrack`, with our model for its edge detection."""

    kind = "video"

    def __init__(
        self, track: MediaStreamTrack, window: Window, channels: list[RTCDataChannel], careful: bool
    ) -> None:
        super().__init__()
        self._track = track
        self._window = window
        self._channels = channels
        self._careful = careful

    async def recv(self) -> Any:
        frame: Any = await self._track.recv()
        if self._window.wants(frame.time):
            if self._careful:
                said = await asyncio.to_thread(self._look, frame)
            else:
                said = self._look(frame)
            if said is not None:
                for channel in self._channels:
                    channel.send(json.dumps(said))
        return frame

    def _look(self, frame: Any) -> dict[str, Any] | None:
        return self._window.look(frame.to_ndarray(format="rgb24"), frame.time)


class AiortcExample:
    """The example's `offer` route."""

    def __init__(self, reader: WindowReader, careful: bool) -> None:
        self._reader = reader
        self._careful = careful
        self._relay = MediaRelay()
        self._connections: set[RTCPeerConnection] = set()

    async def offer(self, request: web.Request) -> web.Response:
        given = await request.json()
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connections.add(connection)
        recorder = MediaBlackhole()
        channels: list[RTCDataChannel] = []
        connection.on("datachannel", channels.append)

        @connection.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            frames = self._relay.subscribe(track, buffered=not self._careful)
            window = self._reader.window(track.id)
            recorder.addTrack(RecognisedTrack(frames, window, channels, self._careful))

        await connection.setRemoteDescription(RTCSessionDescription(given["sdp"], given["type"]))
        await recorder.start()
        answer = await connection.createAnswer()
        assert answer is not None
        await connection.setLocalDescription(answer)
        local = connection.localDescription
        return web.json_response({"sdp": local.sdp, "type": local.type})

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._connections))


@asynccontextmanager
async def serve_example(hosting: Hosting) -> AsyncIterator[Served]:
    reader = WindowReader(hosting.model)
    example = AiortcExample(reader, careful="--careful" in sys.argv)
    async with listening([web.post("/offer", example.offer)]) as url:
        yield Served(url=url)
        await example.close()
    reader.close()


if __name__ == "__main__":
    main(serve_example)
