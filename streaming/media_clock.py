"""RTP timestamps in, media seconds out: unwrapped, and never going back.

A sender's clock is its own affair: it starts anywhere, wraps after 13 hours, and jumps when the
camera is switched. Windows and signs need seconds that only grow.
"""

from __future__ import annotations

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
