"""A soak: sessions come and go, and nothing may be left of them.

    callers (a process a round) -> server (a process) -> a sample a second -> [soak] -> findings

Callers join and leave all the time; every other round ends with their process killed. Between the
rounds, when nobody is connected, the server's samples must be what they were after the first round.
`python -m streaming.bench.soak TASK` is one of the two processes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import aiohttp
import msgspec
import psutil
import tyro

from streaming.app import serve, trim_heaps
from streaming.bench.measure import environment, loopback_settings
from streaming.bench.peers import Child, Peer, PeerTask, parent_gone, send_line, with_recording
from streaming.bench.standin import open_model
from streaming.server import Server
from streaming.session import Session
from streaming.webrtc.ice import gather_loopback
from streaming.webrtc.peer import BoundedPeerConnection
from streaming.webrtc.video_decoder import VideoDecoder

_ROUNDS = 10  # at most, in a minute; longer soaks have longer rounds,
_LEAST_ROUNDS = 5
_LONGEST_ROUND_S = 30.0  # and more of them
_EMPTY_S = 60.0  # for the last session of a round to end
_EMPTY_SAMPLES = 2  # without a session: what was closing has closed
_SAMPLE_S = 1.0
_SILENCE_S = 4.0  # after which the server ends the session of a killed peer
_RECORDING_S = 8.0  # longer than a caller stays
_STAY_S = (0.5, 6.0)
_PAUSE_S = (0.1, 1.0)  # until the next one calls
_STEADY_MB_PER_H = 10.0  # memory that grows more slowly is no leak that anybody would notice
_SETTLING_MB = 8.0  # by so much an allocator's heaps still grow after the first round
_SESSION_OBJECTS = (Session, BoundedPeerConnection, VideoDecoder)
_COUNTED = ("sessions", "tasks", "threads", "sockets", "fds", "objects")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakSettings:
    """One soak."""

    # Seconds in which sessions come and go; status 1 if anything is left of them (0: no soak).
    duration_s: Annotated[float, tyro.conf.arg(name="soak", metavar="S")] = 0.0
    sessions: Annotated[int, tyro.conf.Suppress] = 4  # at once, about; an option of the command
    model: Annotated[str, tyro.conf.Suppress] = "standin:5"  # an option of the command

    def __post_init__(self) -> None:
        if self.duration_s and not 20 <= self.duration_s <= 86_400:
            raise ValueError("--soak must lie in 20 to 86400 seconds")
        if not 1 <= self.sessions <= 64:
            raise ValueError("--sessions must lie in 1 to 64 for a soak")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSample:
    """The server process at one moment."""

    at_s: float  # monotonic
    rss_mb: float
    sessions: int
    tasks: int
    threads: int
    sockets: int
    fds: int  # open files, sockets among them
    served: int  # sessions since the start
    objects: int = 0  # sessions, connections and decoders in memory; counted without a session
    names: list[str] = field(default_factory=list)  # of tasks and threads; listed without a session


async def run_soak(settings: SoakSettings) -> dict[str, Any]:
    """Run one soak; returns its report. Its `findings` are empty when nothing was left over.

    Raises:
        BundleError, ValueError, OSError: the model can't be opened, or a process ended early.
        TimeoutError: sessions did not end.
    """
    round_s = min(settings.duration_s / _ROUNDS, _LONGEST_ROUND_S)
    rounds: list[ServerSample] = []  # the last sample of each, without a session
    killed, left, errors = 0, Counter[str](), set[str]()
    async with AsyncExitStack() as stack:
        server_task = _ServerTask(model=settings.model, sessions=4 * settings.sessions)
        server = await Child.start(stack, "streaming.bench.soak", server_task)
        peer = PeerTask(url=(await server.receive())["url"], fps=15.0, size=(320, 240))
        peer = await with_recording(peer, _RECORDING_S, stack)

        async def sample() -> ServerSample:
            return msgspec.convert((await server.receive())["sample"], ServerSample)

        until_s = time.monotonic() + settings.duration_s
        while time.monotonic() < until_s or len(rounds) < _LEAST_ROUNDS:
            task = _CallersTask(peer=peer, callers=settings.sessions, seed=len(rounds))
            kill = len(rounds) % 2 == 1
            async with asyncio.TaskGroup() as tasks:
                calls = tasks.create_task(_round(task, round_s, kill), name="callers")
                while not calls.done():
                    await sample()
            report = calls.result()
            killed += kill
            left.update(report["left"])
            errors.update(report["errors"])
            empty = 0
            async with asyncio.timeout(_EMPTY_S):
                while empty < _EMPTY_SAMPLES:
                    last = await sample()
                    empty = 0 if last.sessions else empty + 1
            rounds.append(last)
    (slope, low, high), allowed = memory_slope(rounds), allowed_mb_per_h(rounds)
    return {
        "soak_s": settings.duration_s,
        "sessions": settings.sessions,
        "model": settings.model,
        "served": rounds[-1].served,
        "killed_rounds": killed,
        "left_by": dict(left),
        "errors": sorted(errors),
        "memory_mb_per_h": {"slope": slope, "low": low, "high": high, "allowed": allowed},
        "rounds": [asdict(sample) for sample in rounds],
        "findings": findings(rounds),
        **environment(),
    }


async def _round(task: _CallersTask, round_s: float, kill: bool) -> dict[str, Any]:
    """Let callers come and go for a while. Returns how they left, and their errors."""
    async with AsyncExitStack() as stack:
        child = await Child.start(stack, "streaming.bench.soak", task)
        await child.receive()
        await asyncio.sleep(round_s)
        if kill:
            child.process.kill()  # as a power cut would
            return {"left": {}, "errors": []}
        child.stdin.close()
        return await child.receive()


def memory_slope(rounds: Sequence[ServerSample]) -> tuple[float, float, float]:
    """How fast memory grows, MB an hour, by least squares; with its 95 % confidence interval.

    Raises:
        ValueError: there are fewer than four rounds.
    """
    from scipy import stats  # of the extra `train`; the command checks that it is there

    if len(rounds) < 4:
        raise ValueError(f"a slope needs at least four rounds of sessions, not {len(rounds)}")
    hours, rss_mb = zip(*((sample.at_s / 3600, sample.rss_mb) for sample in rounds), strict=True)
    line = stats.linregress(hours, rss_mb)
    slope, within = float(line.slope), float(stats.t.ppf(0.975, len(rounds) - 2) * line.stderr)
    return slope, slope - within, slope + within


def allowed_mb_per_h(rounds: Sequence[ServerSample]) -> float:
    """The steepest slope that is no finding: the shorter a soak, the more of it is settling."""
    hours = (rounds[-1].at_s - rounds[0].at_s) / 3600
    return max(_STEADY_MB_PER_H, _SETTLING_MB / hours)


def findings(rounds: Sequence[ServerSample]) -> list[str]:
    """What is wrong, a sentence each; empty when nothing is.

    Args:
        rounds: without a session, whose memory is no leak; the first is the warm-up.
    """
    before, after = rounds[0], rounds[-1]
    found = []
    (slope, low, high), allowed = memory_slope(rounds), allowed_mb_per_h(rounds)
    if low > allowed:
        found.append(
            f"memory grows by {slope:.0f} MB an hour "
            f"({low:.0f} to {high:.0f}; up to {allowed:.0f} is allowed)"
        )
    if after.served == before.served:
        found.append("no session was served")
    for name in _COUNTED:
        more = getattr(after, name) - getattr(before, name)
        if more > 0:
            found.append(f"{more} {name} left over")
    if names := set(after.names) - set(before.names):
        found.append(f"new among tasks and threads: {', '.join(sorted(names))}")
    return found


class _ServerTask(msgspec.Struct, tag="server", kw_only=True):
    model: str
    sessions: int


async def _run_server(task: _ServerTask) -> None:
    """Serve until the parent closes stdin; report a sample once a second."""
    settings = loopback_settings(task.sessions, silence_s=_SILENCE_S, connect_s=10.0)
    async with serve(settings, open_model(task.model)) as server:
        send_line({"url": server.url})
        end = asyncio.create_task(parent_gone(), name="parent gone")
        while not end.done():
            send_line({"sample": _sample(server)})
            await asyncio.wait([end], timeout=_SAMPLE_S)


def _sample(server: Server) -> ServerSample:
    """This process now; without a session, after giving back the memory that nothing uses."""
    process, tasks = psutil.Process(), asyncio.all_tasks()
    objects, names = 0, list[str]()
    if not len(server.sessions):
        gc.collect()
        trim_heaps()
        objects = sum(isinstance(item, _SESSION_OBJECTS) for item in gc.get_objects())
        names = sorted({task.get_name() for task in tasks})
        names += sorted({thread.name for thread in threading.enumerate()})
    return ServerSample(
        at_s=time.monotonic(),
        rss_mb=process.memory_info().rss / 1e6,
        sessions=len(server.sessions),
        tasks=len(tasks),
        threads=threading.active_count(),
        sockets=len(process.net_connections("all")),
        fds=process.num_fds(),
        served=server.sessions.counts.admitted,
        objects=objects,
        names=names,
    )


class _CallersTask(msgspec.Struct, tag="callers", kw_only=True):
    peer: PeerTask
    callers: int  # at once
    seed: int


async def _run_callers(task: _CallersTask) -> None:
    """Call until the parent closes stdin; then let all calls end, and report how they did."""
    gather_loopback()
    errors: set[str] = set()
    left: Counter[str] = Counter()

    async def call_again(number: int) -> None:
        """One call after the other: each lasts a little and has one of four endings."""
        chance = random.Random(1000 * task.seed + number)
        while not end.done():
            peer = Peer(task.peer, seed=0)
            try:
                await peer.call(http)
                if peer.log.error is not None:
                    errors.add(peer.log.error)
                else:
                    await asyncio.wait([end], timeout=chance.uniform(*_STAY_S))
                    left[await _leave(peer, chance, http)] += 1
            finally:
                peer.stop_camera()
                await peer.close()
            await asyncio.wait([end], timeout=chance.uniform(*_PAUSE_S))

    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        end = tasks.create_task(parent_gone(), name="parent gone")
        for number in range(task.callers):
            tasks.create_task(call_again(number), name=f"caller {number}")
        send_line({"callers": task.callers})
    send_line({"left": left, "errors": errors})


async def _leave(peer: Peer, chance: random.Random, http: aiohttp.ClientSession) -> str:
    match how := chance.choice(("bye", "delete", "close", "vanish")):
        case "bye":
            peer.results.send(json.dumps({"type": "bye"}))
            await asyncio.sleep(0.1)  # until it is sent: closing the connection would drop it
        case "delete":
            async with http.delete(peer.location):
                pass
        case "vanish":
            peer.vanish()
    return how


if __name__ == "__main__":
    match msgspec.json.decode(sys.argv[1], type=_ServerTask | _CallersTask):
        case _ServerTask() as server_task:
            asyncio.run(_run_server(server_task))
        case _CallersTask() as callers_task:
            asyncio.run(_run_callers(callers_task))
