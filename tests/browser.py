"""A real browser with a camera that plays what a test gives it, and a real server in a process.

Chromium reads its fake camera from an MJPEG file at 30 pictures a second and plays it in a loop;
the file is a launch flag, so each camera needs its own browser.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from streaming.bench.chromium import browser_page as browser_page

ROOT = Path(__file__).resolve().parent.parent
CAMERA_FPS = 30  # Chromium's, whatever the file says
WIDTH, HEIGHT = 640, 480
READY_S = 60.0  # a server's start on a busy machine
_READY = re.compile(r"livegloss ready at (\S+) ")

Picture = NDArray[np.uint8]  # (H, W, 3) RGB


def camera_flags(camera: Path) -> tuple[str, ...]:
    """A camera that plays the file `camera`, and a person who allows it."""
    return (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    )


NO_CAMERA = (
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream=device-count=0",
)
CAMERA_DENIED = ("--use-fake-device-for-media-stream", "--deny-permission-prompts")


def write_camera(
    path: Path, pictures: Iterable[Picture], size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Path:
    """Write pictures of `size`, one a thirtieth of a second, as a camera's MJPEG."""
    with av.open(str(path), "w", format="mjpeg") as out:
        stream: Any = out.add_stream("mjpeg", rate=CAMERA_FPS)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 3
        stream.codec_context.thread_count = 1
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def clip_pictures(clip: Path, *, lead_s: float, tail_s: float) -> Iterator[Picture]:
    """A clip as a camera would give it, between its first and its last picture held still.

    The camera starts before the page is connected and begins again at its end: `lead_s` and
    `tail_s` keep the sign away from both.
    """
    pictures: list[tuple[float, Picture]] = []
    with av.open(str(clip), metadata_errors="ignore") as video:
        for frame in video.decode(video=0):
            picture = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
            pictures.append((float(frame.time or 0), _fit(picture)))
    first_s, last_s = pictures[0][0], pictures[-1][0]
    yield from repeat(pictures[0][1], round(lead_s * CAMERA_FPS))
    at = 0
    for tick in range(round((last_s - first_s) * CAMERA_FPS) + 1):
        while at + 1 < len(pictures) and pictures[at + 1][0] <= first_s + tick / CAMERA_FPS:
            at += 1
        yield pictures[at][1]
    yield from repeat(pictures[-1][1], round(tail_s * CAMERA_FPS))


def _fit(picture: Picture) -> Picture:
    """The picture at 640x480, aspect kept. A wide one loses its sides, as it does when Chromium
    asks a wide camera for 4:3; a tall one gets bars that continue its edges."""
    height, width = picture.shape[:2]
    kept = min(width, round(height * WIDTH / HEIGHT))
    left = (width - kept) // 2
    size = (min(WIDTH, round(kept * HEIGHT / height)), HEIGHT)
    scaled = cv2.resize(picture[:, left : left + kept], size, interpolation=cv2.INTER_LINEAR)
    bar = WIDTH - size[0]
    edges = (0, 0, bar // 2, bar - bar // 2)
    return np.asarray(cv2.copyMakeBorder(scaled, *edges, cv2.BORDER_REPLICATE), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running `python -m streaming`."""

    url: str
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        await self.process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now, for servers that can't pick one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def server_process(
    *arguments: str, port: int = 0, module: str = "streaming", loopback: bool = True
) -> AsyncIterator[ServerProcess]:
    """`python -m streaming` on 127.0.0.1, once it is ready; stopped with SIGTERM at the end.

    Media, too, goes over 127.0.0.1, unless `loopback` is false.
    """
    ice = ["--loopback-ice"] if loopback else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--port", str(port), *ice, *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        async with asyncio.timeout(READY_S):
            line = (await process.stdout.readline()).decode()
        ready = _READY.match(line)
        assert ready, f"the server did not get ready; it said {line!r}"
        yield ServerProcess(ready[1], process)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(15):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
                raise
