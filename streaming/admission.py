"""Who is in: the live sessions, how many there may be, and the draining at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streaming.problems import Problem
from streaming.settings import ServerSettings
from streaming.workers.remote_session import AnySession


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
    """The sessions alive, each a task of `tasks`. At most `max_sessions`, fewer an address, and no
    more than `needs` serve and there is headroom for by `load`."""

    def __init__(
        self,
        settings: ServerSettings,
        tasks: asyncio.TaskGroup,
        *,
        needs: Sequence[Serving],
        load: Serving,
    ) -> None:
        self.counts = AdmissionCounts()
        self.draining = False
        self._settings = settings
        self._tasks = tasks
        self._needs = needs
        self._load = load
        self._sessions: dict[str, AnySession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[AnySession]:
        return iter(list(self._sessions.values()))

    def get(self, id: str) -> AnySession | None:
        return self._sessions.get(id)

    def not_ready(self) -> str | None:
        """Why no session would be taken now, in words; None when one would."""
        _, why = self._refusal()
        return why

    def _refusal(self) -> tuple[str, str | None]:
        """Why no session would be taken now: for /metrics, and in words; None when one would."""
        if self.draining:
            return "draining", "The server is stopping. It may be back soon."
        for need in self._needs:
            if (trouble := need.trouble) is not None:
                return "full", trouble
        if len(self._sessions) >= self._settings.max_sessions:
            return "full", f"All {self._settings.max_sessions} places are taken; try again soon."
        return "busy", self._load.trouble

    def check(self, address: str) -> None:
        """Make sure that a session from `address` may begin.

        Raises:
            Problem: 503 or 429, with Retry-After.
        """
        retry = str(self._settings.retry_after_s)
        reason, why = self._refusal()
        if why is not None:
            self.counts.refuse(reason)
            raise Problem(503, why, Retry_After=retry)
        theirs = sum(session.address == address for session in self)
        if theirs >= self._settings.max_sessions_per_address:
            self.counts.refuse("address")
            text = f"Your address has as many pages live as it may ({theirs}). Close one."
            raise Problem(429, text, Retry_After=retry)

    def begin(self, session: AnySession) -> None:
        """Run a session, and remember it until it ends."""
        self._sessions[session.id] = session
        self.counts.admitted += 1
        self._tasks.create_task(self._keep(session), name=f"session {session.id[:6]}")

    async def _keep(self, session: AnySession) -> None:
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
