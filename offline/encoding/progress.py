"""How far an encoding is: a bar on a terminal, in a log a line now and then.

encode -> [progress] -> stderr
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from models.command_line import say

_EVERY = 0.1  # of all videos: a line at each tenth, so that a log has ten at most …
_EVERY_S = 30.0  # s: … and of a long run one in so many seconds


class EncodingProgress:
    """Counts videos that are done with; a context manager."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._bar = tqdm(total=total, unit="video", disable=not sys.stderr.isatty())
        self._done = self._left_out = self._told = 0
        self._began_s = self._told_s = clock()

    def __enter__(self) -> EncodingProgress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def update(self, left_out: bool) -> None:
        """One video more is encoded, or left out."""
        self._done += 1
        self._left_out += left_out
        self._bar.update()
        now_s, step = self._clock(), self._done - self._told
        ended = self._done == self._total
        if ended or step >= _EVERY * self._total or now_s - self._told_s >= _EVERY_S:
            self._told, self._told_s = self._done, now_s
            if self._bar.disable:
                say(self._line(now_s - self._began_s), file=sys.stderr)

    def _line(self, seconds: float) -> str:
        line = f"{self._done} of {self._total} videos ({self._done / self._total:.0%})"
        if self._left_out:
            line += f", {self._left_out} left out"
        left_s = seconds / self._done * (self._total - self._done)
        return line + (f", about {_duration(left_s)} to go" if left_s >= 1 else "")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
