"""How far apart the windows of all sessions are: further while the machine is full, then back.

[headroom] how full -> [pace] -> every session's hop

Frames stand for ticks of the encoder's rate, so hops are whole ticks. Plain synchronous code with
the time passed in.
"""

from __future__ import annotations

import math

_STEP_S = 1.0  # from one step up to the next, which doubles the hop at most
_CALM_S = 4.0  # it must look good for so long before a tick is taken back
_GOOD = 0.9  # full, at the shorter hop: below it there is room for a hiccup

_EDGE = 1e-6


class Pace:
    """The ticks between windows: from those of `hop_s`, up to as many as `longest_s` holds.

    It grows to what serves everybody while more is asked of the machine than is allowed. A tick is
    taken back when the shorter hop would for `_CALM_S` have filled it by less than `_GOOD`; in
    between nothing changes, so that it does not flutter.
    """

    def __init__(self, hop_s: float, longest_s: float, tick_s: float) -> None:
        self._tick_s = tick_s
        self._shortest = max(1, math.ceil(hop_s / tick_s - _EDGE))
        self._longest = max(self._shortest, math.floor(longest_s / tick_s + _EDGE))
        self._ticks = self._shortest
        self._stepped_s = -math.inf
        self._calm_since_s: float | None = None

    @property
    def hop_s(self) -> float:
        """From one window of a session to the next, now."""
        return self._ticks * self._tick_s

    @property
    def longest_s(self) -> float:
        return self._longest * self._tick_s

    @property
    def added_s(self) -> float:
        """Of `hop_s`, what is due to the load."""
        return (self._ticks - self._shortest) * self._tick_s

    def update(self, full: float, now_s: float) -> None:
        """The machine is as `full` at the present hop: above 1, more is asked than is allowed."""
        shorter = full * self._ticks / max(1, self._ticks - 1)
        if self._ticks == self._shortest or shorter > _GOOD:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        elif now_s - self._calm_since_s >= _CALM_S - _EDGE:
            self._ticks -= 1
            self._calm_since_s = now_s
        if full > 1 and self._ticks < self._longest and now_s - self._stepped_s >= _STEP_S - _EDGE:
            enough = math.ceil(min(full, 2.0) * self._ticks)
            self._ticks = min(enough, self._longest)
            self._stepped_s = now_s
