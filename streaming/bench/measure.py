"""One run: a server in this process, peers in processes of their own.

    BenchSettings -> peers -> server -> [measure] -> report

The server is what `python -m streaming` runs. Ages count from the pixels of a window's newest
picture, read at the recogniser (standin.py), to the message that a peer receives.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import psutil
import tyro

from streaming.app import serve
from streaming.bench.network import NetworkConditions, option
from streaming.bench.peers import Child, PeerLog, PeerTask, with_recording
from streaming.bench.standin import NewestPictures, WatchedRecognizer, open_model
from streaming.server import Server
from streaming.settings import ServerSettings, SessionSettings, Settings

_PEERS_A_PROCESS = {"recorded": 10, "live": 4, "chromium": 64}
_MOST_SESSIONS = 256
_RECORDING_S = 30.0  # then it starts again: longer than any result is old
_WARM_S = 1.0  # left out at the start of a run: encoders find their bit rate
_OLD_MS = 1000.0
_MODEL = ("encode", "classify")  # the stages of the model itself
_PACKAGES = ("aiortc", "aioice", "av", "aiohttp", "numpy")
_SPARE_S = 60.0  # a run that takes longer than its duration by so much is given up


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = text.split("x")
        return int(width), int(height)
    except ValueError:
        raise ValueError(f"write a size as 640x480, not '{text}'") from None


_SIZE = option("WxH", _size)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """One run."""

    sessions: Annotated[int, tyro.conf.Suppress] = 1  # an option of the command
    model: Annotated[str, tyro.conf.Suppress] = "builtin"  # an option of the command
    duration_s: Annotated[float, tyro.conf.arg(name="duration")] = 20.0  # seconds of a run
    clip: str | None = None  # send this video file instead of drawn pictures
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    hop_s: float | None = None  # seconds between windows (default: the bundle's)
    fps: float | None = None  # of the cameras (default: what the page asks a camera for)
    size: Annotated[tuple[int, int] | None, _SIZE] = None  # px (default: as the page asks)
    live: bool = False  # peers encode while they send, as always with --loss, and send no recording
    chromium: bool = False  # pages of a real Chromium send, a tab each
    network: NetworkConditions = field(default_factory=NetworkConditions)

    def __post_init__(self) -> None:
        if not 1 <= self.sessions <= _MOST_SESSIONS or not 1 <= self.duration_s <= 3600:
            raise ValueError(f"--sessions must lie in 1 to {_MOST_SESSIONS}, --duration 1 to 3600")
        if self.fps is not None and not 1 <= self.fps <= 120:
            raise ValueError("--fps must lie in 1 to 120")
        if self.size is not None and (min(self.size) < 64 or any(px % 2 for px in self.size)):
            raise ValueError("--size must be even and at least 64x64")
        if self.chromium and (self.network.impaired or self.clip or self.live):
            raise ValueError("--chromium sends drawn pictures over this machine's own network")
        if self.clip is not None and not Path(self.clip).is_file():
            raise ValueError(f"there is no file {self.clip}")

    @property
    def senders(self) -> str:
        """What makes the video: see `_PEERS_A_PROCESS`."""
        if self.chromium:
            return "chromium"
        # A recording can't make a key frame on request, as a camera does after a loss.
        return "live" if self.live or self.network.loss else "recorded"


async def measure_latency(settings: BenchSettings) -> dict[str, Any]:
    """Run one benchmark; returns its report.

    Raises:
        BundleError, ValueError, OSError: the model or the clip can't be read.
        TimeoutError: the peers did not finish in time.
    """
    recognizer = WatchedRecognizer(open_model(settings.model, settings.device))
    spec = recognizer.bundle.encoder
    task = PeerTask(
        url="",
        duration_s=settings.duration_s,
        fps=settings.fps or spec.fps,
        size=settings.size or spec.camera_size,
        clip=settings.clip,
        network=settings.network,
    )
    serving = loopback_settings(settings.sessions, hop_s=settings.hop_s)
    async with serve(serving, recognizer) as server:
        async with asyncio.timeout(settings.duration_s + _SPARE_S):
            measured = await _run(settings, replace(task, url=server.url), server, recognizer)
        device = server.device
    return {
        **measured,
        "hop_s": settings.hop_s or recognizer.bundle.hop_s,
        "senders": settings.senders,
        "network": asdict(settings.network),
        "fps": task.fps,
        "size": list(task.size),
        "model": recognizer.bundle.name,
        "device": device,
        **environment(),
    }


def loopback_settings(sessions: int, **session: Any) -> Settings:
    """Of a server for `sessions` peers on this machine; `session` are fields of SessionSettings."""
    return Settings(
        server=ServerSettings(
            port=0, max_sessions=sessions, max_sessions_per_address=sessions, grace_s=1.0
        ),
        session=SessionSettings(loopback_ice=True, **session),
    )


async def _run(
    settings: BenchSettings, task: PeerTask, server: Server, recognizer: WatchedRecognizer
) -> dict[str, Any]:
    """Let the peers send, and sum up while they are still connected."""
    async with AsyncExitStack() as stack:
        if settings.senders == "recorded":
            task = await with_recording(task, _RECORDING_S, stack)
        module = "streaming.bench." + ("chromium" if settings.chromium else "peers")
        tasks = divided(task, settings.sessions, _PEERS_A_PROCESS[settings.senders])
        process = psutil.Process()
        sending = await peers_sent(stack, module, tasks, lambda: [process])
        return _sum_up(server, recognizer.newest, sending, settings.duration_s)


def divided(task: PeerTask, peers: int, per_process: int) -> list[PeerTask]:
    """A task's peers, as many processes as they need; each peer has a seed of its own."""
    return [
        replace(
            task,
            peers=min(per_process, peers - first),
            seed=_MOST_SESSIONS * task.network.seed + first,
        )
        for first in range(0, peers, per_process)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What was measured while peers sent."""

    began_s: float  # monotonic
    cpu_s: float  # that the server's processes used
    logs: list[PeerLog]


async def peers_sent(
    stack: AsyncExitStack,
    module: str,
    tasks: Sequence[object],
    server: Callable[[], Sequence[psutil.Process]],
) -> Sending:
    """Start a process a task; once all peers are connected, let them send for their duration.

    They stay connected. `server` lists the processes whose CPU time counts.
    """
    children = [await Child.start(stack, module, task) for task in tasks]
    await asyncio.gather(*(child.receive() for child in children))
    processes = server()

    def cpu_time_s() -> float:
        times = [process.cpu_times() for process in processes]
        return float(sum(time.user + time.system for time in times))

    began_s, cpu_s = time.monotonic(), cpu_time_s()
    for child in children:
        child.stdin.write(b"\n")
    reports = await asyncio.gather(*(child.receive() for child in children))
    logs = [log for report in reports for log in msgspec.convert(report["logs"], list[PeerLog])]
    return Sending(began_s=began_s, cpu_s=cpu_time_s() - cpu_s, logs=logs)


def _sum_up(
    server: Server, newest: NewestPictures, sending: Sending, duration_s: float
) -> dict[str, Any]:
    """The measured fields of a report: those that the project's contract names, and some more.

    The server's sessions are still connected.
    """
    counts, logs, from_s = server.batcher.counts, sending.logs, sending.began_s + _WARM_S
    total = Counter[str]()  # over all sessions
    for session in server.sessions:
        total.update(session.numbers())
    stages, unread = _stages_ms(logs, newest, from_s)
    ages_ms, without_model_ms = stages.pop("capture_to_result"), stages.pop("without_model")
    received_s = [received_s for log in logs for _, received_s, _ in log.predictions]
    silences_ms = [  # between two predictions of one peer
        1000 * (later_s - earlier_s)
        for log in logs
        for (_, earlier_s, _), (_, later_s, _) in itertools.pairwise(log.predictions)
        if earlier_s >= from_s
    ]
    oldest_ms = round(max(ages_ms), 1) if ages_ms else None
    return {
        "capture_to_result_ms": {**_percentiles(ages_ms, 50, 95, 99), "max": oldest_ms},
        "without_model_ms": _percentiles(without_model_ms, 50, 95),
        "stages_ms": {stage: _percentiles(ms, 50, 95) for stage, ms in stages.items()},
        "predictions_per_s": round(sum(s >= sending.began_s for s in received_s) / duration_s, 2),
        "frames": {
            "sent": sum(len(log.made_s) for log in logs),
            "decoded": total["frames_decoded"],
            "dropped": total["frames_dropped"],
        },
        "windows": {
            "due": counts.due,
            "done": counts.done,
            "replaced": counts.replaced,
            "lost": max(0, counts.done - len(received_s)),
            "unread": unread,
            "old": sum(ms > _OLD_MS for ms in ages_ms),
        },
        "packets": {
            "lost": total["gaps"] + total["gaps_repaired"],
            "repaired": total["gaps_repaired"],
            "key_frames_asked": total["key_frames_asked"],
        },
        "longest_silence_ms": round(max(silences_ms), 1) if silences_ms else None,
        "cpu_s_per_session_s": round(sending.cpu_s / duration_s / len(logs), 4),
        "rss_mb": round(psutil.Process().memory_info().rss / 1e6, 1),
        "sessions": len(logs),
        "duration_s": duration_s,
        "errors": sorted({log.error for log in logs if log.error}),
    }


def _stages_ms(
    logs: Sequence[PeerLog], newest: NewestPictures, from_s: float
) -> tuple[dict[str, list[float]], int]:
    """For each stage what it took for each result; and the results whose number was unreadable.

    Results of pictures that were made before `from_s` are left out.
    """
    stages: dict[str, list[float]] = {"capture_to_result": [], "without_model": []}
    unread = 0
    for log in logs:
        for rtp, received_s, latency_ms in log.predictions:
            number, arrival_s = newest.get((log.session, rtp), (None, 0.0))
            made_s = None if number is None else log.made(number, received_s)
            if made_s is None:
                unread += 1
            elif made_s >= from_s:
                age_ms, arrival_ms = 1000 * (received_s - made_s), 1000 * (arrival_s - made_s)
                model_ms = sum(latency_ms.get(stage, 0.0) for stage in _MODEL)
                result = {
                    "capture_to_result": age_ms,
                    "without_model": age_ms - model_ms,
                    "capture_to_arrival": arrival_ms,
                    **latency_ms,
                    "to_peer": max(0.0, age_ms - arrival_ms - latency_ms["total"]),
                }
                for stage, ms in result.items():
                    stages.setdefault(stage, []).append(ms)
    return stages, unread


def _percentiles(values: Sequence[float], *percents: int) -> dict[str, float | None]:
    return {
        f"p{percent}": round(float(np.percentile(values, percent)), 1) if values else None
        for percent in percents
    }


def environment(*packages: str) -> dict[str, Any]:
    """What a figure was measured with. Raises PackageNotFoundError for a missing package."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        git = subprocess.run(command, capture_output=True, text=True, check=True)
        commit = git.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None  # not a checkout
    return {
        "versions": {name: version(name) for name in (*_PACKAGES, *packages)}
        | {"python": platform.python_version()},
        "commit": commit,
        "machine": f"{os.cpu_count()} cores, {_processor()}",
    }


def _processor() -> str:
    """What Linux calls the processor; elsewhere its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
