"""Admits callers as sessions: how many, how fast, and how they end when the server stops.

offer -> [admission]: a free place, then a turn at the gate -> session
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from streaming.batcher import Batcher
from streaming.callers import is_loopback
from streaming.load import LoadMeter
from streaming.problems import Problem
from streaming.session import FAILURES, Session
from streaming.settings import ServerSettings

_REMEMBERED = 64  # failed sessions, the newest


@dataclass(slots=True)
class AdmissionCounts:
    """Since the start, for /metrics."""

    admitted: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    ended: Counter[str] = field(default_factory=Counter)  # by reason


class Admission:
    """The sessions alive, each a task of `tasks`, and the callers who wait for their turn.

    Bounds: `max_sessions` places for both together, `max_sessions_per_address` for one address: if
    that is not set, half of the places (two at least), and all of them for this machine itself.
    Nobody is admitted while the batcher has trouble, or the load leaves no time for another.
    """

    def __init__(
        self,
        settings: ServerSettings,
        tasks: asyncio.TaskGroup,
        *,
        gate: AdmissionGate,
        batcher: Batcher,
        load: LoadMeter,
    ) -> None:
        self.counts = AdmissionCounts()
        self.draining = False
        self._settings = settings
        self._tasks = tasks
        self._batcher = batcher
        self._load = load
        self._gate = gate
        self._coming: list[str] = []  # addresses of the callers who wait
        self._sessions: dict[str, Session] = {}
        self._failures: dict[str, str] = {}  # of the sessions that failed last, by id

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    @property
    def coming(self) -> int:
        """Callers who have a place and wait for their turn."""
        return len(self._coming)

    @property
    def taken(self) -> int:
        """Places taken."""
        return len(self._sessions) + len(self._coming)

    @property
    def retry_after_s(self) -> int:
        """When a refused caller may ask again. Random, so that those who came together do not
        come together again."""
        least = self._settings.retry_after_s
        return random.randint(least, least + least // 2)

    def get(self, id: str) -> Session | None:
        return self._sessions.get(id)

    def failure(self, id: str) -> str | None:
        """Why a session failed, as a sentence, if it is one of the last `_REMEMBERED` that did."""
        return self._failures.get(id)

    def not_ready(self) -> str | None:
        """Why no session would be admitted now, as a sentence; None when one would."""
        _, why = self._refusal()
        return why

    def _refusal(self) -> tuple[str, str | None]:
        """Why no session would be admitted now: the reason for /metrics, and a sentence or None."""
        reason, why = self._trouble()
        if why is not None:
            return reason, why
        if self.taken >= self._settings.max_sessions:
            return "full", f"All {self._settings.max_sessions} places are taken; try again soon."
        return "busy", self._load.trouble(self.taken)

    def _trouble(self) -> tuple[str, str | None]:
        """The same, for callers who already have a place."""
        if self.draining:
            return "draining", "The server is stopping. It may be back soon."
        trouble = self._batcher.trouble
        return ("full", trouble) if trouble is not None else ("", None)

    @asynccontextmanager
    async def admitted(self, address: str, make: Callable[[], Session]) -> AsyncIterator[Session]:
        """Wait for the caller's turn; the session that `make` returns is set up in the block.

        Without a free place the caller is refused at once. The session runs until it ends.

        Raises:
            Problem: 503 or 429, with Retry-After; or what `make` raises.
        """
        self.check(address)
        self._coming.append(address)
        try:
            turn = await self._gate.turn()
        except WaitedTooLong:
            raise self._refused("late", "Too many came at once; try again soon.") from None
        finally:
            self._coming.remove(address)
        with turn:
            reason, why = self._trouble()
            if why is not None:
                raise self._refused(reason, why)
            session = make()
            self._sessions[session.id] = session
            self.counts.admitted += 1
            self._tasks.create_task(self._run(session), name=f"session {session.id[:6]}")
            yield session

    def check(self, address: str) -> None:
        """Make sure that there is a place for a caller from `address`.

        Raises:
            Problem: 503 or 429, with Retry-After.
        """
        reason, why = self._refusal()
        if why is not None:
            raise self._refused(reason, why)
        most = self._most(address)
        count = sum(session.address == address for session in self) + self._coming.count(address)
        if count >= most:
            text = f"Your address has as many pages live as it may ({count}). Close one."
            raise self._refused("address", text, status=429)

    def _most(self, address: str) -> int:
        """Places that one address may take."""
        settings = self._settings
        if settings.max_sessions_per_address is not None:
            return settings.max_sessions_per_address
        return settings.max_sessions if is_loopback(address) else max(2, settings.max_sessions // 2)

    def _refused(self, reason: str, why: str, *, status: int = 503) -> Problem:
        self.counts.refused[reason] += 1
        return Problem(status, why, Retry_After=str(self.retry_after_s))

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            del self._sessions[session.id]
            self.counts.ended[session.end_reason] += 1
            if (why := FAILURES.get(session.end_reason)) is not None:
                self._failures[session.id] = why
                if len(self._failures) > _REMEMBERED:
                    del self._failures[next(iter(self._failures))]

    async def drain(self) -> None:
        """Admit nobody, warn the sessions, wait for `grace_s`, then end those that are left."""
        self.draining = True
        for session in self:
            session.warn_stopping(self._settings.grace_s)
        ends = [session.ended for session in self]
        if ends:
            await asyncio.wait(ends, timeout=self._settings.grace_s)
        for session in self:
            session.end("stopping")


_PAUSE_FACTOR = 3.0  # length of the pause after a turn, times what the loop did in it
_LONGEST_TURN_S = 0.25  # a turn and its pause; a longer turn waits for the network


class WaitedTooLong(Exception):
    """The caller's turn did not come in time."""


class AdmissionGate:
    """Lets one caller at a time through, first come, first served, with pauses.

    Setting a session up keeps the event loop as busy as three seconds of its video do
    (docs/load.md): many at once would delay the sessions that are alive. After a turn the gate
    stays shut for `_PAUSE_FACTOR` times as long as the loop was busy in it, but turn and pause take
    `_LONGEST_TURN_S` at most. So SDP answers take a quarter of the loop's time. Then those peers
    connect, which takes somewhat more; the rest is for the sessions that are alive.

    Bounds: nobody waits longer than `wait_s`; admission bounds how many wait. `busy_s` tells how
    long the loop has been busy.
    """

    def __init__(self, *, wait_s: float, busy_s: Callable[[], float] = time.thread_time) -> None:
        self._wait_s = wait_s
        self._busy_s = busy_s
        self._turns = asyncio.Semaphore(1)  # first come, first served

    async def turn(self) -> AbstractContextManager[None]:
        """Wait for the caller's turn. It lasts until the returned context is left.

        Raises:
            WaitedTooLong: it did not come in time.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError:
            raise WaitedTooLong from None
        return self._shut()

    @contextmanager
    def _shut(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        began_s = self._busy_s()
        opening = loop.call_later(_LONGEST_TURN_S, self._turns.release)
        try:
            yield
        finally:
            again_s = loop.time() + _PAUSE_FACTOR * (self._busy_s() - began_s)
            if again_s < opening.when():
                opening.cancel()
                loop.call_at(again_s, self._turns.release)
