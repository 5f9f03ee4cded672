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
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from aiohttp import web

from streaming.callers import is_loopback
from streaming.connections import stream_to
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
    then one in `pause_s`. Overflow rule: the session's newest draft ends the one before it, since
    that of a page that has left may still seem to be under way; others are refused.
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
        self._drafting: dict[Session, asyncio.Future[None]] = {}  # done: a newer one is there
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
            known = frozenset(session.pipeline.glosses)
            signs = parse_signs(await self._body_of(request), known)
        except DraftRefused as error:
            raise Problem(error.status, str(error)) from error
        response = stream_to(request, "text/event-stream")
        with self._turn(session) as replaced:
            try:
                await response.prepare(request)
                work = _write(self._model, signs, response)
                end = await _finished(work, response, session.ended, replaced)
                self.ended[end.code] += 1
                await response.write(_event(end))
            except* ConnectionResetError:
                self.ended["left"] += 1
        return response

    @contextmanager
    def _turn(self, session: Session) -> Iterator[asyncio.Future[None]]:
        """The session's turn; the future is done when a newer draft takes its place.

        Raises:
            Problem: 429 or 503, with Retry-After.
        """
        settings = self._settings
        older = self._drafting.get(session)
        if older is None and len(self._drafting) >= settings.at_once:
            why = "The language model is busy with other drafts; try again soon."
            raise Problem(503, why, Retry_After="5")
        now_s = time.monotonic()
        fresh = TokenBucket(1 / settings.pause_s, settings.burst, now_s)
        if not self._allowances.setdefault(session, fresh).spend(1, now_s):
            wait_s = str(math.ceil(settings.pause_s))
            raise Problem(429, "Too many drafts; wait a moment.", Retry_After=wait_s)
        if older is not None and not older.done():
            older.set_result(None)
        replaced = self._drafting[session] = asyncio.get_running_loop().create_future()
        try:
            yield replaced
        finally:
            if self._drafting.get(session) is replaced:
                del self._drafting[session]


async def _finished(
    work: Coroutine[Any, Any, DraftEnd],
    response: web.StreamResponse,
    gone: asyncio.Future[None],
    replaced: asyncio.Future[None],
) -> DraftEnd:
    """How the draft ended: by itself, with its session, or by a newer one.

    Raises:
        ExceptionGroup: of ConnectionResetError, when the page has left.
    """
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(work, name="draft")
        beating = tasks.create_task(_beat(response), name="draft's beat")
        first: set[asyncio.Future[Any]] = {writing, gone, replaced}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        writing.cancel()
        beating.cancel()
    if not writing.cancelled():
        return writing.result()
    if replaced.done():
        return DraftEnd("replaced", "A newer draft has taken the place of this one.")
    return DraftEnd("session", "The session has ended, and the draft with it.")


async def _beat(response: web.StreamResponse) -> None:
    """Show the page, and proxies on the way, that the draft is under way."""
    while True:
        await asyncio.sleep(_BEAT_S)
        await response.write(b": the model is at work\n\n")


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
