"""The server of a soak, in a process of its own: says once a second how it is."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from streaming.app import serve, trim_heaps
from streaming.bench.children import hung_up, say
from streaming.bench.leaks import Vitals
from streaming.bench.standin import open_model
from streaming.server import Server
from streaming.session import Session
from streaming.settings import ServerSettings, SessionSettings, Settings
from streaming.webrtc.peer import BoundedPeerConnection
from streaming.webrtc.video_decoder import VideoDecoder

_EVERY_S = 1.0
_SILENCE_S = 4.0  # of a session whose peer was killed
_LIVING = (Session, BoundedPeerConnection, VideoDecoder)


async def work(model: str, sessions: int) -> None:
    """Serve until the parent hangs up."""
    settings = Settings(
        server=ServerSettings(
            port=0, max_sessions=sessions, max_sessions_per_address=sessions, grace_s=1.0
        ),
        session=SessionSettings(loopback_ice=True, silence_s=_SILENCE_S, connect_s=10.0),
    )
    async with serve(settings, open_model(model)) as server:
        say({"url": server.url})
        end = asyncio.create_task(hung_up(), name="hung up")
        while not end.done():
            say({"vitals": asdict(vitals(server))})
            await asyncio.wait([end], timeout=_EVERY_S)


def vitals(server: Server) -> Vitals:
    """This process now. With nobody there, without what it has no use for."""
    tasks = asyncio.all_tasks()
    targets = _open_files()
    objects, named = 0, []
    if not len(server.sessions):
        gc.collect()
        trim_heaps()
        objects = sum(isinstance(one, _LIVING) for one in gc.get_objects())
        named = sorted({task.get_name() for task in tasks})
        named += sorted({thread.name for thread in threading.enumerate()})
    return Vitals(
        at_s=time.monotonic(),
        rss_mb=_rss_mb(),
        sessions=len(server.sessions),
        tasks=len(tasks),
        threads=threading.active_count(),
        sockets=sum(target.startswith("socket:") for target in targets),
        fds=len(targets),
        served=server.sessions.counts.admitted,
        objects=objects,
        named=named,
    )


def _open_files() -> list[str]:
    targets = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them is gone again
            targets.append(os.readlink(path))
    return targets


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    asyncio.run(work(**json.loads(sys.argv[1])))
