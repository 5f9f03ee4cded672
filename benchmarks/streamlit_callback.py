"""streamlit-webrtc as its object detection page shows it: a callback with `async_processing`.

https://github.com/whitphx/streamlit-webrtc/blob/main/pages/1_object_detection.py: the callback runs
in a thread a session, gets the newest frame and puts its answer into a queue that the page's script
reads. Mode SENDONLY, as in pages/9_sendonly_video.py: nobody wants the picture back.

Streamlit's own page can't be called by a synthetic peer: its signalling runs through a component in
the page. So its worker (`WebRtcWorker.process_offer`), which is what the component calls, is driven
by a small page of ours instead, and answers are told as server-sent events. That is less work than
Streamlit's script and websocket do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiortc import RTCConfiguration
from aiortc.contrib.media import MediaRelay
from streamlit_webrtc import WebRtcMode
from streamlit_webrtc.webrtc import WebRtcWorker

from benchmarks.host import Hosting, Served, main
from benchmarks.page import listening
from benchmarks.reader import WindowReader


class Page:
    """What stands in for Streamlit's page: offers in, answers out."""

    def __init__(self, reader: WindowReader) -> None:
        self._reader = reader
        self._relay = MediaRelay()
        self._results: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._workers: list[Any] = []

    async def offer(self, request: web.Request) -> web.Response:
        given = await request.json()
        results = self._results[given["webrtc_id"]] = asyncio.Queue()
        worker = self._worker(given["webrtc_id"], results)
        self._workers.append(worker)
        answer = await asyncio.to_thread(worker.process_offer, given["sdp"], given["type"], 30.0)
        return web.json_response({"sdp": answer.sdp, "type": answer.type})

    async def updates(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        results = self._results[request.query["webrtc_id"]]
        while True:
            await response.write(f"data: {json.dumps(await results.get())}\n\n".encode())

    async def close(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in self._workers))

    def _worker(self, session: str, results: asyncio.Queue[dict[str, Any]]) -> Any:
        loop = asyncio.get_running_loop()
        window = self._reader.window(session)

        def callback(frame: Any) -> Any:
            if window.wants(frame.time):
                said = window.look(frame.to_ndarray(format="rgb24"), frame.time)
                if said is not None:
                    loop.call_soon_threadsafe(results.put_nowait, said)
            return frame

        nothing = dict.fromkeys(
            (
                "source_video_track source_audio_track sink_video_track sink_audio_track "
                "player_factory in_recorder_factory out_recorder_factory audio_frame_callback "
                "queued_video_frames_callback queued_audio_frames_callback on_video_ended "
                "on_audio_ended video_processor_factory audio_processor_factory"
            ).split()
        )
        return WebRtcWorker(
            **nothing,
            mode=WebRtcMode.SENDONLY,
            rtc_configuration=RTCConfiguration(iceServers=[]),
            video_frame_callback=callback,
            async_processing=True,
            video_receiver_size=4,  # of webrtc_streamer, as the rest
            audio_receiver_size=4,
            sendback_video=True,
            sendback_audio=True,
            loop=loop,
            relay=self._relay,
        )


@asynccontextmanager
async def serve_worker(hosting: Hosting) -> AsyncIterator[Served]:
    reader = WindowReader(hosting.model)
    page = Page(reader)
    routes = [web.post("/webrtc/offer", page.offer), web.get("/updates", page.updates)]
    async with listening(routes) as url:
        yield Served(url=url)
        await page.close()
    reader.close()


if __name__ == "__main__":
    main(serve_worker)
