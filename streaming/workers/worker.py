"""A worker from inside: whole sessions, asked by the server over a link, with windows going there.

link -> [worker] -> sessions -> remote_batcher -> link
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from models.bundle import Bundle
from models.decoder import DecoderSettings
from streaming.outbox import Outbox
from streaming.session import Session
from streaming.settings import SessionSettings
from streaming.usage import Usage
from streaming.workers.link import Link, LinkClosed, Note
from streaming.workers.remote_batcher import RemoteBatcher
from streaming.workers.wire import SessionLost, fragment_from, offer_from, refusal_fields

_REPORT_S = 1.0

_log = logging.getLogger(__name__)


class Worker:
    """The sessions of this process. `run` serves them until the server hangs up, or is gone; then
    it calls `on_hang_up`, and ends them.

    What the server asks of one session waits for nothing that it asks of another.
    """

    def __init__(
        self,
        link: Link,
        batcher: RemoteBatcher,
        *,
        bundle: Bundle,
        settings: SessionSettings,
        decoder: DecoderSettings,
        hop_s: float,
        on_hang_up: Callable[[], object],
    ) -> None:
        self._link = link
        self._on_hang_up = on_hang_up
        self._batcher = batcher
        self._bundle = bundle
        self._settings = settings
        self._decoder = decoder
        self._hop_s = hop_s
        self._sessions: dict[str, Session] = {}
        self._listeners: dict[int, tuple[Outbox, AsyncExitStack]] = {}
        self._numbers = itertools.count()
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        async with self._tasks:
            report = self._tasks.create_task(self._report(), name="report")
            try:
                while True:
                    self._hear(await self._link.receive())
            except LinkClosed:
                self._on_hang_up()
            report.cancel()
            for session in self._sessions.values():
                session.end("stopping")

    def _hear(self, note: Note) -> None:
        session = self._sessions.get(note.fields.get("session", ""))
        match note.kind:
            case "taken":
                self._batcher.taken(note)
            case "answer":
                self._batcher.answered(note)
            case "ask":
                self._tasks.create_task(self._answer(note), name="answer to the server")
            case "leave":
                leaving = self._leave(note.fields["listener"])
                self._tasks.create_task(leaving, name="listener leaves")
            case "stopping" if session is not None:
                session.tell_stopping(note.fields["grace_s"])
            case "end" if session is not None:
                session.end(note.fields["reason"])

    # What the server asks

    async def _answer(self, note: Note) -> None:
        call = note.fields["call"]
        try:
            said = await self._do(note)
        except Exception as error:
            refusal = refusal_fields(error)
            if refusal is None:
                _log.exception("failed to do what the server asked: %s", note.fields["what"])
            self._link.send("failed", call=call, refusal=refusal)
        else:
            self._link.send("done", call=call, said=said)

    async def _do(self, note: Note) -> object:
        fields = note.fields
        if fields["what"] == "offer":
            return await self._begin(fields)
        if fields["what"] == "take":
            return await self._listeners[fields["listener"]][0].take()
        session = self._sessions.get(fields["session"])
        if session is None:
            raise SessionLost
        match fields["what"]:
            case "trickle":
                await session.add_fragment(fragment_from(fields["fragment"]))
            case "teach":
                await session.teach(fields["gloss"], note.rows["takes"])
            case "forget":
                await session.forget(fields["gloss"])
            case "listen":
                return await self._listen(session)
        return None

    async def _begin(self, fields: Mapping[str, Any]) -> dict[str, str]:
        session = Session(
            id=fields["session"],
            address=fields["address"],
            offer=offer_from(fields["offer"]),
            settings=self._settings,
            decoder=self._decoder,
            hop_s=self._hop_s,
            bundle=self._bundle,
            batcher=self._batcher,
        )
        self._sessions[session.id] = session
        self._tasks.create_task(self._keep(session), name=f"session {session.id[:6]}")
        return {"answer": await asyncio.shield(session.answer), "etag": session.etag}

    async def _keep(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            del self._sessions[session.id]
            self._link.send("ended", session=session.id, reason=session.end_reason)

    async def _listen(self, session: Session) -> int:
        number = next(self._numbers)
        async with AsyncExitStack() as stack:
            outbox = await stack.enter_async_context(session.listen())
            self._listeners[number] = outbox, stack.pop_all()
        return number

    async def _leave(self, number: int) -> None:
        _, stack = self._listeners.pop(number)
        await stack.aclose()

    # What the server is told

    async def _report(self) -> None:
        while True:
            self._link.send(
                "report",
                usage=dataclasses.asdict(Usage.now()),
                sessions={
                    session.id: {
                        "numbers": session.numbers(),
                        "buffers": session.buffers(),
                        "decoding_s": session.decoding_s,
                    }
                    for session in self._sessions.values()
                },
            )
            await asyncio.sleep(_REPORT_S)
