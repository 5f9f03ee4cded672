"""FastRTC as its documentation shows it: a `Stream` with a handler, mounted on FastAPI.

https://fastrtc.org/userguide/streams, /userguide/video#skipping-frames, /userguide/api: mode "send"
for a camera that wants no picture back, `skip_frames=True` for a handler that "is not quite
real-time yet", answers as `AdditionalOutputs`, read from `output_stream` as server-sent events.
The handler is told no times, so the windows go by this machine's clock.
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

from benchmarks.host import Hosting, Served, main
from benchmarks.reader import Window, WindowReader

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # set before gradio is imported: it calls home

import uvicorn
from fastapi import Body, FastAPI
from fastapi.responses import StreamingResponse
from fastrtc import (
    AdditionalOutputs,
    Stream,
    VideoStreamHandler,
    get_current_context,
)


def app_of(reader: WindowReader, sessions: int) -> FastAPI:
    """The application of a `Stream`, with the routes that its guide adds."""
    windows: dict[str, Window] = {}

    def recognise(image: NDArray[np.uint8]) -> Any:
        session = get_current_context().webrtc_id
        window = windows.setdefault(session, reader.window(session))
        now_s = time.monotonic()
        if not window.wants(now_s):
            return None
        said = window.look(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), now_s)
        return None if said is None else AdditionalOutputs(said)

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

    @app.post("/input_hook")
    async def input_hook(webrtc_id: str = Body(embed=True)) -> None:
        stream.set_input(webrtc_id, None)  # a stream without input never calls its handler

    @app.get("/updates")
    async def updates(webrtc_id: str) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            async for output in stream.output_stream(webrtc_id):
                yield f"data: {json.dumps(output.args[0])}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


@asynccontextmanager
async def serve_stream(hosting: Hosting) -> AsyncIterator[Served]:
    reader = WindowReader(hosting.model)
    app = app_of(reader, hosting.sessions)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error"))
    listener = socket.create_server(("127.0.0.1", 0))  # who calls before uvicorn is up, waits
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield Served(url=f"http://127.0.0.1:{listener.getsockname()[1]}")
    server.should_exit = server.force_exit = True
    await serving
    reader.close()


if __name__ == "__main__":
    main(serve_stream)
