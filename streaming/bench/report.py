"""What a run has measured, summed up as JSON.

Run -> [report] -> the fields that the project's contract names, and some more
"""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from streaming.bench.peers import PeerLog
from streaming.bench.standin import NewestPictures

_WARM_S = 1.0  # left out at the start of a run: encoders find their bit rate
_OLD_MS = 1000.0
_MODEL = ("encode", "classify")  # the stages of the model itself
_PACKAGES = ("aiortc", "aioice", "av", "aiohttp", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run has measured, before it is summed up. Times are monotonic."""

    began_s: float
    duration_s: float
    cpu_s: float  # of the server's process
    rss_mb: float  # at the end
    windows: dict[str, int]  # due, done, replaced
    sessions: list[dict[str, int]]  # see Session.numbers
    logs: list[PeerLog]
    newest: NewestPictures

    def total(self, name: str) -> int:
        """The sum over all sessions of what `Session.numbers` calls `name`."""
        return sum(session[name] for session in self.sessions)


def sum_up(run: Run) -> dict[str, Any]:
    """The measured fields of a report; ages count from the pixels to the message."""
    from_s = run.began_s + _WARM_S
    stages, unread = _stages_ms(run, from_s)
    ages_ms, without_model_ms = stages.pop("capture_to_result"), stages.pop("without_model")
    received_s = [received_s for log in run.logs for _, received_s, _ in log.predictions]
    return {
        "capture_to_result_ms": {**_percentiles(ages_ms, 50, 95, 99), "max": _largest(ages_ms)},
        "without_model_ms": _percentiles(without_model_ms, 50, 95),
        "stages_ms": {stage: _percentiles(ms, 50, 95) for stage, ms in stages.items()},
        "predictions_per_s": round(sum(s >= run.began_s for s in received_s) / run.duration_s, 2),
        "frames": {
            "sent": sum(len(log.made_s) for log in run.logs),
            "decoded": run.total("frames_decoded"),
            "dropped": run.total("frames_dropped"),
        },
        "windows": {
            **run.windows,
            "lost": max(0, run.windows["done"] - len(received_s)),
            "unread": unread,
            "old": sum(ms > _OLD_MS for ms in ages_ms),
        },
        "packets": {
            "lost": run.total("gaps") + run.total("gaps_repaired"),
            "repaired": run.total("gaps_repaired"),
            "key_frames_asked": run.total("key_frames_asked"),
        },
        "longest_silence_ms": _longest_silence_ms(run.logs, from_s),
        "cpu_s_per_session_s": round(run.cpu_s / run.duration_s / len(run.logs), 4),
        "rss_mb": round(run.rss_mb, 1),
        "sessions": len(run.logs),
        "duration_s": run.duration_s,
        "errors": sorted({log.error for log in run.logs if log.error}),
    }


def _stages_ms(run: Run, from_s: float) -> tuple[dict[str, list[float]], int]:
    """For each stage what it took for each result; and the results whose number was unreadable.

    Results of pictures that were made before `from_s` are left out.
    """
    stages: dict[str, list[float]] = {"capture_to_result": [], "without_model": []}
    unread = 0
    for log in run.logs:
        for rtp, received_s, latency_ms in log.predictions:
            number, arrival_s = run.newest.get((log.session, rtp), (None, 0.0))
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


def _largest(values: Sequence[float]) -> float | None:
    return round(max(values), 1) if values else None


def _longest_silence_ms(logs: Sequence[PeerLog], from_s: float) -> float | None:
    """The longest time between two predictions of one peer."""
    return _largest(
        [
            1000 * (later_s - received_s)
            for log in logs
            for (_, received_s, _), (_, later_s, _) in itertools.pairwise(log.predictions)
            if received_s >= from_s
        ]
    )


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
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
