"""FastRTC as its documentation shows it: a `Stream` with a handler, mounted on FastAPI.

https://fastrtc.org/userguide/streams, /userguide/video#skipping-frames, /userguide/api: mode "send"
for a camera that wants no picture back, `skip_frames=True` for a handler that "is not quite
real-time yet", results as `AdditionalOutputs`, read from `output_stream` as server-sent events.
The handler gets no times, so its windows go by this machine's clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streaming.bench.rivals.window import SessionWindow
from streaming.runner import RecognizerCore

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it would call home

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastrtc import AdditionalOutputs, Stream, VideoStreamHandler, get_current_context


@asynccontextmanager
async def serve_fastrtc(core: RecognizerCore, sessions: int) -> AsyncIterator[str]:
    """Yields the URL."""
    server = uvicorn.Server(uvicorn.Config(_app(core, sessions), lifespan="off", log_level="error"))
    listener = socket.create_server(("127.0.0.1", 0))  # requests wait until uvicorn is up
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = server.force_exit = True
    await serving


def _app(core: RecognizerCore, sessions: int) -> FastAPI:
    """The application of a `Stream`, with the route for results that its guide adds."""
    windows: dict[str, SessionWindow] = {}

    def recognise(image: NDArray[np.uint8]) -> Any:
        session = get_current_context().webrtc_id
        window = windows.setdefault(session, SessionWindow(core, session))
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

    async def updates(webrtc_id: str) -> StreamingResponse:
        stream.set_input(webrtc_id, None)  # a stream without input never calls its handler

        async def events() -> AsyncIterator[str]:
            async for output in stream.output_stream(webrtc_id):
                yield f"data: {json.dumps(output.args[0])}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    app.add_api_route("/updates", updates)
    return app
