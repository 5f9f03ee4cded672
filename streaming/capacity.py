"""How full the machine is, and how many more sessions would fit: numbers in, numbers out.

[load] measures -> [headroom] -> [pace] lengthens the hop; admission refuses who would not fit

Three things can run out: the devices' time, the cores that receive and decode, and the event loop's
promptness. Each has a limit in `LoadSettings`; 1 is full. Plain synchronous code, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from streaming.settings import LoadSettings

Cost = Callable[[int], float]  # seconds that a batch takes, by the number of its windows

# Of one core, for a session's video, until it has been measured: 30 frames a second of 640x480 took
# 0.07 (docs/load.md), what the page asks for half of that.
_FIRST_GUESS = 0.05
_MEASURED = 0.5  # sessions, as a mean over time: with fewer there is nothing to divide by

_WORDS = {
    "recogniser": "The recogniser has no time for another session now; try again soon.",
    "decode": "This machine can't receive another video now; try again soon.",
    "loop": "The server is behind with its work; try again soon.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What was measured: means over the same few seconds."""

    sessions: float = 0.0  # that send video
    recogniser: float = 0.0  # busy time of the devices over wall time: 1 is all
    decode: float = 0.0  # of what receiving and decoding can have of the cores: 1 is all
    loop_lag_s: float = 0.0  # how late the event loop comes to what is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to share."""

    devices: Sequence[Cost]  # those in service
    max_batch: int  # windows
    cores: float


def device_s(machine: Machine, hop_s: float) -> float:
    """Seconds of all devices together that a window takes at the least.

    In whichever batches are cheapest, as long as they take no longer than a hop: after that a newer
    window would have replaced the one that waits.
    """
    per_s = 0.0  # windows
    for cost in machine.devices:
        sizes = range(1, machine.max_batch + 1)
        each = [cost(size) / size for size in sizes if size == 1 or cost(size) <= hop_s]
        per_s += 1 / max(min(each), 1e-9)
    return 1 / per_s if per_s else float("inf")


def fullness(
    machine: Machine, limits: LoadSettings, load: Load, sessions: int, now_s: float, hop_s: float
) -> Mapping[str, float]:
    """How full each of the three would be with so many sessions and windows every `hop_s`.

    The devices' share is the smaller of two: what was measured, in proportion to sessions and
    windows (`now_s` is the hop it was measured with), and what the cost model thinks that they
    need. A camera may be slower than was thought; and a device that has little to do answers
    windows one by one, so that it looks busier than it need be. Once it has nothing to spare, the
    measure says nothing any more.
    """
    needed = sessions * device_s(machine, hop_s) / hop_s if sessions else 0.0
    decode = sessions * _FIRST_GUESS / machine.cores
    if load.sessions >= _MEASURED:
        more = sessions / load.sessions
        decode = more * load.decode
        if load.recogniser < limits.recogniser_share:
            needed = min(needed, more * load.recogniser * now_s / hop_s)
    return {
        "recogniser": needed / limits.recogniser_share,
        "decode": decode / limits.decode_share,
        "loop": load.loop_lag_s / limits.loop_lag_s,
    }


def room(
    machine: Machine,
    limits: LoadSettings,
    load: Load,
    sessions: int,
    now_s: float,
    longest_s: float,
    most: int,
) -> tuple[int, str | None]:
    """How many more sessions would fit, `most` at most, once all go by the longest hop; and if
    none would, why, in words. Where there is no session yet, one always fits.
    """
    fit = 0
    while fit < most:
        full = fullness(machine, limits, load, sessions + fit + 1, now_s, longest_s)
        if max(full.values()) > 1 and sessions + fit:
            worst = max(full, key=lambda name: full[name])
            return fit, None if fit else _WORDS[worst]
        fit += 1
    return fit, None


# MERGED from streaming.pace: How far apart the windows of all sessions are: further while the
# machine is full, then back. [headroom] how full -> [pace] -> every session's hop Frames stand
# for ticks of the encoder's rate, so hops are whole ticks. Plain synchronous code with the time
# passed in.

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
