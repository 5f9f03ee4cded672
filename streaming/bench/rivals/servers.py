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

FastRTC: https://fastrtc.org/userguide/streams, /userguide/video#skipping-frames, /userguide/api. A
`Stream` with a handler, mounted on FastAPI: mode "send" for a camera that wants no picture back,
`skip_frames=True` for a handler that "is not quite real-time yet", results as `AdditionalOutputs`,
read from `output_stream` as server-sent events. The handler gets no times, so its windows go by
this machine's clock.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import cv2
import msgspec
import numpy as np
from aiohttp import web
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.contrib.media import MediaBlackhole, MediaRelay
from numpy.typing import NDArray

from models.schema import Frame
from models.window import FrameSampler, WindowCutter
from streaming.app import serve
from streaming.bench import barcode
from streaming.bench.measure import loopback_settings
from streaming.bench.peers import parent_gone, send_line
from streaming.bench.standin import NewestPictures, WatchedRecognizer, open_model
from streaming.runner import RecognizerCore
from streaming.webrtc.ice import gather_loopback

_device_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTask:
    """What the process of a server under test is started with."""

    server: str  # see `_start`
    model: str  # see `open_model`
    sessions: int


class _SessionWindow:
    """The recogniser as somebody would put it behind another framework.

    The model and the windows are those of our server. A recogniser is one device that computes one
    call at a time: where a framework calls from a thread a session, they wait for each other.
    """

    def __init__(self, core: RecognizerCore, session: str) -> None:
        self._core = core
        # `wants(time_s)`, once a picture: whether it belongs into a window
        self.wants = FrameSampler(core.bundle.encoder.fps).wants
        self._cutter = WindowCutter(session, core.bundle.encoder, core.bundle.hop_s)

    def add(self, image: NDArray[np.uint8], time_s: float) -> dict[str, Any] | None:
        """Keep an (H, W, 3) RGB picture; returns a result where a window is due.

        The result's `picture` is the number in the window's newest picture.
        """
        self._cutter.push(Frame(image=self._scaled(image), media_s=time_s))
        if not self._cutter.due():
            return None
        clip = self._cutter.cut()
        with _device_lock:
            (prediction,) = self._core.recognise([clip])
        best = int(prediction.probabilities.argmax())
        return {
            "picture": barcode.read(clip.frames[-1].image),
            "gloss": self._core.bundle.glosses[best],
            "p": round(float(prediction.probabilities[best]), 3),
        }

    def add_frame(self, frame: Any) -> dict[str, Any] | None:
        """`add` for an av.VideoFrame."""
        return self.add(frame.to_ndarray(format="rgb24"), frame.time)

    def _scaled(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        scale = self._core.bundle.encoder.short_side / min(height, width)
        size = round(width * scale), round(height * scale)
        return (
            image
            if scale >= 1
            else np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        )


class _RecognisedTrack(MediaStreamTrack):
    """The example's `VideoTransformTrack`, with our model in place of its edge detection."""

    kind = "video"

    def __init__(self, track: MediaStreamTrack, use: Callable[[Any], Awaitable[None]]) -> None:
        super().__init__()
        self._track, self._use = track, use

    async def recv(self) -> Any:
        frame: Any = await self._track.recv()
        await self._use(frame)
        return frame


async def _start_aiortc(core: RecognizerCore, stack: AsyncExitStack, *, careful: bool) -> str:
    """The example's `offer` route; no picture is sent back."""
    relay = MediaRelay()

    async def offer(request: web.Request) -> web.Response:
        body = await request.json()
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        stack.push_async_callback(connection.close)
        recorder = MediaBlackhole()
        channels: list[RTCDataChannel] = []
        connection.on("datachannel", channels.append)

        @connection.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            window = _SessionWindow(core, track.id)

            async def recognise(frame: Any) -> None:
                if window.wants(frame.time):
                    add = window.add_frame
                    result = await asyncio.to_thread(add, frame) if careful else add(frame)
                    for channel in channels if result is not None else ():
                        channel.send(json.dumps(result))

            frames = relay.subscribe(track, buffered=not careful)
            recorder.addTrack(_RecognisedTrack(frames, recognise))

        await connection.setRemoteDescription(RTCSessionDescription(body["sdp"], body["type"]))
        await recorder.start()
        answer = await connection.createAnswer()
        assert answer is not None
        await connection.setLocalDescription(answer)
        return _answer(connection.localDescription)

    return await _listen(stack, web.post("/offer", offer))


async def _start_streamlit(core: RecognizerCore, stack: AsyncExitStack) -> str:
    """The page in place of Streamlit's: offers in, server-sent events out."""
    relay = MediaRelay()
    queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}

    async def offer(request: web.Request) -> web.Response:
        body = await request.json()
        queue = queues[body["webrtc_id"]] = asyncio.Queue()
        worker = _streamlit_worker(_SessionWindow(core, body["webrtc_id"]), queue, relay)
        stack.push_async_callback(asyncio.to_thread, worker.stop)
        process = worker.process_offer
        return _answer(await asyncio.to_thread(process, body["sdp"], body["type"], 30.0))

    async def updates(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue = queues[request.query["webrtc_id"]]
        while True:
            await response.write(f"data: {json.dumps(await queue.get())}\n\n".encode())

    return await _listen(stack, web.post("/webrtc/offer", offer), web.get("/updates", updates))


def _streamlit_worker(
    window: _SessionWindow, queue: asyncio.Queue[dict[str, Any]], relay: MediaRelay
) -> Any:
    from streamlit_webrtc import WebRtcMode
    from streamlit_webrtc.webrtc import WebRtcWorker

    loop = asyncio.get_running_loop()

    def callback(frame: Any) -> Any:
        if window.wants(frame.time) and (result := window.add_frame(frame)) is not None:
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


def _answer(description: RTCSessionDescription) -> web.Response:
    return web.json_response({"sdp": description.sdp, "type": description.type})


async def _listen(stack: AsyncExitStack, *routes: web.RouteDef) -> str:
    """Serve `routes` on a free port of this machine; returns the URL."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


async def _start_fastrtc(core: RecognizerCore, stack: AsyncExitStack, sessions: int) -> str:
    """The application of a `Stream`, with the route for results that its guide adds."""
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from fastrtc import AdditionalOutputs, Stream, VideoStreamHandler, get_current_context

    windows: dict[str, _SessionWindow] = {}

    def recognise(image: NDArray[np.uint8]) -> Any:
        session = get_current_context().webrtc_id
        window = windows.setdefault(session, _SessionWindow(core, session))
        now_s = time.monotonic()
        if not window.wants(now_s):
            return None
        result = window.add(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), now_s)
        return None if result is None else AdditionalOutputs(result)

    stream = Stream(
        handler=VideoStreamHandler(recognise, skip_frames=True),
        modality="video",
        mode="send",
        concurrency_limit=sessions,  # the default is one
        server_rtc_configuration={"iceServers": []},
        verbose=False,
    )
    app = FastAPI()
    stream.mount(app)

    async def updates(webrtc_id: str) -> Any:  # FastAPI reads the types of a route
        stream.set_input(webrtc_id, None)  # a stream without input never calls its handler

        async def events() -> AsyncIterator[str]:
            async for output in stream.output_stream(webrtc_id):
                yield f"data: {json.dumps(output.args[0])}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    app.add_api_route("/updates", updates, response_model=None)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error"))
    listener = socket.create_server(("127.0.0.1", 0))  # requests wait until uvicorn is up
    serving = asyncio.create_task(server.serve(sockets=[listener]))

    async def end() -> None:
        server.should_exit = server.force_exit = True
        await serving

    stack.push_async_callback(end)
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def _start(task: HostTask, core: RecognizerCore, stack: AsyncExitStack) -> str:
    """Start the server, which ends with the stack; returns its URL."""
    match task.server:
        case "aiortc" | "aiortc-careful":
            return await _start_aiortc(core, stack, careful=task.server == "aiortc-careful")
        case "fastrtc":
            return await _start_fastrtc(core, stack, task.sessions)
        case "streamlit-webrtc":
            return await _start_streamlit(core, stack)
        case _:  # livegloss, as `python -m streaming` serves it
            serving = serve(loopback_settings(task.sessions), core)
            return (await stack.enter_async_context(serving)).url


async def _host(task: HostTask) -> None:
    """Serve until the parent closes stdin."""
    gather_loopback()
    core, pictures = open_model(task.model), NewestPictures()
    core.warm()
    if task.server == "livegloss":  # its results name a time, the others' their picture
        core = watched = WatchedRecognizer(core)
        pictures = watched.newest
    async with AsyncExitStack() as stack:
        send_line({"url": await _start(task, core, stack)})
        await parent_gone()
        send_line({"pictures": [(*key, number) for key, (number, _) in pictures.items()]})
    core.close()


if __name__ == "__main__":
    asyncio.run(_host(msgspec.json.decode(sys.argv[1], type=HostTask)))
