"""The worker processes of a server: who begins a session in which, and what if one dies.

server -> [crew] -> worker_process -> worker
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from streaming.answering import Answering
from streaming.problems import Problem
from streaming.sdp import Offer
from streaming.workers.process import Order, WorkerProcess
from streaming.workers.remote_session import RemoteSession

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 60.0  # a worker that lived this long starts the pauses anew

_log = logging.getLogger(__name__)


class Crew:
    """`async with` starts `count` workers and keeps so many running; leaving ends them.

    A worker that dies takes its sessions with it and is started anew, after a pause that doubles
    with each death in a row.

    Raises (on entering):
        OSError: a worker can't be started.
    """

    def __init__(self, count: int, order: Order, answering: Answering) -> None:
        self.count = count
        self.deaths = 0
        self._order = order
        self._answering = answering
        self._workers: dict[int, WorkerProcess] = {}  # by place
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        tasks = await self._opened.enter_async_context(asyncio.TaskGroup())
        started: list[asyncio.Future[None]] = [loop.create_future() for _ in range(self.count)]
        for place, first in enumerate(started):
            keeping = tasks.create_task(self._keep(place, first), name=f"worker {place}")
            self._opened.callback(keeping.cancel)
        try:
            await asyncio.gather(*started)
        except BaseException:
            await self._opened.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opened.aclose()

    def __iter__(self) -> Iterator[WorkerProcess]:
        """The workers that take sessions now."""
        return iter([one for one in self._workers.values() if one.takes_sessions])

    @property
    def running(self) -> int:
        """How many take sessions now."""
        return len(list(self))

    @property
    def trouble(self) -> str | None:
        """Why no worker takes a session now, in words; None while one does."""
        if self.running:
            return None
        return "The processes that receive video are being started anew. Try again soon."

    def session(self, token: str, *, address: str, offer: Offer) -> RemoteSession:
        """A session in the worker with the fewest. Its id names the worker, before `token`.

        Raises:
            Problem: 503 when there is no worker for it.
        """
        worker = min(self, key=lambda one: len(one.sessions), default=None)
        if worker is None:
            raise Problem(503, self.trouble or "Try again.", Retry_After="1")
        id = f"{worker.name}.{token}"
        session = RemoteSession(id=id, address=address, offer=offer, worker=worker)
        worker.sessions[id] = session
        return session

    async def _keep(self, place: int, first: asyncio.Future[None]) -> None:
        """Keep a worker running. `first` is told when it runs for the first time, or that it
        can't."""
        loop = asyncio.get_running_loop()
        deaths_in_a_row = 0
        while True:
            began_s = loop.time()
            worker = self._workers[place] = WorkerProcess(str(place), self._order, self._answering)
            if not first.done():
                worker.ready.add_done_callback(functools.partial(_settle, first))
            status: int | str
            try:
                status = await worker.run()
            except OSError as error:
                status = str(error)
            if not first.done():
                first.set_exception(OSError(f"a worker process can't start ({status})"))
            steady = loop.time() - began_s >= _STEADY_S
            deaths_in_a_row = 1 if steady else deaths_in_a_row + 1
            self.deaths += 1
            pause_s = pause(deaths_in_a_row)
            _log.error("worker %d ended (%s); a new one starts in %g s", place, status, pause_s)
            await asyncio.sleep(pause_s)


def _settle(first: asyncio.Future[None], ready: asyncio.Future[None]) -> None:
    if not first.done() and not ready.cancelled():
        first.set_result(None)


def pause(deaths_in_a_row: int) -> float:
    """Seconds to wait before a worker is started anew."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(deaths_in_a_row - 1, 10))
