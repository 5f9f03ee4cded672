"""Taught signs on their way in: what a request says of one, and the folder where they may be kept.

A sign is taught by `{"space": id, "takes": [base64, …]}`, see `streaming.takes`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.lexicon import (
    MAX_SIGNS,
    MAX_TAKES,
    LexiconError,
    LexiconFull,
    SpaceMismatch,
    check_name,
    check_takes,
)
from models.space import EmbeddingSpace
from streaming.takes import pack, unpack


def most_takes(space: EmbeddingSpace, body_bytes: int) -> int:
    """How many takes of one sign fit a request of `body_bytes`."""
    each = (2 * space.dim + 2) // 3 * 4 + len('"",')
    return max(1, min(MAX_TAKES, (body_bytes - 256) // each))


def parse_takes(body: bytes, space: EmbeddingSpace) -> NDArray[np.float32]:
    """(n, E) The takes that a request brings.

    Raises:
        SpaceMismatch: they were recorded with another model.
        LexiconError: the body is something else.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise LexiconError("the body is not JSON") from None
    return _takes_in(message, space)


def _takes_in(message: object, space: EmbeddingSpace) -> NDArray[np.float32]:
    if not isinstance(message, dict) or message.keys() != {"space", "takes"}:
        raise LexiconError('send {"space": …, "takes": […]} and nothing else')
    if message["space"] != space.id:
        raise SpaceMismatch("these takes were recorded with another model: teach the sign again")
    takes = message["takes"]
    if not isinstance(takes, list) or not 1 <= len(takes) <= MAX_TAKES:
        raise LexiconError(f"a sign is taught by 1 to {MAX_TAKES} takes")
    if not all(isinstance(one, str) for one in takes):
        raise LexiconError("a take is text: base64")
    try:
        rows = np.stack([unpack(one, space.dim) for one in takes])
    except ValueError as error:
        raise LexiconError(str(error)) from None
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
            LexiconError: the name can't be used.
            LexiconFull: there are `MAX_SIGNS` already.
            SignChanged: it is not as `seen` says.
            OSError: it could not be written; what was kept before still is.
        """
        check_name(gloss)
        packed = [pack(take) for take in takes]
        async with self._turn:
            self._check(gloss, seen)
            if gloss not in self._signs and len(self._signs) >= MAX_SIGNS:
                raise LexiconFull(f"{MAX_SIGNS} signs are kept already: delete one first")
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
