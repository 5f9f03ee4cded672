"""The whole benchmark with peers in processes of their own, the fields of the contract, sweeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streaming.bench.__main__ import SweepGoal, compare_losses, holds, main, sweep_sessions
from streaming.bench.measure import BenchSettings
from streaming.bench.network import NetworkConditions

FIELDS = (
    "capture_to_result_ms stages_ms predictions_per_s frames windows cpu_s_per_session_s rss_mb "
    "sessions model device versions commit"
)


def test_a_short_run_reports_what_the_contract_asks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    flags = ["--duration", "2.5", "--model", "standin:5", "--sessions", "2", "--report", str(file)]
    assert main(flags) == 0
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert json.loads(file.read_text()) == report
    assert report.keys() >= set(FIELDS.split())
    latency = report["capture_to_result_ms"]
    assert 5 <= latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"] < 5000
    assert report["stages_ms"].keys() >= {"total", "decode", "encode", "send", "capture_to_arrival"}
    assert all(stage.keys() == {"p50", "p95"} for stage in report["stages_ms"].values())
    assert report["stages_ms"]["encode"]["p50"] >= 5
    assert report["predictions_per_s"] > 1
    assert report["frames"]["sent"] >= report["frames"]["decoded"] > 20
    windows = report["windows"]
    assert windows["due"] >= windows["done"] > 5
    assert windows["unread"] <= windows["done"] / 10
    assert report["sessions"] == 2 and report["errors"] == []
    assert report["model"] == "standin:5" and report["device"] == "cpu"
    assert report["cpu_s_per_session_s"] > 0 and report["rss_mb"] > 20


def test_lost_packets_are_repaired_or_passed_over(capfd: pytest.CaptureFixture[str]) -> None:
    flags = "--duration 2.5 --model standin:0 --loss 5% --rtt-ms 20 --json --fps 30"
    assert main(flags.split()) == 0
    (line,) = capfd.readouterr().out.splitlines()
    report = json.loads(line)
    assert report["network"]["loss"] == 0.05
    assert report["senders"] == "live"
    assert report["windows"]["done"] > 0
    assert report["packets"]["lost"] >= report["packets"]["repaired"] > 0
    assert report["stages_ms"]["capture_to_arrival"]["p50"] >= 10


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--model", "standin:fast"], "standin:MS"),
        (["--model", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_a_model_that_cannot_be_opened_is_one_clear_line(
    flags: list[str], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and reason in last


@pytest.mark.parametrize(
    "flags",
    [
        ["--sessions", "0"],
        ["--duration", "0"],
        ["--loss", "1"],
        ["--size", "big"],
        ["--size", "31x31"],
        ["--clip", "/nowhere.mp4"],
        ["--speed", "2"],
        ["--loss", "much"],
        ["--jitter-ms", "30", "--rtt-ms", "50"],
        ["--goal-ratio", "0.5"],
        ["--soak", "1"],
        ["--sweep", "--losses"],
        ["--chromium", "--loss", "2%"],
        ["--report", "/nowhere/report.json"],
    ],
)
def test_a_bad_flag_is_refused(flags: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2
    error = capfd.readouterr().err
    assert flags[0] in error or flags[-1] in error


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
    tried = [run["sessions"] for run in report["sweep"]]
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
    assert [run["loss"] for run in report["losses"]] == [0.0, 0.02, 0.05]
    assert {(run.network.rtt_ms, run.network.seed, run.senders) for run in asked} == {
        (50, 3, "live")
    }
