"""How full the machine is, how many more sessions fit, and how far apart their windows are.

    [load] measures -> [capacity] -> the hop of all sessions; admission refuses whoever does not fit

Three things can run out: the devices' time, the cores that receive and decode, and the time of the
event loop. Each has a limit in `LoadSettings`; a fullness of 1 is at the limit. Plain synchronous
code with the time passed in.
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

_TROUBLE = {
    "recogniser": "The recogniser has no time for another session now; try again soon.",
    "decode": "This machine can't receive another video now; try again soon.",
    "loop": "The server is behind with its work; try again soon.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What was measured: means over the same few seconds."""

    sessions: float = 0.0  # that send video
    recogniser: float = 0.0  # busy time of the devices over wall time: 1 is all
    decode: float = 0.0  # of the processor time that receiving and decoding can get: 1 is all
    loop_lag_s: float = 0.0  # how late the event loop runs what is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the sessions share."""

    devices: Sequence[Cost]  # those in service
    max_batch: int  # windows
    cores: float


def device_s(machine: Machine, hop_s: float) -> float:
    """Seconds of all devices together that a window takes at the least.

    In the cheapest batches that take no longer than a hop: in longer ones a newer window would
    replace the one that waits.
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
    """How full each of the three would be with `sessions` sessions and a window every `hop_s`.

    The devices' share is the smaller of two: the measured one, in proportion to sessions and
    windows (`now_s` is the hop it was measured with), and the one that the cost model expects. A
    camera may be slower than assumed; and a device with little to do runs windows one by one, so
    that it looks busier than necessary. Once a device has no time to spare, the measurement says
    nothing any more.
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


def free_sessions(
    machine: Machine,
    limits: LoadSettings,
    load: Load,
    sessions: int,
    now_s: float,
    longest_s: float,
    most: int,
) -> tuple[int, str | None]:
    """How many more sessions fit, `most` at most, when all use the longest hop; and if none does,
    why, as a sentence for people. The first session always fits.
    """
    fit = 0
    while fit < most:
        full = fullness(machine, limits, load, sessions + fit + 1, now_s, longest_s)
        if max(full.values()) > 1 and sessions + fit:
            worst = max(full, key=lambda name: full[name])
            return fit, None if fit else _TROUBLE[worst]
        fit += 1
    return fit, None


_STEP_S = 1.0  # between two increases, each of which doubles the hop at most
_CALM_S = 4.0  # fullness must be low for so long before a tick is taken back
_LOW = 0.9  # fullness at the shorter hop: the rest is a reserve for short peaks

_EDGE = 1e-6


class Pace:
    """The hop of all sessions: longer while the machine is full, then back.

    Frames are sampled at ticks of the encoder's rate, so hops are whole ticks: from those that
    `base_s` needs up to as many as fit into `longest_s`. The hop grows until everybody is served.
    It shrinks by a tick when the shorter hop would have kept fullness below `_LOW` for `_CALM_S`;
    in between nothing changes, so that it does not flutter.
    """

    def __init__(self, base_s: float, longest_s: float, tick_s: float) -> None:
        self.base_s = base_s  # the hop without load, as it was set
        self._tick_s = tick_s
        self._shortest = max(1, math.ceil(base_s / tick_s - _EDGE))
        self._longest = max(self._shortest, math.floor(longest_s / tick_s + _EDGE))
        self._ticks = self._shortest
        self._increased_s = -math.inf
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
        """The part of `hop_s` that is due to the load."""
        return (self._ticks - self._shortest) * self._tick_s

    def update(self, full: float, now_s: float) -> None:
        """Adapt to the fullness at the present hop; above 1 the machine is over its limit."""
        shorter = full * self._ticks / max(1, self._ticks - 1)
        if self._ticks == self._shortest or shorter > _LOW:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        elif now_s - self._calm_since_s >= _CALM_S - _EDGE:
            self._ticks -= 1
            self._calm_since_s = now_s
        may_increase = now_s - self._increased_s >= _STEP_S - _EDGE
        if full > 1 and self._ticks < self._longest and may_increase:
            enough = math.ceil(min(full, 2.0) * self._ticks)
            self._ticks = min(enough, self._longest)
            self._increased_s = now_s
