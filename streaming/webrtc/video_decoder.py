"""Encoded frames in, RGB pictures with media times out: one decoder thread a session.

    JitterBuffer -> [decoder thread, media clock] -> FrameRing

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
from dataclasses import dataclass
from typing import Any

import av

from models.picture import PictureScaler
from models.schema import Frame, Resize
from streaming.webrtc.jitter_buffer import EncodedFrame, ReceiveCounters

_log = logging.getLogger(__name__)

_CODECS = {"VP8": "vp8", "H264": "h264"}  # FFmpeg's own decoders: they check sizes before memory
_CLOSE_S = 2.0  # a thread that takes longer to stop is abandoned: it ends with the process
RTP_HZ = 90_000  # of every video payload
_RTP_WRAP = 1 << 32
_JUMP_S = 30.0  # a longer step between two frames is a new clock, not a pause
_STEP_S = 0.001  # least time between two frames


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoDecoderSettings:
    """Bounds of the queue before the thread, of a frame's age and of a picture's size."""

    max_queued: int = 30  # frames, about a second
    max_age_s: float = 0.25  # an older frame is decoded but not converted: newer ones wait
    max_pause_s: float = 1.0  # unless there was no picture for so long: late is better than never
    max_pixels: int = 1920 * 1200


class MediaClock:
    """RTP timestamps in, media seconds out, for the frames of one stream in the order shown.

    A sender's clock starts anywhere, wraps after 13 hours, and jumps when the camera is switched.
    The first frame is at 0 s. Where the timestamps step back or jump by more than 30 s, the clock
    goes on by the time between the arrivals, so media time always grows.
    """

    def __init__(self) -> None:
        self._rtp: int | None = None
        self._media_s = 0.0
        self._arrival_s = 0.0

    def map(self, rtp: int, arrival_s: float) -> float:
        """Media time in seconds of a frame with RTP timestamp `rtp`, read at `arrival_s`."""
        if self._rtp is not None:
            ticks = (rtp - self._rtp + _RTP_WRAP // 2) % _RTP_WRAP - _RTP_WRAP // 2
            step_s = ticks / RTP_HZ
            if not 0 < step_s <= _JUMP_S:
                step_s = min(max(arrival_s - self._arrival_s, _STEP_S), _JUMP_S)
            self._media_s += step_s
        self._rtp = rtp
        self._arrival_s = arrival_s
        return self._media_s


class VideoDecoder:
    """Decodes the frames of one session on a thread of its own.

    Overflow rule: when `max_queued` frames wait, all of them are dropped and `on_loss` is called: a
    key frame is needed. It is also called when a frame can't be decoded; the thread goes on.

    Args:
        on_frame: called with each converted frame, on the thread. Its exceptions are logged.
        wants: called with each media time, in order, on the thread: whether to convert the frame.
        on_loss: called on the event loop.
        short_side, resize: px; larger pictures are scaled down by this rule, keeping their shape.
    """

    def __init__(
        self,
        *,
        on_frame: Callable[[Frame], None],
        wants: Callable[[float], bool],
        on_loss: Callable[[], None],
        short_side: int,
        resize: Resize = "fast",
        settings: VideoDecoderSettings | None = None,
        counters: ReceiveCounters | None = None,
    ) -> None:
        self.settings = settings or VideoDecoderSettings()
        self.counters = counters or ReceiveCounters()
        self._on_frame = on_frame
        self._wants = wants
        self._on_loss = on_loss
        self._queue: deque[EncodedFrame] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._clock = MediaClock()
        self._converted_s = -math.inf  # when a picture was last converted
        self._scaler = PictureScaler(short_side, resize)
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
                self.counters.drop("behind", len(self._queue) + 1)
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
            async with asyncio.timeout(_CLOSE_S):
                await self._ended.wait()
        except TimeoutError:
            _log.warning("a video decoder did not stop within %.0f s", _CLOSE_S)
            return
        thread.join(0.1)  # it is about to end: this waits for its last instructions

    # On the thread

    def _run(self) -> None:
        codec = ""
        decoder: Any = None
        pending: dict[int, EncodedFrame] = {}  # frames in the decoder, by their pts
        pts = 0
        while (frame := self._get()) is not None:
            self.counters.decoding_s = time.thread_time()
            if not frame.data or (decoder is None and not frame.key):
                self.counters.drop("no_key")
                continue
            try:
                if frame.codec != codec:
                    codec, decoder = frame.codec, self._open(frame.codec)
                    pending.clear()
                packet = av.Packet(frame.data)
                packet.pts = pts
                pending[pts] = frame
                pending.pop(pts - self.settings.max_queued, None)
                pts += 1
                for picture in decoder.decode(packet):
                    source = pending.pop(picture.pts, None)
                    if source is not None:
                        self._deliver(picture, source)
            except (av.FFmpegError, ValueError, MemoryError) as error:
                self.counters.decoder_errors += 1
                codec, decoder = "", None  # the next key frame gets a new one
                _log.info("a frame can't be decoded (%s): asking for a key frame", error)
                self._call_on_loop(self._on_loss)
            except Exception:
                self.counters.decoder_errors += 1
                _log.exception("a frame could not be converted or handed on")
        del decoder
        self._call_on_loop(self._ended.set)

    def _get(self) -> EncodedFrame | None:
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return None if self._closing else self._queue.popleft()

    def _open(self, codec: str) -> Any:
        decoder: Any = av.CodecContext.create(_CODECS[codec], "r")
        decoder.thread_count = 1  # a decoder with frame threads would hold frames back
        decoder.options = {"max_pixels": str(self.settings.max_pixels), "flags": "low_delay"}
        return decoder

    def _deliver(self, picture: Any, source: EncodedFrame) -> None:
        self.counters.frames_decoded += 1
        media_s = self._clock.map(source.rtp, source.arrival_s)
        now_s = time.monotonic()
        late = now_s - source.arrival_s > self.settings.max_age_s
        if late and now_s - self._converted_s < self.settings.max_pause_s:
            self.counters.drop("stale")
            return
        if not self._wants(media_s):
            return
        self._converted_s = now_s
        image = self._scaler.rgb(picture)
        self.counters.frames_converted += 1
        self._on_frame(
            Frame(
                image=image,
                media_s=media_s,
                arrival_s=source.arrival_s,
                decoded_s=time.monotonic(),
                rtp=source.rtp,
            )
        )

    def _call_on_loop(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            _log.debug("the event loop closed before a decoder's thread ended")
