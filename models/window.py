"""Which frames make a window, and when one is due.

    frames with media times -> [window] -> clips -> [recognizer]

The live half and the offline commands cut windows with this one module, so a model gets the same
input in service as in training. Time is divided into ticks of `1 / fps` seconds, anchored at media
time 0: the first frame of a tick stands for it, a tick without a frame repeats the frame before it.
Because ticks are anchored, two overlapping windows share their frames.

No clock, no I/O: plain synchronous code with media time passed in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator

from models.schema import Clip, EncoderSpec, Frame

_EDGE = 1e-6  # s, against rounding of media times
# A tick begins this fraction of its length before its time. Streams begin at media time 0, so a
# camera at the encoder's own rate has frames at n / fps, some a few milliseconds early: if ticks
# began exactly at n / fps, a third of the frames fell into the tick before and were lost.
_EARLY = 0.3
_LATE_S = 1.0  # s: a frame older than the newest by more than this is no late one: time was reset


class FrameSampler:
    """Says which frames of a stream windows will use, before the cost of converting them."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._tick: int | None = None

    def tick(self, media_s: float) -> int:
        """The number of the tick that a media time belongs to: n for n / fps, early or late."""
        return math.floor(media_s * self._fps + _EARLY)

    def wants(self, media_s: float) -> bool:
        """True for the first frame of each tick, as time goes on.

        A frame a little older than the newest one is late and not wanted. A much older one means
        that the sender's clock was set back; time goes on from there.
        """
        tick = self.tick(media_s)
        if self._tick is not None and 0 <= self._tick - tick <= _LATE_S * self._fps:
            return False
        self._tick = tick
        return True


class WindowCutter:
    """Keeps the sampled frames of one stream, at most a window of them, and cuts windows.

    Bound: `spec.frames` frames; the oldest is dropped first. A jump of media time by more than a
    window, or back, clears it: a window never mixes frames from before and after a jump.
    """

    def __init__(self, stream: str, spec: EncoderSpec, hop_s: float) -> None:
        if hop_s <= 0:
            raise ValueError(f"hop_s must be positive, not {hop_s}")
        self._stream = stream
        self._spec = spec
        self.hop_s = hop_s  # may be changed between two windows
        self._sampler = FrameSampler(spec.fps)
        self._frames: deque[Frame] = deque(maxlen=spec.frames)
        self._cut_s = -math.inf  # end of the last window

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: Frame) -> None:
        if self._frames:
            step_s = frame.media_s - self._frames[-1].media_s
            if step_s < 0 or step_s > self._spec.window_s:
                self.clear()
        self._frames.append(frame)

    def clear(self) -> None:
        """Drop the frames; the next one starts over."""
        self._frames.clear()
        self._cut_s = -math.inf

    def due(self) -> bool:
        """True when the newest frame is a hop or more after the last window."""
        return bool(self._frames) and self._frames[-1].media_s >= self._cut_s + self.hop_s - _EDGE

    def cut(self) -> Clip:
        """The window that ends at the newest frame, a hop before the next: see `newest`."""
        clip = self.newest()
        self._cut_s = clip.end_s
        return clip

    def newest(self) -> Clip:
        """The newest `spec.frames` frames, exactly.

        Ticks before the first frame kept repeat that frame, as if the signer had stood still.

        Raises:
            LookupError: no frame has come yet.
        """
        if not self._frames:
            raise LookupError("no frame to cut a window from")
        end_s = self._frames[-1].media_s
        last = self._sampler.tick(end_s)
        frames: list[Frame] = []
        held = iter(self._frames)
        current = next(held)
        upcoming = next(held, None)
        for tick in range(last - self._spec.frames + 1, last + 1):
            while upcoming is not None and self._sampler.tick(upcoming.media_s) <= tick:
                current, upcoming = upcoming, next(held, None)
            frames.append(current)
        return Clip(
            stream=self._stream,
            frames=tuple(frames),
            start_s=end_s - self._spec.window_s,
            end_s=end_s,
        )


def windows(
    stream: str, frames: Iterable[Frame], spec: EncoderSpec, hop_s: float
) -> Iterator[Clip]:
    """All windows of a finished video, as the live half would have cut them from its camera."""
    sampler = FrameSampler(spec.fps)
    cutter = WindowCutter(stream, spec, hop_s)
    for frame in frames:
        if sampler.wants(frame.media_s):
            cutter.push(frame)
            if cutter.due():
                yield cutter.cut()
