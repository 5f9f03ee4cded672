"""One run: a server in this process, peers in processes of their own, and what came of it.

The server is what `python -m streaming` runs; its recogniser is wrapped to read the bar code of
each window's newest picture, so that times count from the pixels to the message.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.schema import EncoderSpec
from streaming.app import serve
from streaming.bench.camera import clip_pictures, drawn_pictures, record
from streaming.bench.children import Child
from streaming.bench.namespace import Namespace, NoNamespace
from streaming.bench.peers import PeerLog, PeerTask
from streaming.bench.report import Run, sum_up
from streaming.bench.settings import BenchSettings, NetworkConditions
from streaming.bench.standin import Watched, open_model
from streaming.server import Server
from streaming.settings import RecognizerSettings, ServerSettings, SessionSettings, Settings

_PEERS_A_PROCESS = {"recorded": 10, "live": 4, "chromium": 64}
_SESSIONS_MOST = 256
_RECORDING_S = 30.0  # then it begins again: longer than any result is old
_SPARE_S = 60.0  # a run that takes longer than its duration by so much is given up


async def measure(settings: BenchSettings) -> dict[str, Any]:
    """Run one benchmark and give its report.

    Raises:
        BundleError, ValueError, OSError: the model or the clip can't be had.
        TimeoutError: the peers did not finish in time.
    """
    watched = Watched(open_model(settings.model, settings.device))
    settings = _as_the_page_asks(settings, watched.spec)
    async with AsyncExitStack() as stack:
        namespace = await _namespace(settings.network, stack)
        server = await stack.enter_async_context(serve(_serving(settings, namespace), watched))
        async with asyncio.timeout(settings.duration_s + _SPARE_S):
            run = await _drive(settings, server, namespace)
        run.network_by = "none" if not settings.network.bad else "netem" if namespace else "peers"
        device = server.device
    return sum_up(settings, run, watched.seen, watched.bundle, device)


def _as_the_page_asks(settings: BenchSettings, spec: EncoderSpec) -> BenchSettings:
    return replace(settings, fps=settings.fps or spec.fps, size=settings.size or spec.camera_size)


async def _namespace(network: NetworkConditions, stack: AsyncExitStack) -> Namespace | None:
    """Another network on this machine, as bad as is asked; None: the peers make it bad."""
    if not network.bad:
        return None
    try:
        return await stack.enter_async_context(Namespace.made(network))
    except NoNamespace as error:
        print(f"no tc netem here ({error}): the peers worsen the network", file=sys.stderr)
        return None


def _serving(settings: BenchSettings, namespace: Namespace | None) -> Settings:
    places = settings.sessions
    host = namespace.host if namespace else "127.0.0.1"
    return Settings(
        server=ServerSettings(
            host=host, port=0, max_sessions=places, max_sessions_per_address=places, grace_s=1.0
        ),
        session=SessionSettings(hop_s=settings.hop_s, loopback_ice=namespace is None),
        recognizer=RecognizerSettings(device=settings.device),
    )


async def _drive(settings: BenchSettings, server: Server, namespace: Namespace | None) -> Run:
    """Start the peers, let them run, and read the server's counts while they still hold on."""
    run = Run()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        recording = None
        if settings.sender == "recorded":
            recording = await asyncio.to_thread(_record, settings, folder / "camera.ivf")
        prefix = namespace.command if namespace else ()
        module = f"streaming.bench.{'chromium' if settings.sender == 'chromium' else 'peers'}"
        children = [
            await Child.start(stack, module, asdict(task), prefix=prefix)
            for task in _tasks(settings, server.url, recording, namespace)
        ]
        await asyncio.gather(*(child.line() for child in children))
        for child in children:  # the same time for all, however long some had to ask
            child.go_on()
        run.began_s, cpu_s, rss_mb = loop.time(), _cpu_s(), _rss_mb()
        reports = await asyncio.gather(*(child.line() for child in children))
        run.server_cpu_s = _cpu_s() - cpu_s
        run.rss_mb = (rss_mb, _rss_mb())
        counts = server.batcher.counts
        run.due, run.done, run.replaced = counts.due, counts.done, counts.replaced
        run.sessions = [session.numbers() for session in server.sessions]
    run.heard = [PeerLog(**heard) for report in reports for heard in report["heard"]]
    return run


def _record(settings: BenchSettings, path: Path) -> str:
    assert settings.fps is not None and settings.size is not None
    pictures = (
        clip_pictures(settings.clip, settings.size)
        if settings.clip
        else drawn_pictures(settings.size)
    )
    fps = round(settings.fps)
    record(path, pictures, frames=round(_RECORDING_S * fps), fps=fps)
    return str(path)


def _tasks(
    settings: BenchSettings, url: str, recording: str | None, namespace: Namespace | None
) -> Iterator[PeerTask]:
    assert settings.fps is not None and settings.size is not None
    most = _PEERS_A_PROCESS[settings.sender]
    for start in range(0, settings.sessions, most):
        yield PeerTask(
            url=url,
            peers=min(most, settings.sessions - start),
            duration_s=settings.duration_s,
            fps=settings.fps,
            size=settings.size,
            clip=settings.clip,
            recording=recording,
            network=NetworkConditions() if namespace else settings.network,
            seed=_SESSIONS_MOST * settings.network.seed + start,
            loopback=namespace is None,
        )


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _rss_mb() -> float:
    """Memory in use now (Linux); elsewhere the most there ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
