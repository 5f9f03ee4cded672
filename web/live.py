"""One visitor's stream in the demo: pictures in, what the page shows out.

    camera's thread -> [live] -> engine's loop: `streaming.pipeline` -> [display] -> page's script

The pipeline is the live server's. Pictures come on the camera's thread, messages on the engine's
loop, and Streamlit runs the page's script on threads of its own. No thread waits for another.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.picture import PictureScaler
from models.schema import Frame
from models.window import FrameSampler
from streaming.batcher import Batcher
from streaming.capacity import Pace
from streaming.messages import Message, SettingsChange, to_json
from streaming.pipeline import Pipeline
from streaming.ring import FrameRing
from streaming.settings import SessionSettings
from streaming.subscribers import RESULTS, Outbox, Subscribers
from streaming.webrtc.video_decoder import RTP_HZ, MediaClock

_log = logging.getLogger(__name__)

HISTORY = 200  # signs; the oldest leaves first
_SMALL = 4  # every fourth pixel of every fourth line is enough for a strip of pictures
_NOTICE_S = 6.0  # how long a hint or an error is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """What to show at one moment. Messages are those of `streaming.messages`."""

    signs: tuple[Message, ...]  # in the order of their beginning, each as last received
    prediction: Message | None  # the newest; None while there is none
    captured_s: float  # monotonic: when the newest picture of its window was due
    arrival_s: float  # monotonic: when the last picture came
    picture: NDArray[np.uint8] | None  # (H, W, 3) RGB, the newest; None while there is none
    pictures: tuple[NDArray[np.uint8], ...]  # (h, w, 3) small, of its window, oldest first
    notice: str  # an error or a hint; empty: none

    def delay_s(self, now_s: float) -> float:
        """The age at `now_s` of the newest picture behind the prediction.

        Delays before a picture reached us count, too, compared with the quickest of the stream.
        """
        return max(0.0, now_s - self.captured_s)


class Display:
    """What a stream has to show. Safe from any thread.

    Bounds: `HISTORY` signs, one picture, and a small one for each frame of two windows of `frames`.
    """

    def __init__(self, frames: int) -> None:
        self._lock = threading.Lock()
        self._signs: dict[int, Message] = {}
        self._cleared_id = 0  # signs up to this one are not shown
        self._pictures: deque[tuple[float, NDArray[np.uint8]]] = deque(maxlen=2 * frames)
        self._picture: NDArray[np.uint8] | None = None
        self._prediction: Message | None = None
        self._captured_s = -math.inf
        self._arrival_s = -math.inf
        self._offset_s = math.inf  # least of arrival - media time since the stream began
        self._notice = "", -math.inf  # and until when to show it, monotonic

    def state(self) -> StreamState:
        """What to show now."""
        with self._lock:
            window = self._prediction["window"] if self._prediction else None
            notice, until_s = self._notice
            return StreamState(
                signs=tuple(self._signs.values()),
                prediction=self._prediction,
                captured_s=self._captured_s,
                arrival_s=self._arrival_s,
                picture=self._picture,
                pictures=tuple(
                    picture
                    for media_s, picture in self._pictures
                    if window and window["start_s"] < media_s <= window["end_s"]
                ),
                notice=notice if time.monotonic() < until_s else "",
            )

    def arrived(
        self, media_s: float, arrival_s: float, image: NDArray[np.uint8] | None = None
    ) -> None:
        """Note that a picture came. `image`: of a frame that a window will use."""
        small = None if image is None else image[::_SMALL, ::_SMALL].copy()
        with self._lock:
            self._arrival_s = arrival_s
            self._offset_s = min(self._offset_s, arrival_s - media_s)
            if small is not None:
                self._picture = image
                self._pictures.append((media_s, small))

    def receive(self, message: Message) -> None:
        """Take in a message of the pipeline."""
        with self._lock:
            match message["type"]:
                case "prediction" if self._offset_s < math.inf:  # else of a stream that ended
                    self._prediction = message
                    self._captured_s = message["window"]["end_s"] + self._offset_s
                case "sign" if message["id"] > self._cleared_id:
                    self._signs[message["id"]] = message
                    if len(self._signs) > HISTORY:
                        del self._signs[next(iter(self._signs))]
                case "hint":
                    self._notice = message["text"], time.monotonic() + _NOTICE_S
                case "error":
                    self._notice = message["message"], time.monotonic() + _NOTICE_S

    def fail(self, notice: str) -> None:
        """Show an error from now on."""
        with self._lock:
            self._notice = notice, math.inf

    def pause(self) -> None:
        """The stream ended: keep only the signs."""
        with self._lock:
            self._prediction = None
            self._offset_s = math.inf
            self._picture = None
            self._pictures.clear()

    def clear_signs(self) -> None:
        """Empty the history. Later messages about its signs are ignored."""
        with self._lock:
            self._cleared_id = max(self._signs, default=self._cleared_id)
            self._signs.clear()


class Live:
    """One stream. Made and run on the engine's loop; its other methods are safe from any thread.

    Bounds: those of `Pipeline`, of its outbox and of `Display`.
    """

    def __init__(self, stream: str, bundle: Bundle, batcher: Batcher) -> None:
        settings = SessionSettings()
        self.display = Display(bundle.encoder.frames)
        self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        self._ring = FrameRing(bundle.encoder.frames)
        self._subscribers = Subscribers(None, outbox=settings.outbox)
        self._pipeline = Pipeline(
            stream,
            bundle=bundle,
            ring=self._ring,
            batcher=batcher,
            subscribers=self._subscribers,
            settings=settings,
            pace=Pace(bundle.hop_s, bundle.hop_s, 1 / bundle.encoder.fps),
            dropped_before=lambda: 0,
        )
        self._adding = threading.Lock()  # one picture at a time
        self._clock = MediaClock()
        self._sampler = FrameSampler(bundle.encoder.fps)
        self._scaler = PictureScaler(bundle.encoder.short_side, bundle.encoder.resize)

    # From the camera

    def add_picture(self, picture: Any) -> bool:
        """Take in a decoded picture (`av.VideoFrame`). Returns False once the stream is closed.

        Never waits for the recogniser. Pictures that no window will use are not converted.
        """
        arrival_s = time.monotonic()
        with self._adding:
            time_s = picture.time  # pts * time_base; None where the sender gives no times
            rtp = round((arrival_s if time_s is None else time_s) * RTP_HZ) % (1 << 32)
            media_s = self._clock.map(rtp, arrival_s)
            image = self._scaler.rgb(picture) if self._sampler.wants(media_s) else None
            self.display.arrived(media_s, arrival_s, image)
            if image is not None:
                frame = Frame(
                    image=image,
                    media_s=media_s,
                    arrival_s=arrival_s,
                    decoded_s=time.monotonic(),
                    rtp=rtp,
                )
                self._ring.push(frame)
        return not self._closed.is_set()

    def pause(self) -> None:
        """The pictures end for now, and with them the current sign."""
        self.display.pause()
        self._call(self._pipeline.clear)

    # From the page

    def set_threshold(self, threshold: float) -> None:
        """Change how sure a sign must be, from the next prediction on."""
        self._call(lambda: self._pipeline.change(SettingsChange(threshold=threshold)))

    def clear_signs(self) -> None:
        """Empty the history and end the current sign."""
        self.display.clear_signs()
        self._call(self._pipeline.clear)

    def close(self) -> None:
        """End the stream and release what it holds."""
        self._call(self._closed.set)

    # On the engine's loop

    async def run(self) -> None:
        """Recognise until `close`. An error is shown on the page and ends this stream alone."""
        outbox = self._subscribers.join(RESULTS)
        try:
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(self._pipeline.windows(), name="windows"),
                    tasks.create_task(self._pipeline.predictions(), name="predictions"),
                    tasks.create_task(self._receive(outbox), name="receive"),
                ]
                await self._closed.wait()
                for task in work:
                    task.cancel()
        except Exception:
            _log.exception("a stream of the demo failed")
            self.display.fail("Something went wrong here. Load the page again to go on.")
        finally:
            self._closed.set()
            self._pipeline.close()
            self._subscribers.close()

    async def _receive(self, outbox: Outbox) -> None:
        while (message := await outbox.take()) is not None:
            self.display.receive(to_json(message))

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            _log.debug("the engine closed before its stream")
