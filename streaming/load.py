"""Measures how busy the machine is while it serves: the edge around `streaming.capacity`.

    devices, event loop, decoder threads -> [load] -> admission, the hop of all sessions, /metrics

Reads nothing of the operating system but the processor time of this process.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from streaming.batcher import Batcher
from streaming.capacity import Load, Machine, Pace, free_sessions, fullness
from streaming.settings import LoadSettings

_BEAT_S = 0.05  # between two measurements of how late the loop is
_MEASURE_S = 1.0  # between two measurements of everything else
_TAU_S = 3.0  # time constant of the means
_SKIP = 5  # measurements in a row, at most, that are skipped because sessions begin


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """Seconds since the process began."""

    process_s: float
    loop_s: float  # of it, by the event loop's thread

    @classmethod
    def now(cls) -> ProcessorTime:
        """Called on the event loop's thread."""
        return cls(time.process_time(), time.thread_time())


class MeasuredDevice(Protocol):
    """`streaming.runner.Runner`."""

    busy_s: float  # time spent computing so far


class MeasuredSession(Protocol):
    """`streaming.session.Session`."""

    id: str

    @property
    def decoding_s(self) -> float:
        """Processor time of its decoder's thread so far; 0 before the first picture."""
        ...


class MeasuredSessions(Protocol):
    """`streaming.admission.Admission`."""

    @property
    def taken(self) -> int:
        """Places taken: sessions alive, and those that will soon begin."""
        ...

    def __iter__(self) -> Iterator[MeasuredSession]: ...


@dataclass(slots=True)
class _Totals:
    """Times spent since the start, at one moment."""

    at_s: float
    devices_s: float
    processor: ProcessorTime
    alive: frozenset[str]  # sessions
    decoding_s: dict[str, float]  # by session, of those that send video

    def begun_since(self, before: _Totals) -> bool:
        """Whether a session, or a session's video, has begun since a moment before."""
        return not (
            self.alive <= before.alive and self.decoding_s.keys() <= before.decoding_s.keys()
        )


class LoadMeter:
    """`run` measures as long as the server serves, and sets the hop of all sessions, `pace`.

    `load` is what it measured. The methods take the number of sessions, those that will soon begin
    among them.

    Setting a session up costs far more than serving it, and is soon over: a second in which a
    session began says nothing about the costs of those that go on, and is skipped. After `_SKIP`
    such seconds in a row, beginning is a load like any other.
    """

    def __init__(
        self,
        settings: LoadSettings,
        *,
        batcher: Batcher,
        devices: Sequence[MeasuredDevice],
        pace: Pace,
        processor_time: Callable[[], ProcessorTime] = ProcessorTime.now,
    ) -> None:
        self.load = Load()
        self.pace = pace
        self._settings = settings
        self._batcher = batcher
        self._devices = devices
        self._processor_time = processor_time
        self._cores = float(_cores())
        self._lag_s = 0.0  # the mean since the last measurement
        self._beats = 0
        self._skipped = 0  # measurements in a row

    def fullness(self, sessions: int) -> dict[str, float]:
        """How full the machine is at the present hop, by what may run out; 1 is full."""
        hop_s = self.pace.hop_s
        return dict(fullness(self._machine(), self._settings, self.load, sessions, hop_s, hop_s))

    def free_sessions(self, sessions: int, most: int) -> int:
        """How many more sessions fit, `most` at most."""
        return self._free_sessions(sessions, most)[0]

    def trouble(self, sessions: int) -> str | None:
        """Why no further session fits now, as a sentence for people; None while one does."""
        return self._free_sessions(sessions, 1)[1]

    def _free_sessions(self, sessions: int, most: int) -> tuple[int, str | None]:
        now_s, longest_s = self.pace.hop_s, self.pace.longest_s
        return free_sessions(
            self._machine(), self._settings, self.load, sessions, now_s, longest_s, most
        )

    def _machine(self) -> Machine:
        return Machine(
            devices=self._batcher.costs,
            max_batch=self._batcher.max_batch,
            cores=self._cores,
        )

    async def run(self, sessions: MeasuredSessions) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        before = self._totals(sessions)
        while True:
            due_s = loop.time() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self._beats += 1
            self._lag_s += (max(0.0, loop.time() - due_s) - self._lag_s) / self._beats
            if loop.time() - before.at_s >= _MEASURE_S:
                now = self._totals(sessions)
                self._measure(before, now)
                self.pace.update(max(self.fullness(sessions.taken).values()), now.at_s)
                before = now

    def _measure(self, before: _Totals, now: _Totals) -> None:
        """Take what happened between two moments into the means."""
        self._skipped = self._skipped + 1 if now.begun_since(before) else 0
        if not 1 <= self._skipped <= _SKIP:
            weight = 1 - math.exp(-(now.at_s - before.at_s) / _TAU_S)
            self.load = _nearer(self.load, self._between(before, now), weight)
        self._lag_s, self._beats = 0.0, 0

    def _between(self, before: _Totals, now: _Totals) -> Load:
        """The load between two moments."""
        span_s = now.at_s - before.at_s
        decoding_s = sum(s - before.decoding_s.get(id, 0.0) for id, s in now.decoding_s.items())
        loop_s = now.processor.loop_s - before.processor.loop_s
        others_s = now.processor.process_s - before.processor.process_s - loop_s - decoding_s
        return Load(
            sessions=len(now.decoding_s),
            recogniser=(now.devices_s - before.devices_s) / span_s / len(self._devices),
            decode=decode_share(
                loop_s / span_s, decoding_s / span_s, others_s / span_s, self._cores
            ),
            loop_lag_s=self._lag_s,
        )

    def _totals(self, sessions: MeasuredSessions) -> _Totals:
        return _Totals(
            at_s=asyncio.get_running_loop().time(),
            devices_s=sum(device.busy_s for device in self._devices),
            processor=self._processor_time(),
            alive=frozenset(session.id for session in sessions),
            decoding_s={session.id: s for session in sessions if (s := session.decoding_s)},
        )


def decode_share(loop: float, decoders: float, others: float, cores: float) -> float:
    """The share of the available processor time that receiving and decoding use; 1 is all.

    All in cores: the event loop's thread, the decoders' threads, and the others, which are the
    recogniser's. The loop can use one core at most. Loop and decoders together can use what the
    recogniser leaves, and half of the machine in any case: the recogniser is one thread among
    several.
    """
    left = max(cores / 2, cores - others)
    return max(loop, (loop + decoders) / left)


def _nearer(mean: Load, new: Load, weight: float) -> Load:
    """`mean`, moved towards `new` by `weight`."""
    return Load(
        sessions=mean.sessions + weight * (new.sessions - mean.sessions),
        recogniser=mean.recogniser + weight * (new.recogniser - mean.recogniser),
        decode=mean.decode + weight * (new.decode - mean.decode),
        loop_lag_s=mean.loop_lag_s + weight * (new.loop_lag_s - mean.loop_lag_s),
    )


def _cores() -> int:
    """Those that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
