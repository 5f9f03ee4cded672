"""How full the machine is, and how many more sessions would fit: numbers in, numbers out.

[load] measures -> [headroom] -> [pace] lengthens the hop; admission refuses who would not fit

Three things can run out: the devices' time, the cores that receive and decode, and the event loop's
promptness. Each has a limit in `LoadSettings`; 1 is full. Plain synchronous code, no clock.
"""

from __future__ import annotations

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
