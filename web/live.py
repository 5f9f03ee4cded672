"""One stream of pictures being read for one visitor of the demo.

camera's thread -> [live] -> engine's loop: `streaming.pipeline` -> display -> the page's script

The recognition is the live server's own. Pictures come on the threads of whoever has a camera, and
nobody waits for another: `show` hands a picture over and returns.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from models.bundle import Bundle
from models.decoder import DecoderSettings
from models.picture import PictureScaler
from models.schema import Frame
from models.window import FrameSampler
from streaming.batcher import Batcher
from streaming.messages import SettingsChange
from streaming.pipeline import Pipeline
from streaming.settings import SessionSettings
from streaming.subscribers import RESULTS, Outbox, Subscribers
from streaming.webrtc.video_decoder import MediaClock
from web.display import Display

_log = logging.getLogger(__name__)

_RATE = 90_000  # Hz, the clock of video payloads, which MediaClock reads


class Live:
    """Made and run on the engine's loop; all else may be called from any thread.

    Bounds: those of `Pipeline`, of its outbox and of `Display`.
    """

    def __init__(self, stream: str, bundle: Bundle, batcher: Batcher) -> None:
        settings = SessionSettings()
        self.display = Display(bundle.encoder.frames)
        self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        self._gone = False
        self._audience = Subscribers(lambda: {"type": "hello"}, outbox=settings.outbox)
        self._outbox_bound = settings.outbox
        self._recognition = Pipeline(
            stream,
            bundle=bundle,
            batcher=batcher,
            audience=self._audience,
            settings=settings,
            decoder=DecoderSettings(threshold=bundle.threshold),
            hop_s=bundle.hop_s,
            frames_dropped=lambda: self._recognition.ring.dropped,
        )
        self._showing = threading.Lock()  # one picture at a time
        self._clock = MediaClock()
        self._sampler = FrameSampler(bundle.encoder.fps)
        self._scaler = PictureScaler(bundle.encoder.short_side)

    # From the camera

    def show(self, picture: Any) -> bool:
        """Take a decoder's picture (`av.VideoFrame`); False once nobody looks any more.

        Never waits for the recogniser. Pictures that no window will use are not converted.
        """
        arrival_s = time.monotonic()
        with self._showing:
            time_s = picture.time  # pts * time_base; None where the sender tells no times
            rtp = round((arrival_s if time_s is None else time_s) * _RATE) % (1 << 32)
            media_s = self._clock.map(rtp, arrival_s)
            self.display.arrived(media_s, arrival_s)
            if self._sampler.wants(media_s):
                frame = Frame(
                    image=self._scaler.rgb(picture),
                    media_s=media_s,
                    arrival_s=arrival_s,
                    decoded_s=time.monotonic(),
                    rtp=rtp,
                )
                self.display.keep(frame)
                self._recognition.ring.push(frame)
        return not self._gone

    def pause(self) -> None:
        """The pictures end here, for now: the sign under way is over."""
        self.display.pause()
        self._call(self._recognition.clear)

    # From the page

    def set_threshold(self, threshold: float) -> None:
        """How sure a sign must be, from the next prediction on."""
        self._call(lambda: self._recognition.change(SettingsChange(threshold=threshold)))

    def forget_signs(self) -> None:
        """Empty the history, and start over with the sign under way."""
        self.display.forget_signs()
        self._call(self._recognition.clear)

    def close(self) -> None:
        """Nobody looks any more: let go of everything."""
        self._gone = True
        self._call(self._closed.set)

    def buffers(self) -> dict[str, tuple[float, float]]:
        """How full each buffer is, and its bound, by name."""
        return {
            **self._recognition.buffers(),
            **self.display.buffers(),
            "outbox_messages": (self._audience.fullest, self._outbox_bound),
        }

    # On the engine's loop

    async def run(self) -> None:
        """Read until `close`. What goes wrong is told to the page, and ends this stream alone."""
        outbox = self._audience.join(RESULTS)
        try:
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(self._recognition.windows(), name="windows"),
                    tasks.create_task(self._recognition.results(), name="results"),
                    tasks.create_task(self._listen(outbox), name="listen"),
                ]
                await self._closed.wait()
                for task in work:
                    task.cancel()
        except Exception:
            _log.exception("a stream of the demo failed")
            self.display.fail("Something went wrong here. Load the page again to go on.")
        finally:
            self._gone = True
            self._recognition.close()
            self._audience.close()

    async def _listen(self, outbox: Outbox) -> None:
        while (message := await outbox.take()) is not None:
            self.display.hear(message)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            _log.debug("the engine closed before its stream")
