"""What two of our processes say to each other: JSON with rows of numbers behind it, over a socket.

    length of the JSON | length of the rows | JSON | rows, float32

Nothing that comes over a link is run or unpickled, so the end that decodes strangers' video can
make the other believe something wrong, but not do something else. A link knows no process: the
other end may as well be on another machine.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = Mapping[str, NDArray[np.float32]]

_LENGTHS = struct.Struct("!II")
_MAX_JSON = 16 << 20  # bytes; a card and its glosses are the largest
_MAX_ROWS = 256 << 20  # bytes; a space's background is the largest
_FLOAT = np.dtype("<f4")


class LinkClosed(Exception):
    """The other end is gone, or says what can't be understood: nothing more will come."""


@dataclass(frozen=True, slots=True, eq=False)
class Note:
    """One message: `kind` says what it is, `fields` are JSON."""

    kind: str
    fields: Mapping[str, Any]
    rows: Rows


class Link:
    """One end. `send` is for the event loop only.

    There is no bound on what waits to be sent: each note is owed to something that has one (a
    window, a slot, a call under way, a report a second).
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Link:
        """A link over one end of a connected stream socket, which is the link's from now on."""
        return cls(*await asyncio.open_connection(sock=end))

    def send(self, kind: str, rows: Rows | None = None, **fields: Any) -> None:
        """Send a note. Once the link is closed it goes nowhere."""
        if self._writer.is_closing():
            return
        rows = rows or {}
        shapes = {name: list(row.shape) for name, row in rows.items()}
        head = json.dumps({"kind": kind, "rows": shapes, **fields}, allow_nan=False).encode()
        body = b"".join(np.ascontiguousarray(row, _FLOAT).tobytes() for row in rows.values())
        self._writer.write(_LENGTHS.pack(len(head), len(body)) + head + body)

    async def receive(self) -> Note:
        """Wait for the next note. One receiver only; cancelling may lose a note.

        Raises:
            LinkClosed: no more will come.
        """
        try:
            head_bytes, body_bytes = _LENGTHS.unpack(await self._reader.readexactly(_LENGTHS.size))
            if head_bytes > _MAX_JSON or body_bytes > _MAX_ROWS:
                raise LinkClosed(f"a note of {head_bytes} + {body_bytes} bytes")
            head = await self._reader.readexactly(head_bytes)
            body = await self._reader.readexactly(body_bytes)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise LinkClosed("the other end is gone") from error
        return _parse(head, body)

    def close(self) -> None:
        """Hang up. What was sent before may still arrive."""
        self._writer.close()


def _parse(head: bytes, body: bytes) -> Note:
    try:
        fields = json.loads(head)
        kind, shapes = str(fields.pop("kind")), fields.pop("rows")
        rows, at = {}, 0
        for name, shape in shapes.items():
            count = math.prod(shape)
            rows[name] = np.frombuffer(body, _FLOAT, count, at).reshape(shape)
            at += count * _FLOAT.itemsize
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise LinkClosed(f"a note that is none of ours: {error}") from error
    return Note(kind, fields, rows)
