"""How busy the machine is, measured while it serves: the edge around `headroom` and `pace`.

devices, event loop, decoder threads -> [load] -> admission, the batcher's `added_hop_s`, /metrics

Nothing is asked of the operating system but what our own threads and processes use.
"""

from __future__ import annotations

import asyncio
import math
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from streaming.batcher import Batcher
from streaming.capacity import Load, Machine, Pace, fullness, room
from streaming.settings import LoadSettings

# MERGED from streaming.usage: What this process uses of the machine.


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """At one moment."""

    cpu_s: float  # since the process began
    loop_cpu_s: float  # of it, by the thread that asks: the event loop's
    resident_bytes: float
    threads: int

    @classmethod
    def now(cls) -> Usage:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(
            cpu_s=usage.ru_utime + usage.ru_stime,
            loop_cpu_s=time.thread_time(),
            resident_bytes=_resident_bytes(),
            threads=threading.active_count(),
        )


def _resident_bytes() -> float:
    """Now, where the system tells (Linux); the peak elsewhere."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


_BEAT_S = 0.05  # between two looks at how late the loop is
_LOOK_S = 1.0  # between two looks at everything else
_TAU_S = 3.0  # time constant of the means
_LEFT_OUT = 5  # looks in a row, at most, that are of people coming in


class MeasuredDevice(Protocol):
    """`streaming.runner.RecognizerWorker`."""

    busy_s: float  # time spent computing so far


class MeasuredSession(Protocol):
    """A session alive: `streaming.session.Session`."""

    id: str

    @property
    def decoding_s(self) -> float:
        """Processor time of its decoder's thread so far."""
        ...


@dataclass(slots=True)
class _Totals:
    """Times spent since the start, at one moment."""

    at_s: float
    devices_s: float
    usage: Usage
    alive: frozenset[str]  # sessions
    decoding_s: dict[str, float]  # by session, of those that send video

    def come_since(self, before: _Totals) -> bool:
        """Whether anyone, or anyone's first picture, has come since a moment before."""
        return not (
            self.alive <= before.alive and self.decoding_s.keys() <= before.decoding_s.keys()
        )


class LoadMeter:
    """`run` measures for as long as the server serves, and sets what the batcher asks of streams.

    `load` is what it found, `full` how full that makes the machine by name, 1 being full, and
    `room` how many more sessions would fit.

    To be set up takes a session far more than to be there, and is soon over: a second in which
    somebody came in says nothing about what those who are in will take, and is left out. After
    `_LEFT_OUT` of them in a row, coming and going is a load as any other.
    """

    def __init__(
        self,
        settings: LoadSettings,
        *,
        batcher: Batcher,
        devices: Sequence[MeasuredDevice],
        sessions: Callable[[], Iterator[MeasuredSession]],
        coming: Callable[[], int],
        most_sessions: int,
        pace: Pace,
        usage: Callable[[], Usage] = Usage.now,
    ) -> None:
        self.load = Load()
        self.pace = pace
        self._settings = settings
        self._batcher = batcher
        self._devices = devices
        self._sessions = sessions
        self._coming = coming
        self._usage = usage
        self._most_sessions = most_sessions
        self._cores = float(_cores())
        self._lag_s = 0.0  # the mean since the last look
        self._beats = 0
        self._left_out = 0  # looks in a row

    @property
    def full(self) -> dict[str, float]:
        """How full the machine is at the present hop, by what may run out; 1 is full."""
        hop_s = self.pace.hop_s
        count = self._count()
        return dict(fullness(self._machine(), self._settings, self.load, count, hop_s, hop_s))

    @property
    def room(self) -> int:
        """How many more sessions would fit."""
        return self._room(max(0, self._most_sessions - self._count()))[0]

    @property
    def trouble(self) -> str | None:
        """Why no further session would fit now, in words; None while one would."""
        return self._room(1)[1]

    def _room(self, most: int) -> tuple[int, str | None]:
        count, (now_s, longest_s) = self._count(), (self.pace.hop_s, self.pace.longest_s)
        return room(self._machine(), self._settings, self.load, count, now_s, longest_s, most)

    def _machine(self) -> Machine:
        return Machine(
            devices=self._batcher.costs,
            max_batch=self._batcher.max_batch,
            cores=self._cores,
        )

    def _count(self) -> int:
        """Sessions, those among them that will soon begin."""
        return sum(1 for _ in self._sessions()) + self._coming()

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        before = self._totals()
        while True:
            due_s = loop.time() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self._beats += 1
            self._lag_s += (max(0.0, loop.time() - due_s) - self._lag_s) / self._beats
            if loop.time() - before.at_s >= _LOOK_S:
                now = self._totals()
                self._look(before, now)
                before = now

    def _look(self, before: _Totals, now: _Totals) -> None:
        """Take what happened between two moments into the means, and keep pace with it."""
        self._left_out = self._left_out + 1 if now.come_since(before) else 0
        if not 1 <= self._left_out <= _LEFT_OUT:
            span_s = now.at_s - before.at_s
            self.load = _nearer(self.load, self._seen(before, now), 1 - math.exp(-span_s / _TAU_S))
        self._lag_s, self._beats = 0.0, 0
        self.pace.update(max(self.full.values()), now.at_s)
        self._batcher.added_hop_s = self.pace.added_s

    def _seen(self, before: _Totals, now: _Totals) -> Load:
        """What happened between two moments."""
        span_s = now.at_s - before.at_s
        decoding_s = sum(s - before.decoding_s.get(id, 0.0) for id, s in now.decoding_s.items())
        loop_s = now.usage.loop_cpu_s - before.usage.loop_cpu_s
        others_s = now.usage.cpu_s - before.usage.cpu_s - loop_s - decoding_s
        return Load(
            sessions=len(now.decoding_s),
            recogniser=(now.devices_s - before.devices_s) / span_s / len(self._devices),
            decode=decode_share(
                loop_s / span_s, decoding_s / span_s, others_s / span_s, self._cores
            ),
            loop_lag_s=self._lag_s,
        )

    def _totals(self) -> _Totals:
        return _Totals(
            at_s=asyncio.get_running_loop().time(),
            devices_s=sum(one.busy_s for one in self._devices),
            usage=self._usage(),
            alive=frozenset(one.id for one in self._sessions()),
            decoding_s={one.id: s for one in self._sessions() if (s := one.decoding_s)},
        )


def decode_share(loop: float, decoders: float, others: float, cores: float) -> float:
    """How much of what receiving and decoding can have of the processor they take; 1 is all.

    All of it in cores: what the event loop's thread takes, the decoders' threads, and the
    others, which are the recogniser's. The loop can't have more than one core. To all of it
    together the recogniser leaves the rest, and half in any case, being one thread among several.
    """
    left = max(cores / 2, cores - others)
    return max(loop, (loop + decoders) / left)


def _nearer(mean: Load, seen: Load, weight: float) -> Load:
    return replace(
        mean,
        **{
            name: getattr(mean, name) + weight * (getattr(seen, name) - getattr(mean, name))
            for name in ("sessions", "recogniser", "decode", "loop_lag_s")
        },
    )


def _cores() -> int:
    """Those that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
