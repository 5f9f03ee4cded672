"""`python -m streaming.bench`: how long from a picture to its result, seen from outside.

    python -m streaming.bench --sessions 1 --duration 20
    python -m streaming.bench --sessions 4 --model standin:20 --loss 0.02
    python -m streaming.bench --sweep --duration 8

The server runs in this process, as `python -m streaming` would run it; synthetic peers in processes
of their own send pictures that carry their number as a bar code in the pixels, and note when each
was made and when its result came back. The recogniser is wrapped to read the bar code of each
window's newest picture, so `capture_to_result_ms` counts from pixels to message: encoding, network,
decoding, waiting, recognising, telling. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.bundle import BundleError
from streaming.bench_peers import Heard, Task
from streaming.bench_report import BenchSettings, Run, holds, sum_up
from streaming.children import Child
from streaming.flags import HelpFormatter
from streaming.server import Server, serve
from streaming.settings import RecognizerSettings, ServerSettings, SessionSettings, Settings
from streaming.watched import Watched, open_model

_PEERS_A_PROCESS = 4
_SWEEP_MOST = 64  # sessions
_SPARE_S = 60.0  # a run that takes longer than its duration by so much is given up


async def measure(settings: BenchSettings) -> dict[str, Any]:
    """Run one benchmark and give its report.

    Raises:
        BundleError, ValueError, OSError: the model can't be had.
        TimeoutError: the peers did not finish in time.
    """
    watched = Watched(open_model(settings.model, settings.device))
    places = settings.sessions
    server_settings = Settings(
        server=ServerSettings(
            port=0, max_sessions=places, max_sessions_per_address=places, grace_s=1.0
        ),
        session=SessionSettings(hop_s=settings.hop_s, loopback_ice=True),
        recognizer=RecognizerSettings(device=settings.device),
    )
    async with serve(server_settings, watched) as server:
        async with asyncio.timeout(settings.duration_s + _SPARE_S):
            run = await _drive(settings, server)
        device = server.devices.device
    return sum_up(settings, run, watched.seen, watched.bundle, device)


async def _drive(settings: BenchSettings, server: Server) -> Run:
    """Start the peers, let them run, and read the server's counts while they still hold on."""
    run = Run()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        children = [
            await Child.start(stack, "streaming.bench_peers", asdict(task))
            for task in _tasks(settings, server.url)
        ]
        await asyncio.gather(*(child.line() for child in children))
        run.began_s, cpu_s, rss_mb = loop.time(), _cpu_s(), _rss_mb()
        reports = await asyncio.gather(*(child.line() for child in children))
        run.server_cpu_s = _cpu_s() - cpu_s
        run.rss_mb = (rss_mb, _rss_mb())
        counts = server.batcher.counts
        run.due, run.done, run.replaced = counts.due, counts.done, counts.replaced
        for session in server.sessions:
            numbers = session.numbers()
            run.decoded += numbers["frames_decoded"]
            run.dropped += numbers["frames_dropped"]
    run.heard = [Heard(**heard) for report in reports for heard in report["heard"]]
    return run


def _tasks(settings: BenchSettings, url: str) -> list[Task]:
    starts = range(0, settings.sessions, _PEERS_A_PROCESS)
    return [
        Task(
            url=url,
            peers=min(_PEERS_A_PROCESS, settings.sessions - start),
            duration_s=settings.duration_s,
            fps=settings.fps,
            size=settings.size,
            clip=settings.clip,
            loss=settings.loss,
            seed=start,
        )
        for start in starts
    ]


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


async def sweep(settings: BenchSettings) -> dict[str, Any]:
    """The report of the most sessions that hold the goal: doubled, then halved in between.

    The peers encode their pictures on this machine too: a lower bound of what the server holds.
    """
    tried: list[dict[str, Any]] = []
    best: dict[str, Any] | None = None
    good, bad, sessions = 0, _SWEEP_MOST + 1, 1
    while good + 1 < bad:
        report = await measure(
            BenchSettings(**{**asdict(settings), "sessions": sessions, "sweep": False})
        )
        p95 = report["capture_to_result_ms"]["p95"]
        tried.append({"sessions": sessions, "p95": p95, "holds": holds(report, settings.goal_ms)})
        print(f"{sessions} sessions: p95 {p95} ms", file=sys.stderr, flush=True)
        if tried[-1]["holds"]:
            good, best = sessions, report
        else:
            bad, best = sessions, best or report
        sessions = min(2 * good, _SWEEP_MOST) if bad > _SWEEP_MOST else (good + bad) // 2
    assert best is not None
    return {**best, "sweep": tried, "most_sessions": good, "goal_ms": settings.goal_ms}


def settings_from(argv: Sequence[str] | None) -> tuple[BenchSettings, bool]:
    """What the flags ask for, and whether only JSON is wanted. A bad flag exits with status 2."""
    default = BenchSettings()
    flags = argparse.ArgumentParser(
        prog="python -m streaming.bench",
        description="Measure the time from a picture to its result.",
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    add = flags.add_argument
    add("--sessions", type=int, default=default.sessions, metavar="N", help="cameras at once")
    add("--duration", type=float, default=default.duration_s, metavar="S", help="of each run")
    add("--clip", metavar="FILE", help="send this video instead of a drawn picture")
    add("--model", default=default.model, help="builtin, a bundle's folder, or standin:MS")
    add("--device", default=default.device, help="auto, cpu, cuda or cuda:N")
    add("--hop-s", type=float, metavar="S", help="time between windows (the bundle's own)")
    add("--fps", type=float, default=default.fps, help="of the cameras")
    add(
        "--size", type=picture_size, default=default.size, metavar="WxH", help="of the pictures, px"
    )
    add("--loss", type=float, default=default.loss, metavar="P", help="share of packets lost")
    add("--sweep", action="store_true", help="find the most sessions that hold the goal")
    add("--goal-ms", type=float, default=default.goal_ms, help="of the sweep: p95")
    add("--json", action="store_true", help="print nothing but the JSON line to stdout")
    given = vars(flags.parse_args(argv))
    only_json = given.pop("json")
    given["duration_s"] = given.pop("duration")
    try:
        return BenchSettings(**given), only_json
    except ValueError as error:
        flags.error(str(error))


def picture_size(text: str) -> tuple[int, int]:
    """A flag's WxH."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"write a size as 640x480, not '{text}'")
    return int(width), int(height)


def main(argv: Sequence[str] | None = None) -> int:
    settings, only_json = settings_from(argv)
    print(f"bench: {settings}", file=sys.stderr, flush=True)
    try:
        report = asyncio.run(sweep(settings) if settings.sweep else measure(settings))
    except (BundleError, ValueError, OSError) as error:
        print(f"error: {error or 'the peers did not finish in time'}", file=sys.stderr)
        return 1
    if not only_json:
        latency = report["capture_to_result_ms"]
        print(
            f"{report['sessions']} sessions, {report['model']}: picture to result "
            f"{latency['p50']} ms (p95 {latency['p95']}), "
            f"{report['predictions_per_s']} predictions/s"
        )
    print(json.dumps(report), flush=True)
    return 0 if report["capture_to_result_ms"]["p50"] is not None else 1


if __name__ == "__main__":
    sys.exit(main())
