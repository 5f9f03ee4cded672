"""Taught signs: the routes by which they come in, and the folder that may keep them.

    PUT, DELETE /whip/{id}/signs/{gloss}    one session knows the sign from its next prediction on
    GET /api/signs, PUT, DELETE /api/signs/{gloss}    kept on the server, if it was started with it

A sign is taught by `{"space": id, "takes": [base64, …]}`, see `streaming.pipeline`. Those who write
to the folder say with If-Match, or If-None-Match: *, which version of the sign they change, so that
two pages do not undo each other's work.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from aiohttp import web
from filelock import FileLock
from numpy.typing import NDArray

from models.few_shot import (
    MAX_SIGNS,
    MAX_TAKES,
    EmbeddingSpace,
    FewShotError,
    FewShotFull,
    SpaceMismatch,
    check_takes,
    sign_name,
)
from models.files import replacing
from streaming.pipeline import pack, unpack
from streaming.problems import Problem
from streaming.session import Session
from streaming.settings import ServerSettings

_log = logging.getLogger(__name__)

T = TypeVar("T")

_LOCK_S = 5.0  # another server holds the folder for milliseconds; if so long, it hangs
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, a quota, a file size limit


class SignRoutes:
    """`authorise`, `body_of` and `session_of` are the server's: they raise `Problem`."""

    def __init__(
        self,
        space: EmbeddingSpace,
        settings: ServerSettings,
        *,
        authorise: Callable[[web.Request], None],
        body_of: Callable[[web.Request], Awaitable[bytes]],
        session_of: Callable[[web.Request], Session],
    ) -> None:
        self._space = space
        self._store: SignStore | None = None
        if settings.signs and settings.token:  # never open to strangers
            self._store = SignStore(Path(settings.signs), space)
        self._body_bytes = settings.body_bytes
        self._authorise = authorise
        self._body_of = body_of
        self._session_of = session_of

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/whip/{id}/signs/{gloss:[^/]+}", self._teach),
            web.delete("/whip/{id}/signs/{gloss:[^/]+}", self._forget),
            web.get("/api/signs", self._list),
            web.put("/api/signs/{gloss:[^/]+}", self._put),
            web.delete("/api/signs/{gloss:[^/]+}", self._delete),
        ]

    def limits(self) -> dict[str, Any]:
        """What `GET /api/model` says of taught signs."""
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
        body = await self._body_of(request)
        with _problems():
            session.pipeline.teach(request.match_info["gloss"], parse_takes(body, self._space))
        return web.Response(status=204)

    async def _forget(self, request: web.Request) -> web.Response:
        self._authorise(request)
        with _problems():
            self._session_of(request).pipeline.forget(request.match_info["gloss"])
        return web.Response(status=204)

    async def _list(self, request: web.Request) -> web.Response:
        store = self._authorised_store(request)
        with _problems():
            signs = await store.all()
        return web.json_response(signs, headers={"Cache-Control": "no-store"})

    async def _put(self, request: web.Request) -> web.Response:
        store = self._authorised_store(request)
        body, gloss = await self._body_of(request), request.match_info["gloss"]
        with _problems():
            etag = await store.put(gloss, parse_takes(body, self._space), _expected_tag(request))
        return web.Response(status=204, headers={"ETag": etag})

    async def _delete(self, request: web.Request) -> web.Response:
        store = self._authorised_store(request)
        with _problems():
            await store.delete(request.match_info["gloss"], _expected_tag(request))
        return web.Response(status=204)

    def _authorised_store(self, request: web.Request) -> SignStore:
        self._authorise(request)
        if self._store is None:
            raise Problem(404, "This server keeps no signs: start it with --signs and --token.")
        return self._store


@contextmanager
def _problems() -> Iterator[None]:
    """Turn the errors of a sign into problems."""
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
    except OSError as error:
        if error.errno not in _FULL:
            raise
        detail = "The server's disk is full. Nothing was changed: what was kept before still is."
        raise Problem(507, detail) from error


def _expected_tag(request: web.Request) -> str | None:
    """The tag of the version that the writer changes, "" for none; None if it does not say."""
    if "If-None-Match" in request.headers:
        return ""
    return request.headers.get("If-Match")


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


class _Takes(msgspec.Struct, forbid_unknown_fields=True):
    """The takes of one sign, as a request sends them."""

    space: str
    takes: list[str]


class _SignFile(msgspec.Struct):
    """The takes of all signs, by gloss, as they lie in the folder."""

    space: str
    signs: dict[str, list[str]]


