"""The routes by which signs are taught: to one session, and to the folder that may keep them.

PUT, DELETE /whip/{id}/signs/{gloss}    a session knows the sign from its next answer on
GET /api/signs, PUT, DELETE /api/signs/{gloss}    kept on the server, where it was asked to

Those who write to the folder say with If-Match, or If-None-Match: *, what they saw of the sign, so
that two pages do not undo each other's work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from models.lexicon import MAX_SIGNS, LexiconError, LexiconFull, SpaceMismatch
from models.space import EmbeddingSpace
from streaming.problems import Problem
from streaming.session import Session
from streaming.signs import SignChanged, SignStore, most_takes, parse_takes


class Teaching:
    """`authorise` and `session_of` are the server's: they raise `Problem`."""

    def __init__(
        self,
        space: EmbeddingSpace,
        store: SignStore | None,
        *,
        body_bytes: int,
        authorise: Callable[[web.Request], None],
        session_of: Callable[[web.Request], Session],
    ) -> None:
        self._space = space
        self._store = store
        self._body_bytes = body_bytes
        self._authorise = authorise
        self._session_of = session_of

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/whip/{id}/signs/{gloss}", self._teach),
            web.delete("/whip/{id}/signs/{gloss}", self._forget),
            web.get("/api/signs", self._kept),
            web.put("/api/signs/{gloss}", self._keep),
            web.delete("/api/signs/{gloss}", self._drop),
        ]

    def about(self) -> dict[str, Any]:
        """What `GET /api/model` says of it."""
        return {
            "space": self._space.id,
            "dim": self._space.dim,
            "max": MAX_SIGNS,
            "takes": most_takes(self._space, self._body_bytes),
            "store": self._store is not None,
        }

    async def _teach(self, request: web.Request) -> web.Response:
        self._authorise(request)
        session = self._session_of(request)
        body = await request.read()
        with _told():
            await session.teach(request.match_info["gloss"], parse_takes(body, self._space))
        return web.Response(status=204)

    async def _forget(self, request: web.Request) -> web.Response:
        self._authorise(request)
        with _told():
            await self._session_of(request).forget(request.match_info["gloss"])
        return web.Response(status=204)

    async def _kept(self, request: web.Request) -> web.Response:
        store = self._open(request)
        return web.json_response(store.all(), headers={"Cache-Control": "no-store"})

    async def _keep(self, request: web.Request) -> web.Response:
        store = self._open(request)
        body, gloss = await request.read(), request.match_info["gloss"]
        with _told():
            etag = await store.put(gloss, parse_takes(body, self._space), _seen(request))
        return web.Response(status=204, headers={"ETag": etag})

    async def _drop(self, request: web.Request) -> web.Response:
        store = self._open(request)
        with _told():
            await store.delete(request.match_info["gloss"], _seen(request))
        return web.Response(status=204)

    def _open(self, request: web.Request) -> SignStore:
        self._authorise(request)
        if self._store is None:
            raise Problem(404, "This server keeps no signs: start it with --signs and --token.")
        return self._store


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with a sign, as a problem."""
    try:
        yield
    except SpaceMismatch as error:
        raise Problem(409, _sentence(error)) from error
    except LexiconFull as error:
        raise Problem(429, _sentence(error)) from error
    except LexiconError as error:
        raise Problem(400, _sentence(error)) from error
    except SignChanged as error:
        raise Problem(412, "The sign was changed on another page meanwhile.") from error
    except KeyError as error:
        raise Problem(404, "No sign of that name was taught.") from error


def _seen(request: web.Request) -> str | None:
    """What the writer saw of a sign: its tag, "" for nothing; None where it does not say."""
    if "If-None-Match" in request.headers:
        return ""
    return request.headers.get("If-Match")


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
