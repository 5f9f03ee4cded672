"""Draft sentences: the route by which a session asks for one, and who may spend the model's time.

    POST /whip/{id}/draft    signs of the transcript -> server-sent events: words, then an end

Only a session that is alive may ask, and only for glosses that it knows. Whatever the language
model's server does, the session goes on.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from aiohttp import web

from streaming.callers import is_loopback
from streaming.draft import (
    MAX_SIGNS_DRAFTED,
    DraftEnd,
    DraftMessage,
    DraftReader,
    DraftRefused,
    GuessedSign,
    chat,
    parse_signs,
)
from streaming.language_model import ENDLESS, LanguageModel, ModelError
from streaming.problems import Problem
from streaming.session import Session
from streaming.settings import DraftSettings
from streaming.webrtc.data_channel import TokenBucket

_BEAT_S = 1.0  # a page that has left is noticed at the next beat


class DraftRoutes:
    """`authorise`, `body_of` and `session_of` are the server's: they raise `Problem`.

    Bounds: one draft of a session under way, `at_once` of all; a session begins `burst` at once and
    then one in `pause_s`.
    """

    def __init__(
        self,
        settings: DraftSettings,
        *,
        authorise: Callable[[web.Request], None],
        body_of: Callable[[web.Request], Awaitable[bytes]],
        session_of: Callable[[web.Request], Session],
    ) -> None:
        self.ended: Counter[str] = Counter()  # drafts by how they ended, for /metrics
        self._settings = settings
        self._model = None if settings.url is None else LanguageModel(settings)
        self._authorise = authorise
        self._body_of = body_of
        self._session_of = session_of
        self._drafting: set[Session] = set()
        self._allowances: WeakKeyDictionary[Session, TokenBucket] = WeakKeyDictionary()

    def __len__(self) -> int:
        """Drafts under way."""
        return len(self._drafting)

    @property
    def at_once(self) -> int:
        return self._settings.at_once

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/whip/{id}/draft", self._draft)]

    def offer(self) -> dict[str, Any] | None:
        """What `GET /api/model` says of drafts; None without a model.

        `host` is who gets the glosses, null where that is the server's own machine.
        """
        if self._model is None:
            return None
        host = self._settings.host
        own = host == "localhost" or is_loopback(host)
        return {
            "model": self._settings.model,
            "host": None if own else host,
            "signs": MAX_SIGNS_DRAFTED,
        }

    async def _draft(self, request: web.Request) -> web.StreamResponse:
        self._authorise(request)
        if self._model is None:
            raise Problem(404, "This server drafts no sentences: start it with --draft-url.")
        session = self._session_of(request)
        if request.content_type != "application/json":
            raise Problem(415, "Send the signs as application/json.")
        try:
            signs = parse_signs(await self._body_of(request), session.pipeline.glosses)
        except DraftRefused as error:
            raise Problem(error.status, str(error)) from error
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=headers)
        with self._turn(session):
            try:
                await response.prepare(request)
                await self._stream(session, self._model, signs, response)
            except* ConnectionResetError:
                self.ended["left"] += 1
        return response

    @contextmanager
    def _turn(self, session: Session) -> Iterator[None]:
        """Raises `Problem`, 429 or 503, when it is not this session's turn."""
        settings = self._settings
        if session in self._drafting:
            raise Problem(429, "A draft of this session is under way.", Retry_After="2")
        if len(self._drafting) >= settings.at_once:
            why = "The language model is busy with other drafts; try again soon."
            raise Problem(503, why, Retry_After="5")
        now_s = time.monotonic()
        bucket = self._allowances.setdefault(
            session, TokenBucket(1 / settings.pause_s, settings.burst, now_s)
        )
        if not bucket.spend(1, now_s):
            wait_s = str(math.ceil(settings.pause_s))
            raise Problem(429, "Too many drafts; wait a moment.", Retry_After=wait_s)
        self._drafting.add(session)
        try:
            yield
        finally:
            self._drafting.remove(session)

    async def _stream(
        self,
        session: Session,
        model: LanguageModel,
        signs: tuple[GuessedSign, ...],
        response: web.StreamResponse,
    ) -> None:
        """Write the draft until it ends, the session ends, or the page leaves."""
        async with asyncio.TaskGroup() as tasks:
            name = f"draft {session.id[:6]}"
            writing = tasks.create_task(_write(model, signs, response), name=name)
            either: set[asyncio.Future[Any]] = {writing, session.ended}
            while not (writing.done() or session.ended.done()):
                await asyncio.wait(either, timeout=_BEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if not writing.done():
                    await response.write(b": the model is at work\n\n")
            writing.cancel()
        if writing.cancelled():
            end = DraftEnd("session", "The session has ended, and the draft with it.")
        else:
            end = writing.result()
        self.ended[end.code] += 1
        await response.write(_event(end))


async def _write(
    model: LanguageModel, signs: tuple[GuessedSign, ...], response: web.StreamResponse
) -> DraftEnd:
    """Write the words as they come. Returns how the draft ended."""
    reader, written = DraftReader(signs), 0
    end = DraftEnd("done")
    async with aclosing(model.stream(chat(signs))) as texts:
        try:
            async for text in texts:
                for words in reader.read(text):
                    await response.write(_event(words))
                    written += 1
                if reader.full:
                    break
        except ModelError as error:
            end = DraftEnd(error.code, str(error))
    for words in () if reader.full else reader.finish():
        await response.write(_event(words))
        written += 1
    if end.code == "done" and reader.full:
        return DraftEnd("endless", ENDLESS)
    if end.code == "done" and not written:
        return DraftEnd("empty", "The language model wrote nothing.")
    return end


def _event(message: DraftMessage) -> bytes:
    return b"data: " + msgspec.json.encode(message) + b"\n\n"
