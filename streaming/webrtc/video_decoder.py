"""Encoded frames in, pictures out: one decoder thread a session, with a bounded queue before it.

Every frame must be decoded, since later ones build on it; that is cheap. Only the frames that a
window will use are scaled down and converted to RGB.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import av

from models.picture import PictureScaler
from models.schema import Frame
from streaming.webrtc.jitter_buffer import EncodedFrame

_log = logging.getLogger(__name__)

_CODECS = {"VP8": "vp8", "H264": "h264"}  # FFmpeg's own decoders: they check sizes before memory
_SHUT_S = 2.0  # a decoder that takes longer to stop is left to die with the process


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoDecoderSettings:
    """Bounds of the queue before the thread, and of a picture."""

    max_queued: int = 30  # frames, about a second
    max_age_s: float = 0.25  # an older frame is decoded but not converted: newer ones wait
    max_gap_s: float = 1.0  # but late is better than never: so long without a picture at most
    max_pixels: int = 1920 * 1200


@dataclass(slots=True)
class DecoderCounts:
    """What became of the frames. `dropped` counts by reason."""

    decoded: int = 0
    converted: int = 0
    errors: int = 0
    busy_s: float = 0.0  # processor time of the thread
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, frames: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + frames


class VideoDecoder:
    """Decodes the frames of one session on a thread of its own.

    Overflow rule: when `max_queued` frames wait, all of them are dropped and `on_loss` tells that a
    key frame is needed; a decoder that fails tells the same and goes on.

    Args:
        on_frame: gets each converted frame, on the thread. What it raises is logged and counted.
        wants: asked once a picture, in order, on the thread, whether to convert it.
        on_loss: called on the event loop.
        short_side: px; larger pictures are scaled down, keeping their shape.
    """

    def __init__(
        self,
        *,
        on_frame: Callable[[Frame], None],
        wants: Callable[[float], bool],
        on_loss: Callable[[], None],
        short_side: int,
        settings: VideoDecoderSettings | None = None,
    ) -> None:
        self.settings = settings or VideoDecoderSettings()
        self.counts = DecoderCounts()
        self._on_frame = on_frame
        self._wants = wants
        self._on_loss = on_loss
        self._queue: deque[EncodedFrame] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._clock = MediaClock()
        self._shown_s = -math.inf  # when a picture was last converted
        self._scaler = PictureScaler(short_side)
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._thread: threading.Thread | None = None

    @property
    def queued(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="video-decoder", daemon=True)
            self._thread.start()

    def put(self, frame: EncodedFrame) -> None:
        """Queue a frame. Never blocks; called on the event loop; nothing after `close`."""
        with self._changed:
            if self._closing:
                return
            overflow = len(self._queue) >= self.settings.max_queued
            if overflow:
                self.counts.drop("behind", len(self._queue) + 1)
                self._queue.clear()
            else:
                self._queue.append(frame)
                self._changed.notify()
        if overflow:
            self._on_loss()

    async def close(self) -> None:
        """Stop the thread without blocking the loop. A second call is fine."""
        with self._changed:
            self._closing = True
            self._queue.clear()
            self._changed.notify()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            async with asyncio.timeout(_SHUT_S):
                await self._ended.wait()
        except TimeoutError:
            _log.warning("a video decoder did not stop within %.0f s", _SHUT_S)
            return
        thread.join(0.1)  # it has said that it ends: this waits for its last instructions

    # On the thread

    def _run(self) -> None:
        codec = ""
        decoder: Any = None
        pending: dict[int, EncodedFrame] = {}  # what went into the decoder, by its place
        place = 0
        while (frame := self._get()) is not None:
            self.counts.busy_s = time.thread_time()
            if not frame.data or (decoder is None and not frame.key):
                self.counts.drop("no_key")
                continue
            try:
                if frame.codec != codec:
                    codec, decoder = frame.codec, self._open(frame.codec)
                    pending.clear()
                packet = av.Packet(frame.data)
                packet.pts = place
                pending[place] = frame
                pending.pop(place - self.settings.max_queued, None)
                place += 1
                for picture in decoder.decode(packet):
                    source = pending.pop(picture.pts, None)
                    if source is not None:
                        self._show(picture, source)
            except (av.FFmpegError, ValueError, MemoryError) as error:
                self.counts.errors += 1
                codec, decoder = "", None  # the next key frame gets a new one
                _log.info("a frame can't be decoded (%s): asking for a key frame", error)
                self._tell(self._on_loss)
            except Exception:
                self.counts.errors += 1
                _log.exception("the taker of frames failed")
        del decoder
        self._tell(self._ended.set)

    def _get(self) -> EncodedFrame | None:
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return None if self._closing else self._queue.popleft()

    def _open(self, codec: str) -> Any:
        decoder: Any = av.CodecContext.create(_CODECS[codec], "r")
        decoder.thread_count = 1  # a frame threaded decoder would hold frames back
        decoder.options = {"max_pixels": str(self.settings.max_pixels), "flags": "low_delay"}
        return decoder

    def _show(self, picture: Any, source: EncodedFrame) -> None:
        self.counts.decoded += 1
        media_s = self._clock.map(source.rtp, source.arrival_s)
        now_s = time.monotonic()
        late = now_s - source.arrival_s > self.settings.max_age_s
        if late and now_s - self._shown_s < self.settings.max_gap_s:
            self.counts.drop("stale")
            return
        if not self._wants(media_s):
            return
        self._shown_s = now_s
        image = self._scaler.rgb(picture)
        self.counts.converted += 1
        self._on_frame(
            Frame(
                image=image,
                media_s=media_s,
                arrival_s=source.arrival_s,
                decoded_s=time.monotonic(),
                rtp=source.rtp,
            )
        )

    def _tell(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            _log.debug("the event loop closed before a decoder's thread ended")


# MERGED from streaming.media_clock: RTP timestamps in, media seconds out: unwrapped, and never
# going back. A sender's clock is its own affair: it starts anywhere, wraps after 13 hours, and
# jumps when the camera is switched. Windows and signs need seconds that only grow.

_RATE = 90_000  # Hz, of every video payload
_WRAP = 1 << 32
_JUMP_S = 30.0  # a longer step between two frames is a new clock, not a pause
_STEP_S = 0.001  # least time between two frames


class MediaClock:
    """Maps the frames of one stream, in the order in which they are shown.

    The first frame is at 0 s. Where the timestamps step back or jump by more than 30 s, the clock
    is anchored anew by what passed between arrivals, so `media_s` strictly increases.
    """

    def __init__(self) -> None:
        self._rtp: int | None = None
        self._media_s = 0.0
        self._arrival_s = 0.0

    def map(self, rtp: int, arrival_s: float) -> float:
        """Media time in seconds of a frame with RTP timestamp `rtp`, read at `arrival_s`."""
        if self._rtp is not None:
            step_s = _signed(rtp - self._rtp, _WRAP) / _RATE
            if not 0 < step_s <= _JUMP_S:
                step_s = min(max(arrival_s - self._arrival_s, _STEP_S), _JUMP_S)
            self._media_s += step_s
        self._rtp = rtp
        self._arrival_s = arrival_s
        return self._media_s


def _signed(difference: int, wrap: int) -> int:
    """The difference of two numbers that wrap, nearest to zero."""
    return (difference + wrap // 2) % wrap - wrap // 2
