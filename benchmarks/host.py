"""A server under test, in a process of its own: started with its task, told where it is, ended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from streaming.bench.children import hung_up, say
from streaming.bench.report import ReceivedPrediction
from streaming.webrtc.ice import gather_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosting:
    """What a server is to hold."""

    model: str  # see streaming.bench.standin.open_model
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that is ready. `seen` translates its answers into pictures, where they don't say."""

    url: str
    seen: ReceivedPrediction = field(default_factory=dict)


Serve = Callable[[Hosting], AbstractAsyncContextManager[Served]]


def main(serve: Serve) -> None:
    """Serve until the parent hangs up; say where, and at the end what was seen."""
    gather_loopback()
    asyncio.run(_host(serve, Hosting(**json.loads(sys.argv[1]))))


async def _host(serve: Serve, hosting: Hosting) -> None:
    async with serve(hosting) as served:
        say({"url": served.url})
        await hung_up()
        say({"seen": rows(served.seen)})


Row = tuple[str, int, int | None]


def rows(seen: ReceivedPrediction) -> list[Row]:
    """`seen` as JSON has it: stream, RTP timestamp and picture of each."""
    return [(stream, rtp, number) for (stream, rtp), (number, _) in seen.items()]


def pictures(rows: Iterable[Row]) -> dict[tuple[str, int], int | None]:
    """The way back: (stream, RTP timestamp) -> picture."""
    return {(stream, rtp): number for stream, rtp, number in rows}
