"""A soak: sessions come and go for as long as is asked, and nothing may be left of them.

Rounds of callers who join and leave all the time. At the end of every other round their process is
killed, else they leave as they are used to. Between the rounds, with nobody there, the server is
looked at; `leaks.py` says what the difference means.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streaming.bench.callers import Calls
from streaming.bench.camera import drawn_pictures, record
from streaming.bench.children import Child
from streaming.bench.leaks import Vitals, borne_mb_per_h, findings, slope
from streaming.bench.report import about

_ROUNDS = 10  # at most, in a minute; longer soaks have longer rounds,
_ROUNDS_LEAST = 5
_ROUND_MOST_S = 30.0  # and more of them
_GONE_S = 60.0  # for the last session of a round to end
_QUIET = 2  # looks with nobody there: what is closing has closed
_FPS = 15
_SIZE = (320, 240)
_RECORDING_S = 8  # longer than a caller stays


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakSettings:
    """One soak."""

    duration_s: float
    sessions: int = 4  # at once, about
    model: str = "standin:5"

    def __post_init__(self) -> None:
        if not 40 <= self.duration_s <= 86_400:
            raise ValueError("--soak must lie between 40 and 86400 seconds")
        if not 1 <= self.sessions <= 64:
            raise ValueError("--sessions must lie between 1 and 64 for a soak")

    @property
    def round_s(self) -> float:
        return min(self.duration_s / _ROUNDS, _ROUND_MOST_S)


async def soak(settings: SoakSettings) -> dict[str, Any]:
    """Run one, and give its report; `findings` says what was left, and is empty when nothing was.

    Raises:
        BundleError, ValueError, OSError: the model can't be had, or a process ended early.
        TimeoutError: sessions did not end.
    """
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        recording, pictures = folder / "camera.ivf", drawn_pictures(_SIZE)
        await asyncio.to_thread(record, recording, pictures, frames=_RECORDING_S * _FPS, fps=_FPS)
        task = {"model": settings.model, "sessions": 4 * settings.sessions}
        server = await Child.start(stack, "streaming.bench.soaked", task)
        crowd = _Crowd(settings, (await server.line())["url"], str(recording))
        watch = _Watch(server)
        until_s = loop.time() + settings.duration_s
        while loop.time() < until_s or len(watch.rounds) < _ROUNDS_LEAST:
            await watch.during(crowd.call(settings.round_s))
            await watch.until_nobody_is_there()
    return _report(settings, watch, crowd)


def _report(settings: SoakSettings, watch: _Watch, crowd: _Crowd) -> dict[str, Any]:
    rounds = watch.rounds
    began_s = rounds[0].at_s
    return {
        "soak_s": settings.duration_s,
        "sessions": settings.sessions,
        "model": settings.model,
        "served": rounds[-1].served,
        "killed": crowd.killed,
        "left": crowd.left,
        "errors": sorted(crowd.errors),
        "memory_mb_per_h": {**asdict(slope(rounds)), "borne": borne_mb_per_h(rounds)},
        "rounds": [asdict(one) for one in rounds],
        "samples": [
            [round(one.at_s - began_s, 1), round(one.rss_mb, 1), one.sessions]
            for one in watch.samples
        ],
        "findings": findings(rounds),
        **about(),
    }


class _Crowd:
    """The callers of each round, a process of them."""

    def __init__(self, settings: SoakSettings, url: str, recording: str) -> None:
        self.killed = 0  # rounds that ended so
        self.left: dict[str, int] = {}  # callers, by the way they left
        self.errors: set[str] = set()
        self._at_once = settings.sessions
        self._url = url
        self._recording = recording
        self._rounds = itertools.count()

    async def call(self, for_s: float) -> None:
        """Let them call for a while; then they leave, or are killed."""
        turn = next(self._rounds)
        calls = Calls(url=self._url, recording=self._recording, at_once=self._at_once, seed=turn)
        async with AsyncExitStack() as stack:
            child = await Child.start(stack, "streaming.bench.callers", asdict(calls))
            await child.line()
            await asyncio.sleep(for_s)
            if turn % 2:
                child.kill()
                self.killed += 1
                return
            child.hang_up()
            told = await child.line()
            self.errors.update(told["errors"])
            for way, count in told["left"].items():
                self.left[way] = self.left.get(way, 0) + count


class _Watch:
    """What the server says of itself."""

    def __init__(self, server: Child) -> None:
        self.samples: list[Vitals] = []  # about once a second
        self.rounds: list[Vitals] = []  # with nobody there
        self._server = server

    async def during(self, calling: Coroutine[Any, Any, None]) -> None:
        """Listen while callers are there."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(calling, name="crowd")
            while not task.done():
                await self._hear()

    async def until_nobody_is_there(self) -> None:
        """Raises TimeoutError when sessions don't end."""
        quiet = 0
        async with asyncio.timeout(_GONE_S):
            while quiet < _QUIET:
                vitals = await self._hear()
                quiet = 0 if vitals.sessions else quiet + 1
        self.rounds.append(vitals)

    async def _hear(self) -> Vitals:
        vitals = Vitals(**(await self._server.line())["vitals"])
        self.samples.append(vitals)
        return vitals
