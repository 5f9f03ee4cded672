"""A session that runs in a worker, as the server holds it: `Session` from afar."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streaming.problems import GONE, Problem
from streaming.protocol import Message
from streaming.sdp import Fragment, Offer, OfferError
from streaming.session import Session
from streaming.workers.link import Rows
from streaming.workers.wire import SessionLost

_log = logging.getLogger(__name__)

_END_S = 5.0  # for a session to end that was asked to; after that it is taken for ended


class Home(Protocol):
    """The worker as its sessions see it: `streaming.workers.process.WorkerProcess`.

    `ask` raises `SessionLost` when the worker has ended, or knows no such session.
    """

    async def ask(self, what: str, rows: Rows | None = None, **fields: Any) -> Any: ...
    def tell(self, kind: str, **fields: Any) -> None: ...
    def part(self, session: RemoteSession) -> None: ...


class RemoteSession:
    """See `Session`; what is asked of it is asked of the worker.

    `numbers`, `buffers` and `decoding_s` are as the worker last reported them.
    """

    def __init__(self, *, id: str, address: str, offer: Offer, worker: Home) -> None:
        loop = asyncio.get_running_loop()
        self.id = id
        self.address = address
        self.etag = ""
        self.answer: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.end_reason = "fault"
        self._offer = offer
        self._worker = worker
        self._over = asyncio.Event()
        self._reported: Mapping[str, Any] = {"numbers": {}, "buffers": {}, "decoding_s": 0.0}

    async def run(self) -> None:
        """Serve the peer until something ends it. What a peer or a worker does never raises."""
        try:
            await self._negotiate()
            await self._over.wait()
        except SessionLost:
            self.over("worker lost")
        except Exception:
            _log.exception("session %s failed", self.id[:6])
        finally:
            self._worker.part(self)
            if not self.answer.done():
                self.answer.set_exception(OfferError(503, "The session ended at once."))
            self.answer.exception()  # whether or not someone still waits for it
            self.ended.set_result(None)

    async def _negotiate(self) -> None:
        """Let the worker answer the offer. A refusal goes to `answer`; the end is told as ever."""
        try:
            said = await self._worker.ask(
                "offer", session=self.id, address=self.address, offer=asdict(self._offer)
            )
        except OfferError as error:
            self.answer.set_exception(error)
        else:
            self.etag = said["etag"]
            self.answer.set_result(said["answer"])

    def end(self, reason: str) -> None:
        self._worker.tell("end", session=self.id, reason=reason)
        asyncio.get_running_loop().call_later(_END_S, self.over, reason)

    def over(self, reason: str) -> None:
        """It has ended. The first reason stands."""
        if not self._over.is_set():
            self.end_reason = reason
            self._over.set()

    def tell_stopping(self, grace_s: float) -> None:
        self._worker.tell("stopping", session=self.id, grace_s=grace_s)

    async def add_fragment(self, fragment: Fragment) -> None:
        await self._ask("trickle", fragment=asdict(fragment))

    async def teach(self, gloss: str, takes: NDArray[np.float32]) -> None:
        await self._ask("teach", {"takes": takes}, gloss=gloss)

    async def forget(self, gloss: str) -> None:
        await self._ask("forget", gloss=gloss)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[RemoteOutbox]:
        number: int = await self._ask("listen")
        try:
            yield RemoteOutbox(self._worker, number)
        finally:
            self._worker.tell("leave", listener=number)

    async def _ask(self, what: str, rows: Rows | None = None, **fields: Any) -> Any:
        try:
            return await self._worker.ask(what, rows, session=self.id, **fields)
        except SessionLost:
            raise Problem(404, GONE) from None

    # For /metrics

    def reported(self, report: Mapping[str, Any]) -> None:
        self._reported = report

    @property
    def decoding_s(self) -> float:
        return float(self._reported["decoding_s"])

    def numbers(self) -> dict[str, int]:
        return dict(self._reported["numbers"])

    def buffers(self) -> dict[str, tuple[float, float]]:
        return {name: (held, bound) for name, (held, bound) in self._reported["buffers"].items()}


class RemoteOutbox:
    """A listener's outbox in the worker: one message at a time, so that what waits, waits there."""

    def __init__(self, worker: Home, number: int) -> None:
        self._worker = worker
        self._number = number

    async def take(self) -> Message | None:
        """See `Outbox.take`."""
        try:
            message: Message | None = await self._worker.ask("take", listener=self._number)
        except SessionLost:
            return None
        return message


AnySession = Session | RemoteSession
