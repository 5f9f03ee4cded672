"""Who is in, who is coming, how many there may be, and the draining at the end.

offer -> [admission] -> door -> session
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from streaming.problems import Problem
from streaming.session import Session
from streaming.settings import ServerSettings


@dataclass(slots=True)
class AdmissionCounts:
    """Since the start, for /metrics."""

    admitted: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # reason -> how many
    ended: dict[str, int] = field(default_factory=dict)  # reason -> how many

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def end(self, reason: str) -> None:
        self.ended[reason] = self.ended.get(reason, 0) + 1


class Serving(Protocol):
    """Something that every session needs."""

    @property
    def trouble(self) -> str | None:
        """Why it serves no further session now, in words; None while it does."""
        ...


class Admission:
    """The sessions alive, each a task of `tasks`, and the callers who wait for their turn to begin
    one. Together at most `max_sessions`, fewer an address, and none that
    `batcher` can't serve or `load` has no headroom for."""

    def __init__(
        self,
        settings: ServerSettings,
        tasks: asyncio.TaskGroup,
        *,
        door: AdmissionGate,
        batcher: Serving,
        load: Serving,
    ) -> None:
        self.counts = AdmissionCounts()
        self.draining = False
        self._settings = settings
        self._tasks = tasks
        self._batcher = batcher
        self._load = load
        self._door = door
        self._coming: list[str] = []  # their addresses
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    @property
    def coming(self) -> int:
        """Callers who have a place, and wait for their turn to begin."""
        return len(self._coming)

    @property
    def retry_after_s(self) -> int:
        """When those who are turned away may ask again: to each another time, so that those who
        came together don't come together again."""
        least = self._settings.retry_after_s
        return random.randint(least, least + least // 2)

    def get(self, id: str) -> Session | None:
        return self._sessions.get(id)

    def not_ready(self) -> str | None:
        """Why no session would be taken now, in words; None when one would."""
        _, why = self._refusal()
        return why

    def _refusal(self) -> tuple[str, str | None]:
        """Why no session would be taken now: for /metrics, and in words; None when one would."""
        reason, why = self._trouble()
        if why is not None:
            return reason, why
        if len(self) + self.coming >= self._settings.max_sessions:
            return "full", f"All {self._settings.max_sessions} places are taken; try again soon."
        return "busy", self._load.trouble

    def _trouble(self) -> tuple[str, str | None]:
        """The same, but for those who have a place already."""
        if self.draining:
            return "draining", "The server is stopping. It may be back soon."
        trouble = self._batcher.trouble
        return ("full", trouble) if trouble is not None else ("", None)

    @asynccontextmanager
    async def admitted(self, address: str, make: Callable[[], Session]) -> AsyncIterator[Session]:
        """The session that `make` gives for a caller, in its turn, which the block is.

        Whoever there is no place for is told at once. The session is run until it ends.

        Raises:
            Problem: 503 or 429, with Retry-After; or what `make` raises.
        """
        self.check(address)
        self._coming.append(address)
        try:
            turn = await self._door.turn()
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
            self._tasks.create_task(self._keep(session), name=f"session {session.id[:6]}")
            yield session

    def check(self, address: str) -> None:
        """Make sure that there is a place for a caller from `address`.

        Raises:
            Problem: 503 or 429, with Retry-After.
        """
        reason, why = self._refusal()
        if why is not None:
            raise self._refused(reason, why)
        theirs = sum(session.address == address for session in self)
        theirs += self._coming.count(address)
        if theirs >= self._settings.max_sessions_per_address:
            text = f"Your address has as many pages live as it may ({theirs}). Close one."
            raise self._refused("address", text, status=429)

    def _refused(self, reason: str, why: str, *, status: int = 503) -> Problem:
        self.counts.refuse(reason)
        return Problem(status, why, Retry_After=str(self.retry_after_s))

    async def _keep(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            del self._sessions[session.id]
            self.counts.end(session.end_reason)

    async def drain(self) -> None:
        """Take no more sessions, tell those there are, wait out the grace, end the rest."""
        self.draining = True
        for session in self:
            session.tell_stopping(self._settings.grace_s)
        ends = [session.ended for session in self]
        if ends:
            await asyncio.wait(ends, timeout=self._settings.grace_s)
        for session in self:
            session.end("stopping")


# MERGED from streaming.door: How fast callers come in: offers are answered one after another, as
# they came. admission: who has a place -> [door] -> session To set a session up keeps the event
# loop as busy as three seconds of its video do (docs/load.md). Many at once make those wait who
# are in; one at a time, with pauses, hardly do.

_PAUSE_FACTOR = 3.0  # after a turn, times what the loop did in it
_LONGEST_TURN_S = 0.25  # a turn and its pause; what takes longer waits for the network


class WaitedTooLong(Exception):
    """The caller's turn did not come in time."""


class AdmissionGate:
    """Whoever has a place awaits its `turn`, and is set up in it.

    After a turn the gate stays shut for `_PAUSE_FACTOR` times as long as the loop was busy in it,
    but for `_LONGEST_TURN_S` in all at most. So SDP answers take a quarter of a loop's time, and
    when those peers connect, which takes somewhat more, something is left to those who are in.

    Bounds: nobody waits longer than `wait_s`; how many wait is bounded by admission, which gives
    no more places than there are. `busy_s`: how long the loop has been busy.
    """

    def __init__(self, *, wait_s: float, busy_s: Callable[[], float] = time.thread_time) -> None:
        self._wait_s = wait_s
        self._busy_s = busy_s
        self._turns = asyncio.Semaphore(1)  # first come, first served

    async def turn(self) -> AbstractContextManager[None]:
        """Comes back when it is the caller's turn, which lasts until what it gives is left.

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
