"""`python -m streaming.bench.rivals`: one model and camera behind livegloss and its alternatives.

    python -m streaming.bench.rivals --sessions 8 --model standin:20
    python -m streaming.bench.rivals --duration 2 --only livegloss --only aiortc

Each server runs in a process of its own, one after the other. Prints a Markdown table; the last
line of stdout is one JSON object. The other frameworks come with the extra `benchmarks`;
docs/reports/rivals.md says how to install it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError
from typing import Annotated, Any, Literal, get_args

import numpy as np
import psutil
import tyro
from av import FFmpegError

from models.bundle import BundleError
from models.command_line import read_command_line, say
from streaming.bench.measure import divided, environment, peers_sent
from streaming.bench.peers import Child, PeerLog, PeerTask, with_recording
from streaming.bench.rivals.peers import RivalPeerTask
from streaming.bench.rivals.servers import HostTask
from streaming.bench.standin import open_model

Name = Literal["livegloss", "aiortc", "aiortc-careful", "fastrtc", "streamlit-webrtc"]
_PACKAGES = {"fastrtc": ["fastrtc", "gradio"], "streamlit-webrtc": ["streamlit-webrtc"]}
_PEERS_A_PROCESS = 4
_CONNECT_S = 40.0  # a recording lasts so much longer than a run: peers send while others connect
_SPARE_S = 100.0  # to start, to connect, to end: a run that takes longer is given up
_WARM_S = 1.0  # left out at the start of each run

Pictures = Mapping[tuple[str, int], int | None]  # (session, RTP timestamp) -> number of the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalSettings:
    """One comparison."""

    sessions: int = 1  # cameras at once
    duration_s: Annotated[float, tyro.conf.arg(name="duration")] = 10.0  # seconds of a run
    model: str = "standin:20"  # builtin, a bundle's folder, or standin:MS
    only: tuple[Name, ...] = ()  # these servers; may be given again (default: all)
    clip: str | None = None  # send this video file instead of drawn pictures

    def __post_init__(self) -> None:
        if not 1 <= self.sessions <= 64 or not 2 <= self.duration_s <= 600:
            raise ValueError("--sessions must lie in 1 to 64, --duration in 2 to 600")

    @property
    def servers(self) -> tuple[Name, ...]:
        return self.only or get_args(Name)


async def compare_servers(settings: RivalSettings) -> list[dict[str, Any]]:
    """A row a server: its figures, or why there are none."""
    rows = []
    async with AsyncExitStack() as recorded:
        task = PeerTask(url="", duration_s=settings.duration_s, clip=settings.clip)
        task = await with_recording(task, settings.duration_s + _CONNECT_S, recorded)
        limit_s = settings.duration_s + _SPARE_S
        for name in settings.servers:
            host = HostTask(server=name, model=settings.model, sessions=settings.sessions)
            row: dict[str, Any] = {"server": name, "sessions": settings.sessions}
            try:
                async with asyncio.timeout(limit_s), AsyncExitStack() as stack:
                    row |= await _run(host, task, stack)
            except OSError as error:  # a TimeoutError has no text
                row["failed"] = str(error) or f"not done within {limit_s:g} s"
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    return rows


async def _run(host: HostTask, task: PeerTask, stack: AsyncExitStack) -> dict[str, Any]:
    """Start the server, let the peers call it for a while, and end it."""
    server = await Child.start(stack, "streaming.bench.rivals.servers", host)
    task = replace(task, url=(await server.receive())["url"])
    process = psutil.Process(server.process.pid)
    sending = await peers_sent(
        stack,
        "streaming.bench.rivals.peers",
        [
            RivalPeerTask(server=host.server, task=part)
            for part in divided(task, host.sessions, _PEERS_A_PROCESS)
        ],
        lambda: [process, *process.children(recursive=True)],
    )
    logs, began_s, lasted_s = sending.logs, sending.began_s, time.monotonic() - sending.began_s
    pictures: Pictures | None = None
    if host.server == "livegloss":
        server.stdin.close()
        rows = (await server.receive())["pictures"]
        pictures = {(session, rtp): number for session, rtp, number in rows}
    until_s = began_s + task.duration_s
    ages = [ms for log in logs for ms in ages_ms(log, pictures, began_s + _WARM_S, until_s)]
    received = sum(began_s <= at_s < until_s for log in logs for _, at_s, _ in log.predictions)
    errors = [log.error for log in logs if log.error is not None]
    return {
        "p50_ms": round(float(np.percentile(ages, 50)), 1) if ages else None,
        "p95_ms": round(float(np.percentile(ages, 95)), 1) if ages else None,
        "predictions_per_s": round(received / task.duration_s / host.sessions, 2),  # a session
        "cpu_s": round(sending.cpu_s / lasted_s / host.sessions, 4),  # a session and second
        "failed": f"{len(errors)} of {len(logs)} peers: {errors[0]}" if errors else "",
    }


def ages_ms(
    log: PeerLog, pictures: Pictures | None, from_s: float, until_s: float
) -> Iterator[float]:
    """How old each result's newest picture was when its peer received it, between two times.

    By when results came, not by when pictures were made: a peer behind a growing queue receives
    ever older ones, and those count. Results whose number could not be read are left out.

    Args:
        pictures: of the results; None: each names its picture itself.
    """
    made = len(log.made_s)
    for key, received_s, _ in log.predictions:
        number = key if pictures is None else pictures.get((log.session, key))
        if from_s <= received_s < until_s and number is not None and number in range(made):
            yield 1000 * (received_s - log.made_s[number])


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of a Markdown table."""
    names = ("sessions", "server", "p50_ms", "p95_ms", "predictions_per_s", "cpu_s", "failed")
    cells = [[str(row.get(name, "")) for name in names] for row in rows]
    cells = [[text.replace("|", "/").replace("\n", " ") for text in row] for row in cells]
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *cells)]


def main(argv: Sequence[str] | None = None) -> int:
    settings = read_command_line(
        RivalSettings,
        argv,
        prog="python -m streaming.bench.rivals",
        description="Measure livegloss beside what others use.",
    )
    print(f"rivals: {settings}", file=sys.stderr, flush=True)
    try:
        packages = [package for name in settings.servers for package in _PACKAGES.get(name, [])]
        about = environment(*packages)
        open_model(settings.model).close()
        rows = asyncio.run(compare_servers(settings))
    except (PackageNotFoundError, BundleError, FFmpegError, ValueError, OSError) as error:
        reason = str(error)
        if isinstance(error, PackageNotFoundError):
            reason = f"{error.name} is missing: docs/reports/rivals.md says how to install it, or "
            reason += "name other servers with --only"
        say(f"error: {reason}", file=sys.stderr)
        return 1
    print("\n".join(markdown_table(rows)))
    print(json.dumps({**asdict(settings), "rows": rows, **about}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
