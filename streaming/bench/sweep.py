"""Several runs in one: more and more sessions, or worse and worse networks."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from streaming.bench.measure import BenchSettings, measure_latency

_MOST_SESSIONS = 64
_LOSSES = (0.0, 0.02, 0.05)
_RTT_MS = 50.0

Measure = Callable[[BenchSettings], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepGoal:
    """The highest 95th percentile of a sweep."""

    goal_ms: float | None = None  # highest p95 (default: by --goal-ratio)
    goal_ratio: float = 2.0  # highest p95 as a multiple of one session's

    def __post_init__(self) -> None:
        if not self.goal_ratio >= 1 or (self.goal_ms is not None and not self.goal_ms > 0):
            raise ValueError("--goal-ratio must be at least 1, --goal-ms positive")

    def limit_ms(self, one: dict[str, Any]) -> float | None:
        """The limit, given the report of one session."""
        p95: float | None = one["capture_to_result_ms"]["p95"]
        if self.goal_ms is not None or p95 is None:
            return self.goal_ms
        return round(self.goal_ratio * p95, 1)


def holds(report: dict[str, Any], limit_ms: float | None) -> bool:
    """Whether a run kept within the limit and its peers got half of their predictions or more."""
    p95: float | None = report["capture_to_result_ms"]["p95"]
    rate = report["sessions"] / report["hop_s"]
    served = not report["errors"] and report["predictions_per_s"] >= rate / 2
    return served and p95 is not None and limit_ms is not None and p95 <= limit_ms


async def sweep_sessions(
    settings: BenchSettings, goal: SweepGoal, measure: Measure = measure_latency
) -> dict[str, Any]:
    """The report of the most sessions that hold the goal: doubled, then bisected.

    The peers share this machine with the server, so this is a lower bound of what it holds.
    """
    first = await _logged(measure, replace(settings, sessions=1))
    limit_ms = goal.limit_ms(first)
    tried = {1: first}
    good, bad = (1, _MOST_SESSIONS + 1) if holds(first, limit_ms) else (0, 1)
    while good + 1 < bad:
        doubled = min(2 * good, _MOST_SESSIONS)
        sessions = doubled if bad > _MOST_SESSIONS else (good + bad) // 2
        tried[sessions] = await _logged(measure, replace(settings, sessions=sessions))
        if holds(tried[sessions], limit_ms):
            good = sessions
        else:
            bad = sessions
    return {
        **tried[max(1, good)],
        "most_sessions": good,
        "goal_ms": limit_ms,
        "sweep": [
            {**_brief(report), "holds": holds(report, limit_ms)}
            for _, report in sorted(tried.items())
        ],
    }


async def compare_losses(
    settings: BenchSettings, measure: Measure = measure_latency
) -> dict[str, Any]:
    """The same run without packet loss and with two shares of it, at the same round trip."""
    rtt_ms = settings.network.rtt_ms or _RTT_MS
    reports = []
    for loss in _LOSSES:
        network = replace(settings.network, loss=loss, rtt_ms=rtt_ms)
        reports.append(await _logged(measure, replace(settings, network=network, live=True)))
    return {**reports[0], "losses": [_brief(report) for report in reports]}


async def _logged(measure: Measure, settings: BenchSettings) -> dict[str, Any]:
    report = await measure(settings)
    p95 = report["capture_to_result_ms"]["p95"]
    loss = f", {settings.network.loss:.0%} lost" if settings.network.loss else ""
    print(f"{settings.sessions} sessions{loss}: p95 {p95} ms", file=sys.stderr, flush=True)
    return report


def _brief(report: dict[str, Any]) -> dict[str, Any]:
    """What a table shows of one of several runs."""
    names = ("sessions", "capture_to_result_ms", "predictions_per_s", "cpu_s_per_session_s")
    more = ("windows", "packets", "longest_silence_ms", "errors")
    return {
        **{name: report[name] for name in (*names, *more)},
        "loss": report["network"]["loss"],
        "stages_ms": {stage: ms["p50"] for stage, ms in report["stages_ms"].items()},
    }
