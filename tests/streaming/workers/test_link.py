"""A link: notes arrive as they were sent, and what is no note ends it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from streaming.workers.link import Link, LinkClosed


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Link]]:
    ours, theirs = socket.socketpair()
    here, there = await Link.over(ours), await Link.over(theirs)
    try:
        yield here, there
    finally:
        here.close()
        there.close()


async def test_fields_and_rows_arrive_as_they_were_sent() -> None:
    rows = {
        "odd": np.array([[0.1, np.inf, -0.0]], np.float32),
        "none": np.zeros((0, 4), np.float32),
        "back": np.arange(6, dtype=np.float32)[::-2],
    }
    async with linked() as (here, there):
        here.send("first", rows, text="é", level=0.1, nothing=None)
        here.send("second")
        note = await there.receive()
        assert (note.kind, note.fields) == ("first", {"text": "é", "level": 0.1, "nothing": None})
        assert note.rows.keys() == rows.keys()
        for name, row in rows.items():
            np.testing.assert_array_equal(note.rows[name], row)
        assert (await there.receive()).kind == "second"


async def test_only_empty_rows_arrive_too() -> None:
    async with linked() as (here, there):
        here.send("empty", {"background": np.zeros((0, 4), np.float32)})
        assert (await there.receive()).rows["background"].shape == (0, 4)


async def test_the_other_end_s_end_is_told_after_its_last_words() -> None:
    async with linked() as (here, there):
        here.send("last")
        here.close()
        here.send("too late")
        assert (await there.receive()).kind == "last"
        with pytest.raises(LinkClosed):
            await there.receive()


HEAD = b'{"kind": "x", "rows": {"a": [2]}}'


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00",
        struct.pack("!II", 1 << 30, 0),
        struct.pack("!II", 2, 1 << 30) + b"{}",
        struct.pack("!II", 2, 0) + b"{}",
        struct.pack("!II", 4, 0) + b"\xff\xfe\x00{",
        struct.pack("!II", 4, 0) + b"[[[[",
        struct.pack("!II", len(HEAD), 4) + HEAD + b"four",
        struct.pack("!II", 200_000, 0) + b"[" * 200_000,
    ],
)
async def test_what_is_no_note_ends_the_link(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    here = await Link.over(ours)
    with theirs:
        sending = asyncio.create_task(asyncio.to_thread(theirs.sendall, sent))
        reading = asyncio.create_task(here.receive())
        await sending
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(LinkClosed):
            await reading
    here.close()
