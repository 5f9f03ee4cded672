"""A benchmark as data: what was asked for, what came out, and its sum, field by field as JSON."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle
from streaming.bench_peers import Heard

_WARM_S = 1.0  # of each run, left out: encoders find their bit rate

Seen = Mapping[tuple[str, int], tuple[int | None, float]]
# (stream, RTP timestamp of a window's newest frame) -> its number, when its last packet was read


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """One benchmark."""

    sessions: int = 1
    duration_s: float = 20.0
    clip: str | None = None  # a video file to send; None: a drawn picture
    model: str = "builtin"  # a bundle, or standin:MS: a recogniser that takes so long a batch
    device: str = "auto"
    hop_s: float | None = None
    fps: float = 30.0
    size: tuple[int, int] = (640, 480)  # px, (width, height)
    loss: float = 0.0  # share of the media packets that are lost
    sweep: bool = False
    goal_ms: float = 300.0  # of the sweep: capture-to-result, 95th percentile

    def __post_init__(self) -> None:
        if not 1 <= self.sessions <= 256 or not 1 <= self.duration_s <= 3600:
            raise ValueError("--sessions must lie between 1 and 256, --duration between 1 and 3600")
        if not 0 <= self.loss < 1:
            raise ValueError("--loss must lie between 0 and 1")
        if not 1 <= self.fps <= 120 or min(self.size) < 64 or any(n % 2 for n in self.size):
            raise ValueError("--fps must lie between 1 and 120, --size be even and at least 64x64")
        if self.clip is not None and not Path(self.clip).is_file():
            raise ValueError(f"there is no file {self.clip}")


@dataclass(slots=True)
class Run:
    """What came out of one run, before it is summed up."""

    server_cpu_s: float = 0.0
    rss_mb: tuple[float, float] = (0.0, 0.0)  # at its start and end
    began_s: float = 0.0  # monotonic
    heard: list[Heard] = field(default_factory=list)
    decoded: int = 0
    dropped: int = 0
    due: int = 0
    done: int = 0
    replaced: int = 0


def sum_up(
    settings: BenchSettings, run: Run, seen: Seen, bundle: Bundle, device: str
) -> dict[str, Any]:
    """The report of one run, with the fields that the project's contract names."""
    from_s, latencies, network, times = run.began_s + _WARM_S, [], [], []
    stages: dict[str, list[float]] = {}
    received = recent = unread = 0
    for heard in run.heard:
        for rtp, came_s, latency_ms in heard.results:
            received += 1
            recent += came_s >= run.began_s
            number, arrival_s = seen.get((heard.session, rtp), (None, 0.0))
            if number is None or number >= len(heard.made_s):
                unread += 1
                continue
            made_s = heard.made_s[number]
            if made_s < from_s:
                continue
            latencies.append(1000 * (came_s - made_s))
            network.append(1000 * (arrival_s - made_s))
            times.append(made_s)
            for stage, ms in latency_ms.items():
                stages.setdefault(stage, []).append(ms)
    stages["capture_to_arrival"] = network
    return {
        "capture_to_result_ms": _percentiles(latencies, (50, 95, 99)) | {"max": _most(latencies)},
        "growth_ms_per_s": _slope(times, latencies),
        "stages_ms": {stage: _percentiles(ms, (50, 95)) for stage, ms in stages.items()},
        "predictions_per_s": round(recent / settings.duration_s, 2),
        "frames": {
            "sent": sum(len(heard.made_s) for heard in run.heard),
            "decoded": run.decoded,
            "dropped": run.dropped,
        },
        "windows": {
            "due": run.due,
            "done": run.done,
            "replaced": run.replaced,
            "lost": max(0, run.done - received),
            "unread": unread,  # told, but the bar code could not be read
        },
        "cpu_s_per_session_s": round(run.server_cpu_s / settings.duration_s / settings.sessions, 4),
        "rss_mb": round(run.rss_mb[1], 1),
        "rss_growth_mb": round(run.rss_mb[1] - run.rss_mb[0], 1),
        "sessions": settings.sessions,
        "duration_s": settings.duration_s,
        "hop_s": settings.hop_s or bundle.hop_s,
        "loss": settings.loss,
        "fps": settings.fps,
        "size": list(settings.size),
        "model": bundle.name,
        "device": device,
        "errors": sorted({heard.error for heard in run.heard if heard.error}),
        "versions": {name: version(name) for name in ("aiortc", "aioice", "av", "aiohttp", "numpy")}
        | {"python": platform.python_version()},
        "commit": commit(),
    }


def _percentiles(values: Sequence[float], wanted: Sequence[int]) -> dict[str, float | None]:
    if not values:
        return {f"p{percent}": None for percent in wanted}
    return {f"p{percent}": round(float(np.percentile(values, percent)), 1) for percent in wanted}


def _most(values: Sequence[float]) -> float | None:
    return round(max(values), 1) if values else None


def _slope(times_s: Sequence[float], values: Sequence[float]) -> float | None:
    """How fast `values` grow a second, by least squares."""
    if len(values) < 10:
        return None
    return round(float(np.polyfit(np.subtract(times_s, times_s[0]), values, 1)[0]), 2)


def holds(report: dict[str, Any], goal_ms: float) -> bool:
    """Whether a run kept the latency goal, with every peer served at half its rate or more."""
    p95 = report["capture_to_result_ms"]["p95"]
    rate = report["sessions"] / report["hop_s"]
    served = not report["errors"] and report["predictions_per_s"] >= rate / 2
    return p95 is not None and p95 <= goal_ms and served


def commit() -> str | None:
    """The commit of this checkout; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
