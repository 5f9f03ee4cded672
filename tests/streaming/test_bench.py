"""The benchmark runs whole, with peers in their own process, and says what the contract asks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streaming import bench
from streaming.bench import settings_from
from streaming.bench_report import BenchSettings, holds

FIELDS = {
    "capture_to_result_ms",
    "stages_ms",
    "predictions_per_s",
    "frames",
    "windows",
    "cpu_s_per_session_s",
    "rss_mb",
    "sessions",
    "model",
    "device",
    "versions",
    "commit",
}


def test_a_short_run_reports_what_the_contract_asks(capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--duration", "2.5", "--model", "standin:5", "--size", "320x240", "--sessions", "2"]
    assert bench.main(flags) == 0
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert report.keys() >= FIELDS
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


def test_lost_packets_are_survived(capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--duration", "2", "--model", "standin:0", "--loss", "0.05", "--json"]
    assert bench.main([*flags, "--size", "320x240"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    report = json.loads(line)
    assert report["loss"] == 0.05
    assert report["windows"]["done"] > 0


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--model", "standin:fast"], "standin:MS"),
        (["--model", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_clear_line(
    flags: list[str], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(flags) == 1
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
    ],
)
def test_a_bad_flag_is_refused(flags: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings_from(flags)
    assert ended.value.code == 2
    assert "error: " in capfd.readouterr().err


def _report(sessions: int, p95: float | None, per_s: float, errors: list[str]) -> dict[str, Any]:
    return {
        "sessions": sessions,
        "hop_s": 0.1,
        "capture_to_result_ms": {"p95": p95},
        "predictions_per_s": per_s,
        "errors": errors,
    }


def test_a_run_holds_the_goal_only_with_every_peer_served() -> None:
    assert holds(_report(2, 200.0, 20.0, []), 300)
    assert not holds(_report(2, 301.0, 20.0, []), 300)
    assert not holds(_report(2, None, 0.0, []), 300)
    assert not holds(_report(2, 200.0, 9.0, []), 300)
    assert not holds(_report(2, 200.0, 20.0, ["HTTP 503"]), 300)


@pytest.mark.parametrize("capacity", [0, 1, 5, 64])
async def test_the_sweep_finds_the_most_sessions(
    capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def measure(settings: BenchSettings) -> dict[str, Any]:
        fits = settings.sessions <= capacity
        return _report(settings.sessions, 100.0 if fits else 900.0, 10.0 * settings.sessions, [])

    monkeypatch.setattr(bench, "measure", measure)
    report = await bench.sweep(BenchSettings(sweep=True))
    assert report["most_sessions"] == capacity
    assert report["sessions"] == max(1, capacity)
    assert len(report["sweep"]) <= 10
