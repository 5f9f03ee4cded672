"""Other people's senders, each a process of its own, and what a server reads from their video.

Their cameras show grey, white, grey and black in turn: rest, one sign, rest, another, to the
stand-in recogniser.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import aiohttp

from streaming.server import Server
from streaming.session import Session
from tests.clients import install

_PATIENT_S = 45.0  # a browser's start and two signs, on a busy machine
_LEVEL_S = 0.8
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
    """What came at the session's events, and why the session ended."""

    signs: list[str] = field(default_factory=list)  # glosses of final signs
    predictions: int = 0
    end_reason: str = ""


async def read_signs(server: Server, *command: str, count: int = 2) -> Reading:
    """Run a sender until the server has read `count` signs, then end it with SIGTERM.

    Fails with the sender's output when it ends by itself, or when signs do not come.
    """
    sender = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = asyncio.create_task(sender.communicate())
    reading = asyncio.create_task(_read(server, count))
    try:
        both = {output, reading}
        await asyncio.wait(both, timeout=_PATIENT_S, return_when=asyncio.FIRST_COMPLETED)
        if sender.returncode is None:
            sender.terminate()
        text = (await output)[0].decode(errors="replace")
        assert reading.done(), f"no sign was read; {command[:2]} printed:\n{text}"
        session, read = reading.result()
        async with asyncio.timeout(_PATIENT_S):
            await asyncio.wait([session.ended])
        read.end_reason = session.end_reason
        assert len(read.signs) == count, f"{read}; {command[:2]} printed:\n{text}"
        return read
    finally:
        reading.cancel()
        if sender.returncode is None:
            sender.kill()
        await output


async def _read(server: Server, count: int) -> tuple[Session, Reading]:
    session = await session_of(server)
    read = Reading()
    url = f"{server.url}/whip/{session.id}/events"
    async with aiohttp.ClientSession() as http, http.get(url) as events:
        async for line in events.content:
            message = json.loads(line.removeprefix(b"data: ")) if line.strip() else {}
            read.predictions += message.get("type") == "prediction"
            if message.get("type") == "sign" and message["final"]:
                read.signs.append(message["gloss"])
                if len(read.signs) == count:
                    break
    return session, read


async def session_of(server: Server) -> Session:
    """The server's only session, once there is one."""
    while True:
        for session in server.sessions:
            return session
        await asyncio.sleep(0.02)
