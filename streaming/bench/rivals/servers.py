"""The servers under test, each in a process of its own: livegloss, aiortc's example, the others.

`python -m streaming.bench.rivals.servers TASK` serves until its parent closes stdin. It reports its
URL, and at the end which pictures its windows ended with.

aiortc: https://github.com/aiortc/aiortc/blob/main/examples/server/server.py. A track's `recv`
awaits a frame, computes on the event loop and returns it; results go out on a data channel. The
careful variant does what its documentation offers when this is too slow: `MediaRelay.subscribe`
with `buffered=False` skips frames while the last one is being worked on
(https://aiortc.readthedocs.io/en/latest/helpers.html#media-relay), and the model is in a thread.

streamlit-webrtc: https://github.com/whitphx/streamlit-webrtc/blob/main/pages/1_object_detection.py.
A callback with `async_processing` runs in a thread a session and puts its result into a queue.
Mode SENDONLY, as in pages/9_sendonly_video.py. A synthetic peer can't call Streamlit's page, whose
signalling runs through a component in it: a small page of ours drives what the component calls.
That is less work than Streamlit's script and websocket do.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.contrib.media import MediaBlackhole, MediaRelay

from streaming.app import serve
from streaming.bench.children import parent_gone, send_line
from streaming.bench.measure import loopback_settings
from streaming.bench.rivals.window import SessionWindow
from streaming.bench.standin import NewestPictures, WatchedRecognizer, open_model
from streaming.runner import RecognizerCore
from streaming.webrtc.ice import gather_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTask:
    """What the process of a server under test is started with."""

    server: str  # see `_serve`
    model: str  # see `open_model`
    sessions: int


class _RecognisedTrack(MediaStreamTrack):
    """The example's `VideoTransformTrack`, with our model in place of its edge detection."""

    kind = "video"

    def __init__(
        self,
        track: MediaStreamTrack,
        window: SessionWindow,
        channels: list[RTCDataChannel],
        careful: bool,
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
                result = await asyncio.to_thread(self._add, frame)
            else:
                result = self._add(frame)
            if result is not None:
                for channel in self._channels:
                    channel.send(json.dumps(result))
        return frame

    def _add(self, frame: Any) -> dict[str, Any] | None:
        return self._window.add(frame.to_ndarray(format="rgb24"), frame.time)


@asynccontextmanager
async def _serve_aiortc(core: RecognizerCore, *, careful: bool) -> AsyncIterator[str]:
    """The example's `offer` route; no picture is sent back."""
    relay = MediaRelay()
    connections: set[RTCPeerConnection] = set()

    async def offer(request: web.Request) -> web.Response:
        body = await request.json()
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connections.add(connection)
        recorder = MediaBlackhole()
        channels: list[RTCDataChannel] = []
        connection.on("datachannel", channels.append)

        @connection.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            frames = relay.subscribe(track, buffered=not careful)
            window = SessionWindow(core, track.id)
            recorder.addTrack(_RecognisedTrack(frames, window, channels, careful))

        await connection.setRemoteDescription(RTCSessionDescription(body["sdp"], body["type"]))
        await recorder.start()
        answer = await connection.createAnswer()
        assert answer is not None
        await connection.setLocalDescription(answer)
        local = connection.localDescription
        return web.json_response({"sdp": local.sdp, "type": local.type})

    async with _listening([web.post("/offer", offer)]) as url:
        yield url
        await asyncio.gather(*(connection.close() for connection in connections))


@asynccontextmanager
async def _serve_streamlit(core: RecognizerCore) -> AsyncIterator[str]:
    """The page in place of Streamlit's: offers in, server-sent events out."""
    relay = MediaRelay()
    queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
    workers: list[Any] = []

    async def offer(request: web.Request) -> web.Response:
        body = await request.json()
        queue = queues[body["webrtc_id"]] = asyncio.Queue()
        workers.append(_streamlit_worker(SessionWindow(core, body["webrtc_id"]), queue, relay))
        process = workers[-1].process_offer
        answer = await asyncio.to_thread(process, body["sdp"], body["type"], 30.0)
        return web.json_response({"sdp": answer.sdp, "type": answer.type})

    async def updates(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue = queues[request.query["webrtc_id"]]
        while True:
            await response.write(f"data: {json.dumps(await queue.get())}\n\n".encode())

    async with _listening([web.post("/webrtc/offer", offer), web.get("/updates", updates)]) as url:
        yield url
        await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in workers))


def _streamlit_worker(
    window: SessionWindow, queue: asyncio.Queue[dict[str, Any]], relay: MediaRelay
) -> Any:
    from streamlit_webrtc import WebRtcMode
    from streamlit_webrtc.webrtc import WebRtcWorker

    loop = asyncio.get_running_loop()

    def callback(frame: Any) -> Any:
        if window.wants(frame.time):
            result = window.add(frame.to_ndarray(format="rgb24"), frame.time)
            if result is not None:
                loop.call_soon_threadsafe(queue.put_nowait, result)
        return frame

    unused = (
        "source_video_track source_audio_track sink_video_track sink_audio_track player_factory "
        "in_recorder_factory out_recorder_factory audio_frame_callback "
        "queued_video_frames_callback queued_audio_frames_callback on_video_ended on_audio_ended "
        "video_processor_factory audio_processor_factory"
    )
    return WebRtcWorker(
        **dict.fromkeys(unused.split()),
        mode=WebRtcMode.SENDONLY,
        rtc_configuration=RTCConfiguration(iceServers=[]),
        video_frame_callback=callback,
        async_processing=True,
        video_receiver_size=4,  # the defaults of webrtc_streamer, from here on
        audio_receiver_size=4,
        sendback_video=True,
        sendback_audio=True,
        loop=loop,
        relay=relay,
    )


@asynccontextmanager
async def _listening(routes: Sequence[web.RouteDef]) -> AsyncIterator[str]:
    """Serve `routes` on a free port of this machine; yields the URL."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _serve_livegloss(core: RecognizerCore, sessions: int) -> AsyncIterator[str]:
    """As `python -m streaming` does."""
    async with serve(loopback_settings(sessions), core) as server:
        yield server.url


def _serve(task: HostTask, core: RecognizerCore) -> AbstractAsyncContextManager[str]:
    match task.server:
        case "aiortc" | "aiortc-careful":
            return _serve_aiortc(core, careful=task.server == "aiortc-careful")
        case "fastrtc":
            from streaming.bench.rivals.fastrtc_handler import serve_fastrtc

            return serve_fastrtc(core, task.sessions)
        case "streamlit-webrtc":
            return _serve_streamlit(core)
        case _:
            return _serve_livegloss(core, task.sessions)


async def _host(task: HostTask) -> None:
    """Serve until the parent closes stdin."""
    gather_loopback()
    core, pictures = open_model(task.model), NewestPictures()
    core.warm()
    if task.server == "livegloss":  # its results name a time, the others' their picture
        core = watched = WatchedRecognizer(core)
        pictures = watched.newest
    async with _serve(task, core) as url:
        send_line({"url": url})
        await parent_gone()
        send_line({"pictures": [(*key, number) for key, (number, _) in pictures.items()]})
    core.close()


if __name__ == "__main__":
    asyncio.run(_host(msgspec.json.decode(sys.argv[1], type=HostTask)))
