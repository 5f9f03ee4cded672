"""One run: a server in its own process, peers in theirs, and what came out, as numbers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil

from benchmarks import host
from streaming.bench.children import Child
from streaming.bench.peers import PeerTask

_PEERS_A_PROCESS = 4
_SPARE_S = 100.0  # to start, to connect, to end: a run that takes longer is given up
_WARM_S = 1.0  # of each run, left out: everybody finds their pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A server under test: `python -m module TASK FLAGS...`, see `benchmarks.host`."""

    name: str  # for --only
    title: str
    module: str
    flags: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()  # whose versions are reported
    named: bool = False  # runs only where --only names it
    ours: bool = False  # answers name a time, which the host translates into a picture


CONTENDERS = (
    Contender(name="ours", title="livegloss", module="benchmarks.ours", ours=True),
    Contender(
        name="aiortc",
        title="aiortc's example",
        module="benchmarks.aiortc_example",
        packages=("aiortc",),
    ),
    Contender(
        name="careful",
        title="the same, unbuffered, model in a thread",
        module="benchmarks.aiortc_example",
        flags=("--careful",),
        packages=("aiortc",),
    ),
    Contender(
        name="fastrtc",
        title="FastRTC handler",
        module="benchmarks.fastrtc_handler",
        packages=("fastrtc", "gradio"),
    ),
    Contender(
        name="streamlit",
        title="streamlit-webrtc callback",
        module="benchmarks.streamlit_callback",
        packages=("streamlit-webrtc", "streamlit"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalLoad:
    """What each contender is given."""

    model: str
    sessions: int
    duration_s: float
    recording: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalOutcome:
    """What came of one run, or of the median of several. None: there is nothing to say."""

    p50_ms: float | None = None  # from a picture to the answer of the window that it ends
    p95_ms: float | None = None
    per_s: float = 0.0  # answers a second and session
    cpu_s: float | None = None  # of the server's processes, a session and second
    cpu_ms_an_answer: float | None = None  # who falls behind spends less, but not on an answer
    rss_growth_mb: float | None = None
    failed: str = ""  # why, and for how many


async def run(contender: Contender, load: RivalLoad) -> RivalOutcome:
    """Start the server, let the peers call it for a while, end it. What fails is in the outcome."""
    try:
        async with asyncio.timeout(load.duration_s + _SPARE_S), AsyncExitStack() as stack:
            return await _run(contender, load, stack)
    except TimeoutError:
        return RivalOutcome(failed=f"not done within {load.duration_s + _SPARE_S:g} s")
    except OSError as error:
        return RivalOutcome(failed=str(error))


async def _run(contender: Contender, load: RivalLoad, stack: AsyncExitStack) -> RivalOutcome:
    hosting = host.Hosting(model=load.model, sessions=load.sessions)
    server = await Child.start(stack, contender.module, asdict(hosting), *contender.flags)
    url = (await server.line())["url"]
    process = psutil.Process(server.pid)
    peers = [
        await Child.start(
            stack, "benchmarks.peers", asdict(task), "ours" if contender.ours else contender.name
        )
        for task in _tasks(load, url)
    ]
    await asyncio.gather(*(child.line() for child in peers))
    for child in peers:
        child.go_on()
    began_s, cpu_s, rss_mb = time.monotonic(), _cpu_s(process), _rss_mb(process)
    reports = await asyncio.gather(*(child.line() for child in peers))
    lasted_s = time.monotonic() - began_s
    cpu_s, growth_mb = _cpu_s(process) - cpu_s, _rss_mb(process) - rss_mb
    heard = [one for report in reports for one in report["heard"]]
    pictures: Mapping[tuple[str, int], int | None] | None = None
    if contender.ours:
        server.hang_up()
        pictures = host.pictures((await server.line())["seen"])
    until_s = began_s + load.duration_s
    session_s = lasted_s * load.sessions
    ages_ms = [age for one in heard for age in ages(one, pictures, began_s + _WARM_S, until_s)]
    told = sum(began_s <= came_s < until_s for one in heard for _, came_s, _ in one["results"])
    all_told = sum(came_s >= began_s for one in heard for _, came_s, _ in one["results"])
    return RivalOutcome(
        p50_ms=_percentile(ages_ms, 50),
        p95_ms=_percentile(ages_ms, 95),
        per_s=told / load.duration_s / load.sessions,
        cpu_s=cpu_s / session_s,
        cpu_ms_an_answer=1000 * cpu_s / all_told if all_told else None,
        rss_growth_mb=growth_mb,
        failed=failures([one["error"] for one in heard]),
    )


def _tasks(load: RivalLoad, url: str) -> Iterator[PeerTask]:
    for start in range(0, load.sessions, _PEERS_A_PROCESS):
        yield PeerTask(
            url=url,
            peers=min(_PEERS_A_PROCESS, load.sessions - start),
            duration_s=load.duration_s,
            recording=load.recording,
        )


def ages(
    heard: Mapping[str, Any],
    pictures: Mapping[tuple[str, int], int | None] | None,
    from_s: float,
    until_s: float,
) -> Iterator[float]:
    """How old, ms, each answer's newest picture was when a peer was told, if that was in a time.

    By when answers came, not by when pictures were made: a peer behind a growing queue is told of
    ever older ones, and those count. Answers whose bar code could not be read are left out.

    Args:
        heard: of one peer, see `streaming.bench.peers.Heard`.
        pictures: (session, key of an answer) -> picture; None: the key is the picture.
    """
    made_s = heard["made_s"]
    for key, came_s, _ in heard["results"]:
        number = key if pictures is None else pictures.get((heard["session"], key))
        if from_s <= came_s < until_s and number is not None and 0 <= number < len(made_s):
            yield 1000 * (came_s - made_s[number])


def failures(errors: Sequence[str | None]) -> str:
    """What went wrong for how many of all peers; empty where nothing did."""
    reasons = sorted({error for error in errors if error})
    count = sum(error is not None for error in errors)
    return f"{count} of {len(errors)} peers: {'; '.join(reasons)}" if reasons else ""


def median(outcomes: Iterable[RivalOutcome]) -> RivalOutcome:
    """Of several runs, figure by figure, over those runs that have one."""
    rows = [asdict(outcome) for outcome in outcomes]
    failed = [row.pop("failed") for row in rows]
    figures: dict[str, Any] = {
        name: float(np.median(values))
        if (values := [row[name] for row in rows if row[name] is not None])
        else None
        for name in rows[0]
    }
    return RivalOutcome(**figures, failed=" / ".join(sorted({one for one in failed if one})))


def _percentile(values: Sequence[float], percent: int) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A server's process and those that it started."""
    return [process, *process.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    times = [one.cpu_times() for one in _family(process)]
    return float(sum(one.user + one.system for one in times))


def _rss_mb(process: psutil.Process) -> float:
    return float(sum(one.memory_info().rss for one in _family(process))) / 1e6
