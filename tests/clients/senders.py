"""Other people's senders, each a process of its own, and what a server reads from their video.

Their cameras show grey, white, grey and black in turn: rest, one sign, rest, another, to the
stand-in recogniser.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from streaming.server import Server
from streaming.session import Session
from tests.clients import install
from tests.service.client import ENDED, RIGHT, Service
from tests.service.serving import TOKEN
from tests.streaming.event_reader import Reader

_PATIENT_S = 45.0  # a browser's start and two signs, on a busy machine
_LEVEL_S = 0.8
_LOCATION = re.compile(rb"\r\nlocation: (\S+)\r\n", re.IGNORECASE)
_SWITCH = "drawbox=color={}:t=fill:enable='eq(mod(floor(t/" + str(_LEVEL_S) + ")\\,4)\\,{})'"
_CAMERA = (
    "color=gray:size=320x240:rate=15,"
    f"{_SWITCH.format('white', 1)},{_SWITCH.format('black', 3)},noise=alls=20:allf=t"
)


def ffmpeg_camera() -> list[str]:
    """The command of ffmpeg 8 up to its inputs: 0 the camera, 1 a tone."""
    command = [str(install.ffmpeg()), "-hide_banner", "-loglevel", "warning", "-nostdin"]
    for source in (_CAMERA, "sine=frequency=440:sample_rate=48000"):
        command += ["-re", "-f", "lavfi", "-i", source]
    return command


@dataclass
class Reading:
    """What came at the session's events, and why sessions ended."""

    signs: list[str] = field(default_factory=list)  # glosses of final signs
    predictions: int = 0
    end_reasons: list[str] = field(default_factory=list)


async def read_signs(
    service: Service, command: Callable[[str], Sequence[str]], count: int = 2
) -> Reading:
    """Run a sender until `count` signs of its video were read, then end it with SIGTERM.

    `command`: the sender's, for the address that it sends to. The token is in its environment.

    Fails with the sender's output when it ends by itself, or when signs do not come.
    """
    async with overheard(service.url) as there, aiohttp.ClientSession(headers=RIGHT) as http:
        before = await service.numbers(http)
        argv = command(f"{there.url}/whip")
        sender = await asyncio.create_subprocess_exec(
            *argv,
            env={**os.environ, "WHIP_TOKEN": TOKEN},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = asyncio.create_task(sender.communicate())
        reading = asyncio.create_task(_read(service, http, there, count))
        try:
            both = {output, reading}
            await asyncio.wait(both, timeout=_PATIENT_S, return_when=asyncio.FIRST_COMPLETED)
            if sender.returncode is None:
                sender.terminate()
            text = (await output)[0].decode(errors="replace")
            assert reading.done(), f"no sign was read; {argv[:2]} printed:\n{text}"
            read = reading.result()
            assert len(read.signs) == count, f"{read}; {argv[:2]} printed:\n{text}"
            await service.until_empty(http)
            ended = await service.numbers(http) - before
            read.end_reasons = [
                name.removeprefix(ENDED) for name in ended if name.startswith(ENDED)
            ]
            return read
        finally:
            reading.cancel()
            if sender.returncode is None:
                sender.kill()
            await output


async def _read(
    service: Service, http: aiohttp.ClientSession, there: Overheard, count: int
) -> Reading:
    url = f"{service.url}{await there.location}/events"
    read = Reading()
    async with http.get(url) as events:
        reader = Reader(events)
        while len(read.signs) < count and (message := await reader.next()):
            read.predictions += message["type"] == "prediction"
            if message["type"] == "sign" and message["final"]:
                read.signs.append(message["gloss"])
    return read


@dataclass
class Overheard:
    """An address that leads to a service, and the path of the first session that is made there."""

    url: str
    location: asyncio.Future[str]


@asynccontextmanager
async def overheard(url: str) -> AsyncIterator[Overheard]:
    """Passes bytes on as they are, and reads the Location in what comes back: a sender tells it to
    nobody."""
    target = urlsplit(url)
    location: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def copy(
        source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, look: bool = False
    ) -> None:
        seen = b""
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                seen += data if look else b""
                if (found := _LOCATION.search(seen)) and not location.done():
                    location.set_result(found[1].decode())
                sink.write(data)
                await sink.drain()
        sink.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection(target.hostname, target.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(copy(reader, there))
            tasks.create_task(copy(back, writer, look=True))

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield Overheard(f"http://127.0.0.1:{port}", location)


async def session_of(server: Server) -> Session:
    """The server's only session, once there is one."""
    while True:
        for session in server.sessions:
            return session
        await asyncio.sleep(0.02)