def most_takes(space: EmbeddingSpace, body_bytes: int) -> int:
    """How many takes of one sign fit into a request of `body_bytes`."""
    each = (2 * space.dim + 2) // 3 * 4 + len('"",')
    return max(1, min(MAX_TAKES, (body_bytes - 256) // each))


def parse_takes(body: bytes, space: EmbeddingSpace) -> NDArray[np.float32]:
    """(n, E) The takes of a request.

    Raises:
        SpaceMismatch: they were recorded with another model.
        FewShotError: the body is something else.
    """
    try:
        sent = msgspec.json.decode(body, type=_Takes)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FewShotError(f'send {{"space": …, "takes": […]}} and nothing else: {error}') from None
    return _rows(sent.space, sent.takes, space)


def _rows(takes_space: str, takes: list[str], space: EmbeddingSpace) -> NDArray[np.float32]:
    if takes_space != space.id:
        raise SpaceMismatch("these takes were recorded with another model: teach the sign again")
    if not 1 <= len(takes) <= MAX_TAKES:
        raise FewShotError(f"a sign is taught by 1 to {MAX_TAKES} takes")
    try:
        rows = np.stack([unpack(take, space.dim) for take in takes])
    except ValueError as error:
        raise FewShotError(str(error)) from None
    check_takes(rows)
    return rows


class SignChanged(Exception):
    """A sign is not the version that its writer expected. Nothing has been written."""


class SignStore:
    """Taught signs in a folder: one JSON file for each embedding space.

    Several pages may write, and several servers: each change reads the file anew, under a lock of
    the file system. `expected` is the tag of the version that the writer changes ("" for a sign
    that was not there); another version is left as it is. A file that is not ours is put aside
    under another name.

    Bound: `MAX_SIGNS` signs.
    """

    def __init__(self, folder: Path, space: EmbeddingSpace) -> None:
        """Open the folder; it is created if necessary.

        Raises:
            OSError: it can't be used.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._space = space
        self._file = folder / f"{space.id}.json"
        self._turn = asyncio.Lock()  # at most one thread waits for the file
        self._locked(self._read)  # so that a folder that can't be used is an error now

    async def all(self) -> dict[str, Any]:
        """The body of `GET /api/signs`.

        Raises:
            OSError: the file could not be read.
        """
        kept = await self._in_turn(self._read)
        signs = [{"gloss": g, "takes": takes, "etag": _tag(takes)} for g, takes in kept.items()]
        return {"space": self._space.id, "signs": signs}

    async def put(self, gloss: str, takes: NDArray[np.float32], expected: str | None = None) -> str:
        """Keep a sign by `takes` (n, E), replacing an older one of the name. Returns its tag.

        Raises:
            FewShotError: the name can't be used.
            FewShotFull: there are `MAX_SIGNS` already.
            SignChanged: it is not the expected version.
            OSError: it could not be written; what was kept before still is.
        """
        name = sign_name(gloss)
        packed = [pack(take) for take in takes]

        def change() -> None:
            signs = self._read()
            _check_version(signs, name, expected)
            if name not in signs and len(signs) >= MAX_SIGNS:
                raise FewShotFull(f"{MAX_SIGNS} signs are kept already: delete one first")
            self._write({**signs, name: packed})

        await self._in_turn(change)
        return _tag(packed)

    async def delete(self, gloss: str, expected: str | None = None) -> None:
        """Keep a sign no longer.

        Raises:
            FewShotError: no sign can have that name.
            KeyError: it was not kept.
            SignChanged: it is not the expected version.
            OSError: the file could not be written; the sign is still kept.
        """
        name = sign_name(gloss)

        def change() -> None:
            signs = self._read()
            if name not in signs:
                raise KeyError(name)
            _check_version(signs, name, expected)
            del signs[name]
            self._write(signs)

        await self._in_turn(change)

    async def _in_turn(self, work: Callable[[], T]) -> T:
        """What `work` returns, on a thread, while nobody else reads or writes."""
        async with self._turn:
            return await asyncio.to_thread(self._locked, work)

    def _locked(self, work: Callable[[], T]) -> T:
        with FileLock(self._file.with_suffix(".lock"), timeout=_LOCK_S):
            return work()

    # Under the lock

    def _write(self, signs: dict[str, list[str]]) -> None:
        text = json.dumps({"space": self._space.id, "signs": signs}, ensure_ascii=False)
        with replacing(self._file) as file:
            file.write(text.encode())

    def _read(self) -> dict[str, list[str]]:
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            kept = msgspec.json.decode(content, type=_SignFile)
            signs: dict[str, list[str]] = {}
            for gloss, takes in kept.signs.items():
                _rows(kept.space, takes, self._space)
                signs.setdefault(sign_name(gloss), []).extend(takes)
        except (ValueError, RecursionError) as error:
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            aside = self._file.with_name(f"{self._file.stem}.broken-{now}")
            self._file.rename(aside)
            _log.error("%s, no file of taught signs, is now %s: %s", self._file, aside.name, error)
            return {}
        return {gloss: takes[:MAX_TAKES] for gloss, takes in signs.items()}


def _check_version(signs: dict[str, list[str]], name: str, expected: str | None) -> None:
    takes = signs.get(name)
    if expected is not None and expected != (_tag(takes) if takes else ""):
        raise SignChanged(name)


def _tag(takes: list[str]) -> str:
    """The entity tag (RFC 9110) of a sign of these takes."""
    return f'"{hashlib.sha256(" ".join(takes).encode()).hexdigest()[:16]}"'
