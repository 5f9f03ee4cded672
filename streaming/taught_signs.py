"""The routes by which signs are taught: to one session, and to the folder that may keep them.

PUT, DELETE /whip/{id}/signs/{gloss}    a session knows the sign from its next answer on
GET /api/signs, PUT, DELETE /api/signs/{gloss}    kept on the server, where it was asked to

Those who write to the folder say with If-Match, or If-None-Match: *, what they saw of the sign, so
that two pages do not undo each other's work.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from models.few_shot import (
    MAX_SIGNS,
    MAX_TAKES,
    EmbeddingSpace,
    FewShotError,
    FewShotFull,
    SpaceMismatch,
    check_name,
    check_takes,
)
from streaming.problems import Problem
from streaming.session import Session
from streaming.takes import pack, unpack


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
    except FewShotFull as error:
        raise Problem(429, _sentence(error)) from error
    except FewShotError as error:
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


# MERGED from streaming.signs: Taught signs on their way in: what a request says of one, and the
# folder where they may be kept. A sign is taught by `{"space": id, "takes": [base64, …]}`, see
# `streaming.takes`.


def most_takes(space: EmbeddingSpace, body_bytes: int) -> int:
    """How many takes of one sign fit a request of `body_bytes`."""
    each = (2 * space.dim + 2) // 3 * 4 + len('"",')
    return max(1, min(MAX_TAKES, (body_bytes - 256) // each))


def parse_takes(body: bytes, space: EmbeddingSpace) -> NDArray[np.float32]:
    """(n, E) The takes that a request brings.

    Raises:
        SpaceMismatch: they were recorded with another model.
        FewShotError: the body is something else.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise FewShotError("the body is not JSON") from None
    return _takes_in(message, space)


def _takes_in(message: object, space: EmbeddingSpace) -> NDArray[np.float32]:
    if not isinstance(message, dict) or message.keys() != {"space", "takes"}:
        raise FewShotError('send {"space": …, "takes": […]} and nothing else')
    if message["space"] != space.id:
        raise SpaceMismatch("these takes were recorded with another model: teach the sign again")
    takes = message["takes"]
    if not isinstance(takes, list) or not 1 <= len(takes) <= MAX_TAKES:
        raise FewShotError(f"a sign is taught by 1 to {MAX_TAKES} takes")
    if not all(isinstance(one, str) for one in takes):
        raise FewShotError("a take is text: base64")
    try:
        rows = np.stack([unpack(one, space.dim) for one in takes])
    except ValueError as error:
        raise FewShotError(str(error)) from None
    check_takes(rows)
    return rows


class SignChanged(Exception):
    """A sign is no longer as its writer last saw it. Nothing has changed by this."""


class SignStore:
    """Taught signs in a folder: one JSON file for each embedding space.

    Several pages may write: a writer who gives `seen`, the tag of the sign as it saw it last ("" of
    a sign that was not there), changes that and nothing newer.

    Bound: `MAX_SIGNS` signs. A file appears whole or not at all.
    """

    def __init__(self, folder: Path, space: EmbeddingSpace) -> None:
        """Open the folder; it is made where there is none.

        Raises:
            OSError: it can't be written to.
            ValueError: the file in it is not ours; the message names it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._space = space
        self._file = folder / f"{space.id}.json"
        self._turn = asyncio.Lock()
        self._signs = self._read()
        self._write(self._signs)  # a folder that can't be written to is told at the start

    def all(self) -> dict[str, Any]:
        """As `GET /api/signs` answers."""
        signs = [
            {"gloss": gloss, "takes": takes, "etag": _tag(takes)}
            for gloss, takes in self._signs.items()
        ]
        return {"space": self._space.id, "signs": signs}

    async def put(self, gloss: str, takes: NDArray[np.float32], seen: str | None = None) -> str:
        """Keep a sign by `takes` (n, E), in the place of an older one of the name. Returns its tag.

        Raises:
            FewShotError: the name can't be used.
            FewShotFull: there are `MAX_SIGNS` already.
            SignChanged: it is not as `seen` says.
            OSError: it could not be written; what was kept before still is.
        """
        check_name(gloss)
        packed = [pack(take) for take in takes]
        async with self._turn:
            self._check(gloss, seen)
            if gloss not in self._signs and len(self._signs) >= MAX_SIGNS:
                raise FewShotFull(f"{MAX_SIGNS} signs are kept already: delete one first")
            await self._keep({**self._signs, gloss: packed})
        return _tag(packed)

    async def delete(self, gloss: str, seen: str | None = None) -> None:
        """Keep a sign no longer.

        Raises:
            KeyError: it was not kept.
            SignChanged: it is not as `seen` says.
            OSError: the file could not be written; the sign is still kept.
        """
        async with self._turn:
            if gloss not in self._signs:
                raise KeyError(gloss)
            self._check(gloss, seen)
            await self._keep({name: t for name, t in self._signs.items() if name != gloss})

    def _check(self, gloss: str, seen: str | None) -> None:
        takes = self._signs.get(gloss)
        if seen is not None and seen != (_tag(takes) if takes else ""):
            raise SignChanged(gloss)

    async def _keep(self, signs: dict[str, list[str]]) -> None:
        await asyncio.to_thread(self._write, signs)
        self._signs = signs

    def _write(self, signs: dict[str, list[str]]) -> None:
        text = json.dumps({"space": self._space.id, "signs": signs}, ensure_ascii=False)
        handle, name = tempfile.mkstemp(prefix=".signs-", dir=self._file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _read(self) -> dict[str, list[str]]:
        if not self._file.exists():
            return {}
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            signs: dict[str, list[str]] = kept["signs"]
            for gloss, takes in signs.items():
                check_name(gloss)
                _takes_in({"space": kept["space"], "takes": takes}, self._space)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self._file}: no taught signs of ours: {error}") from error
        return signs


def _tag(takes: list[str]) -> str:
    """The entity tag (RFC 9110) of a sign of these takes."""
    return f'"{hashlib.sha256(" ".join(takes).encode()).hexdigest()[:16]}"'
