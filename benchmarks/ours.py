"""livegloss, as `python -m streaming` runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.host import Hosting, Served, main
from streaming.app import serve
from streaming.bench.standin import Watched, open_model
from streaming.settings import ServerSettings, SessionSettings, Settings


@asynccontextmanager
async def serve_ours(hosting: Hosting) -> AsyncIterator[Served]:
    watched = Watched(open_model(hosting.model))
    places = hosting.sessions
    settings = Settings(
        server=ServerSettings(
            port=0,
            max_sessions=places,
            max_sessions_per_address=places,
            grace_s=1.0,
        ),
        session=SessionSettings(loopback_ice=True),
    )
    async with serve(settings, watched) as server:
        yield Served(url=server.url, seen=watched.seen)


if __name__ == "__main__":
    main(serve_ours)
