"""Several runs in one: more and more sessions, and worse and worse networks."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from streaming.bench.report import served
from streaming.bench.run import measure
from streaming.bench.settings import BenchSettings, NetworkConditions

_MOST = 64  # sessions
_LOSSES = (0.0, 0.02, 0.05)
_RTT_MS = 50.0

Measure = Callable[[BenchSettings], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """How old results may be at the 95th percentile: in itself, or beside one session's."""

    ms: float | None = None
    ratio: float = 2.0  # of one session's, where `ms` is not given

    def __post_init__(self) -> None:
        if not self.ratio >= 1 or (self.ms is not None and not self.ms > 0):
            raise ValueError("--goal-ratio must be at least 1, --goal-ms positive")

    def limit_ms(self, one: dict[str, Any]) -> float | None:
        """The limit, given the report of one session."""
        p95: float | None = one["capture_to_result_ms"]["p95"]
        if self.ms is not None or p95 is None:
            return self.ms
        return round(self.ratio * p95, 1)


def holds(report: dict[str, Any], limit_ms: float | None) -> bool:
    """Whether a run kept within the limit, with every peer served at half its rate or more."""
    p95: float | None = report["capture_to_result_ms"]["p95"]
    return p95 is not None and limit_ms is not None and p95 <= limit_ms and served(report)


async def sweep(settings: BenchSettings, goal: Goal, measure: Measure = measure) -> dict[str, Any]:
    """The report of the most sessions that hold the goal: doubled, then halved in between.

    The peers share this machine with the server: a lower bound of what it holds.
    """
    one = await _run(measure, replace(settings, sessions=1))
    limit_ms = goal.limit_ms(one)
    tried = {1: one}
    good, bad = (1, _MOST + 1) if holds(one, limit_ms) else (0, 1)
    while good + 1 < bad:
        sessions = min(2 * good, _MOST) if bad > _MOST else (good + bad) // 2
        tried[sessions] = report = await _run(measure, replace(settings, sessions=sessions))
        if holds(report, limit_ms):
            good = sessions
        else:
            bad = sessions
    return {
        **tried[max(1, good)],
        "most_sessions": good,
        "goal_ms": limit_ms,
        "sweep": [
            {**_gist(report), "holds": holds(report, limit_ms)}
            for _, report in sorted(tried.items())
        ],
    }


async def losses(settings: BenchSettings, measure: Measure = measure) -> dict[str, Any]:
    """The same run without loss and with two shares of it, at the same round trip."""
    told = []
    for loss in _LOSSES:
        network = NetworkConditions(
            loss=loss,
            rtt_ms=settings.network.rtt_ms or _RTT_MS,
            jitter_ms=settings.network.jitter_ms,
            rate_kbit=settings.network.rate_kbit,
            seed=settings.network.seed,
        )
        told.append(await _run(measure, replace(settings, network=network, senders="live")))
    return {**told[0], "losses": [_gist(report) for report in told]}


async def _run(measure: Measure, settings: BenchSettings) -> dict[str, Any]:
    report = await measure(settings)
    p95 = report["capture_to_result_ms"]["p95"]
    loss = f", {settings.network.loss:.0%} lost" if settings.network.loss else ""
    print(f"{settings.sessions} sessions{loss}: p95 {p95} ms", file=sys.stderr, flush=True)
    return report


def _gist(report: dict[str, Any]) -> dict[str, Any]:
    """What a table or a plot shows of a run."""
    names = ("sessions", "capture_to_result_ms", "predictions_per_s", "cpu_s_per_session_s")
    more = ("windows", "packets", "longest_silence_ms", "errors")
    return {
        **{name: report[name] for name in (*names, *more)},
        "loss": report["network"]["loss"],
        "stages_ms": {stage: told["p50"] for stage, told in report["stages_ms"].items()},
    }
