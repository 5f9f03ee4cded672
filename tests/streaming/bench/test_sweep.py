"""The sweep finds the most sessions that hold its goal; losses are compared at one round trip."""

from __future__ import annotations

from typing import Any

import pytest

from streaming.bench.measure import BenchSettings
from streaming.bench.network import NetworkConditions
from streaming.bench.sweep import SweepGoal, compare_losses, holds, sweep_sessions


def _report(settings: BenchSettings, p95: float | None, per_s: float) -> dict[str, Any]:
    return {
        "sessions": settings.sessions,
        "hop_s": 0.1,
        "capture_to_result_ms": {"p50": p95, "p95": p95, "p99": p95},
        "predictions_per_s": per_s,
        "cpu_s_per_session_s": 0.02,
        "windows": {},
        "packets": {},
        "longest_silence_ms": 100.0,
        "stages_ms": {"encode": {"p50": 20.0, "p95": 20.0}},
        "network": {"loss": settings.network.loss, "rtt_ms": settings.network.rtt_ms},
        "errors": [],
    }


def test_a_run_holds_the_goal_only_with_every_peer_served() -> None:
    two = BenchSettings(sessions=2)
    assert holds(_report(two, 200.0, 20.0), 300)
    assert not holds(_report(two, 301.0, 20.0), 300)
    assert not holds(_report(two, None, 0.0), 300)
    assert not holds(_report(two, 200.0, 9.0), 300)
    assert not holds({**_report(two, 200.0, 20.0), "errors": ["HTTP 503"]}, 300)


@pytest.mark.parametrize("capacity", [0, 1, 5, 64])
async def test_the_sweep_finds_the_most_sessions(capacity: int) -> None:
    async def measure(settings: BenchSettings) -> dict[str, Any]:
        fits = settings.sessions <= capacity
        return _report(settings, 100.0 if fits else 900.0, 10.0 * settings.sessions)

    report = await sweep_sessions(BenchSettings(), SweepGoal(goal_ms=300), measure)
    assert report["most_sessions"] == capacity
    assert report["sessions"] == max(1, capacity)
    tried = [one["sessions"] for one in report["sweep"]]
    assert tried == sorted(tried) and len(tried) <= 10


async def test_the_default_goal_is_twice_the_latency_of_one_session() -> None:
    async def measure(settings: BenchSettings) -> dict[str, Any]:
        return _report(settings, 40.0 + 5 * (settings.sessions - 1), 10.0 * settings.sessions)

    report = await sweep_sessions(BenchSettings(sessions=7), SweepGoal(), measure)
    assert report["goal_ms"] == 80 and report["most_sessions"] == 9


async def test_losses_are_compared_at_one_round_trip_with_live_encoders() -> None:
    asked = []

    async def measure(settings: BenchSettings) -> dict[str, Any]:
        asked.append(settings)
        return _report(settings, 100.0, 10.0)

    report = await compare_losses(BenchSettings(network=NetworkConditions(seed=3)), measure)
    assert [one["loss"] for one in report["losses"]] == [0.0, 0.02, 0.05]
    assert {(one.network.rtt_ms, one.network.seed, one.senders) for one in asked} == {
        (50, 3, "live")
    }
