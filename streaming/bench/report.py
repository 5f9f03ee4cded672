"""What came out of a run, and its sum, field by field as JSON."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle
from streaming.bench.peers import PeerLog
from streaming.bench.settings import BenchSettings

_WARM_S = 1.0  # of each run, left out: encoders find their bit rate
_OLD_MS = 1000.0
_MODEL = ("encode", "classify")  # stages

ReceivedPrediction = Mapping[tuple[str, int], tuple[int | None, float]]
# (stream, RTP timestamp of a window's newest frame) -> its number, when its last packet was read


@dataclass(slots=True)
class Run:
    """What came out of one run, before it is summed up."""

    server_cpu_s: float = 0.0
    rss_mb: tuple[float, float] = (0.0, 0.0)  # at its start and end
    began_s: float = 0.0  # monotonic
    heard: list[PeerLog] = field(default_factory=list)
    sessions: list[dict[str, int]] = field(default_factory=list)  # see Session.numbers
    network_by: str = "none"  # who made it bad: netem, or the peers
    due: int = 0
    done: int = 0
    replaced: int = 0

    def total(self, name: str) -> int:
        """Of all sessions, what `Session.numbers` calls `name`."""
        return sum(session[name] for session in self.sessions)


def sum_up(
    settings: BenchSettings, run: Run, seen: ReceivedPrediction, bundle: Bundle, device: str
) -> dict[str, Any]:
    """The report of one run, with the fields that the project's contract names."""
    from_s, latencies, besides, times = run.began_s + _WARM_S, [], [], []
    stages: dict[str, list[float]] = {"capture_to_arrival": []}
    received = recent = unread = old = 0
    for heard in run.heard:
        for rtp, came_s, latency_ms in heard.results:
            received += 1
            recent += came_s >= run.began_s
            number, arrival_s = seen.get((heard.session, rtp), (None, 0.0))
            made_s = None if number is None else heard.made(number, came_s)
            if made_s is None:
                unread += 1
                continue
            if made_s < from_s:
                continue
            age_ms = 1000 * (came_s - made_s)
            network_ms = 1000 * (arrival_s - made_s)
            latencies.append(age_ms)
            besides.append(age_ms - sum(latency_ms.get(stage, 0.0) for stage in _MODEL))
            times.append(made_s)
            old += age_ms > _OLD_MS
            told = {"capture_to_arrival": network_ms, **latency_ms}
            told["way_back"] = max(0.0, age_ms - network_ms - latency_ms["total"])
            for stage, ms in told.items():
                stages.setdefault(stage, []).append(ms)
    return {
        "capture_to_result_ms": _percentiles(latencies, (50, 95, 99)) | {"max": _most(latencies)},
        "without_model_ms": _percentiles(besides, (50, 95)),
        "growth_ms_per_s": _slope(times, latencies),
        "stages_ms": {stage: _percentiles(ms, (50, 95)) for stage, ms in stages.items()},
        "predictions_per_s": round(recent / settings.duration_s, 2),
        "frames": {
            "sent": sum(len(heard.made_s) for heard in run.heard),
            "decoded": run.total("frames_decoded"),
            "dropped": run.total("frames_dropped"),
        },
        "windows": {
            "due": run.due,
            "done": run.done,
            "replaced": run.replaced,
            "lost": max(0, run.done - received),
            "unread": unread,  # told, but the bar code could not be read
            "old": old,  # told more than a second after its newest picture was made
        },
        "packets": {
            "lost": run.total("gaps") + run.total("gaps_repaired"),
            "repaired": run.total("gaps_repaired"),
            "key_frames_asked": run.total("key_frames_asked"),
        },
        "longest_silence_ms": _silence([heard.results for heard in run.heard], from_s),
        "cpu_s_per_session_s": round(run.server_cpu_s / settings.duration_s / settings.sessions, 4),
        "rss_mb": round(run.rss_mb[1], 1),
        "rss_growth_mb": round(run.rss_mb[1] - run.rss_mb[0], 1),
        "sessions": settings.sessions,
        "duration_s": settings.duration_s,
        "hop_s": settings.hop_s or bundle.hop_s,
        "senders": settings.sender,
        "network": asdict(settings.network) | {"by": run.network_by},
        "fps": settings.fps,
        "size": settings.size and list(settings.size),
        "model": bundle.name,
        "device": device,
        "errors": sorted({heard.error for heard in run.heard if heard.error}),
        **about(),
    }


def about() -> dict[str, Any]:
    """What a figure was measured with."""
    packages = ("aiortc", "aioice", "av", "aiohttp", "numpy")
    return {
        "versions": {name: version(name) for name in packages}
        | {"python": platform.python_version()},
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores, {_processor()}",
    }


def _processor() -> str:
    """What the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _percentiles(values: Sequence[float], wanted: Sequence[int]) -> dict[str, float | None]:
    if not values:
        return {f"p{percent}": None for percent in wanted}
    return {f"p{percent}": round(float(np.percentile(values, percent)), 1) for percent in wanted}


def _most(values: Sequence[float]) -> float | None:
    return round(max(values), 1) if values else None


def _silence(told: Iterable[list[tuple[int, float, Any]]], from_s: float) -> float | None:
    """The longest, ms, that a peer heard no result between two."""
    gaps = [
        1000 * (later - came_s)
        for results in told
        for (_, came_s, _), (_, later, _) in itertools.pairwise(results)
        if came_s >= from_s
    ]
    return _most(gaps)


def _slope(times_s: Sequence[float], values: Sequence[float]) -> float | None:
    """How fast `values` grow a second, by least squares."""
    if len(values) < 10:
        return None
    return round(float(np.polyfit(np.subtract(times_s, times_s[0]), values, 1)[0]), 2)


def served(report: dict[str, Any]) -> bool:
    """Whether every peer of a run was answered at half its rate or more."""
    rate = report["sessions"] / report["hop_s"]
    return not report["errors"] and report["predictions_per_s"] >= rate / 2


def commit() -> str | None:
    """The commit of this checkout; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
