"""`python -m streaming.bench`: the time from a picture to its result, measured from outside.

    python -m streaming.bench --sessions 1 --duration 20
    python -m streaming.bench --model standin:20 --loss 2% --rtt-ms 50
    python -m streaming.bench --sweep --model standin:20 --report sweep.json
    python -m streaming.bench --soak 600

The server runs in this process, as `python -m streaming` runs it. Synthetic peers in processes of
their own send what the page would ask a camera for, with each picture's number in its pixels.
`capture_to_result_ms` counts from those pixels to the message: network, decoding, waiting, the
model, sending. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.bundle import BundleError
from models.command_line import read_command_line, say
from models.files import replacing
from streaming.bench.measure import BenchSettings, measure_latency
from streaming.bench.soak import SoakSettings, run_soak

_MOST_SESSIONS = 64  # of a sweep
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

    def limit_ms(self, report: dict[str, Any]) -> float | None:
        """The limit, given the report of one session."""
        p95: float | None = report["capture_to_result_ms"]["p95"]
        if self.goal_ms is not None or p95 is None:
            return self.goal_ms
        return round(self.goal_ratio * p95, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCommand:
    """What the command line asks for."""

    sessions: int | None = None  # cameras at once (default: 1, for a soak 4)
    model: str | None = None  # builtin, a bundle's folder, or standin:MS (for a soak standin:5)
    sweep: bool = False  # find the most sessions that hold the goal
    losses: bool = False  # compare 0, 2 and 5 % of packets lost, at 50 ms of round trip
    report: Path | None = None  # write the JSON into this file, too
    json: bool = False  # print nothing but the JSON line to stdout
    bench: BenchSettings = field(default_factory=BenchSettings)
    goal: SweepGoal = field(default_factory=SweepGoal)
    soak: SoakSettings = field(default_factory=SoakSettings)

    def __post_init__(self) -> None:
        if self.sweep + self.losses + bool(self.soak.duration_s) > 1:
            raise ValueError("--sweep, --losses and --soak are different kinds of runs: choose one")
        _ = self.settings  # or they are refused
        if self.bench.chromium and find_spec("playwright") is None:
            raise ValueError("--chromium drives a browser with playwright: pip install playwright")
        if self.soak.duration_s and find_spec("scipy") is None:
            raise ValueError("--soak computes its slope with scipy: pip install scipy")
        if self.report is not None and not self.report.parent.is_dir():
            raise ValueError(f"--report: there is no folder {self.report.parent}")

    @property
    def settings(self) -> BenchSettings | SoakSettings:
        """Of a run or a soak, with the sessions and the model that were asked for."""
        given: dict[str, Any] = {"sessions": self.sessions, "model": self.model}
        given = {name: value for name, value in given.items() if value is not None}
        return replace(self.soak if self.soak.duration_s else self.bench, **given)


def holds(report: dict[str, Any], limit_ms: float | None) -> bool:
    """Whether a run kept within the limit and its peers got half of their predictions or more."""
    p95: float | None = report["capture_to_result_ms"]["p95"]
    due_per_s = report["sessions"] / report["hop_s"]
    served = not report["errors"] and report["predictions_per_s"] >= due_per_s / 2
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
            {**_brief(tried[sessions]), "holds": holds(tried[sessions], limit_ms)}
            for sessions in sorted(tried)
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
    names = "sessions capture_to_result_ms predictions_per_s cpu_s_per_session_s windows packets"
    return {
        **{name: report[name] for name in (*names.split(), "longest_silence_ms", "errors")},
        "loss": report["network"]["loss"],
        "stages_ms": {stage: ms["p50"] for stage, ms in report["stages_ms"].items()},
    }


async def _report(command: BenchCommand) -> dict[str, Any]:
    settings = command.settings
    if isinstance(settings, SoakSettings):
        return await run_soak(settings)
    if command.sweep:
        return await sweep_sessions(settings, command.goal)
    return await (compare_losses if command.losses else measure_latency)(settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Status 0; 1 when nothing could be measured or a soak left something; 2 for bad options."""
    command = read_command_line(
        BenchCommand,
        argv,
        prog="python -m streaming.bench",
        description="Measure the time from a picture to its result.",
    )
    print(f"bench: {command.settings}", file=sys.stderr, flush=True)
    report: dict[str, Any] | None = None
    try:
        report = asyncio.run(_report(command))
        if command.report is not None:
            with replacing(command.report) as file:
                file.write(json.dumps(report).encode())
    except* (BundleError, ValueError, OSError) as group:  # a server's errors come in a group
        say(f"error: {_first(group)}", file=sys.stderr)
    if report is None:
        return 1
    sentence, good = _summary(report)
    if not command.json:
        print(sentence)
    print(json.dumps(report), flush=True)
    return 0 if good else 1


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or "the peers did not finish in time"


def _summary(report: dict[str, Any]) -> tuple[str, bool]:
    """A report in one sentence, and whether it is a good one."""
    if "soak_s" in report:
        memory, findings = report["memory_mb_per_h"], report["findings"]
        sentence = (
            f"{report['served']} sessions in {report['soak_s']:g} s: "
            f"{'; '.join(findings) or 'nothing left over'}; memory {memory['slope']:+.0f} MB/h "
            f"({memory['low']:+.0f} to {memory['high']:+.0f})"
        )
        return sentence, not findings
    latency = report["capture_to_result_ms"]
    sentence = (
        f"{report['sessions']} sessions, {report['model']}: picture to result {latency['p50']} ms "
        f"(p95 {latency['p95']}), {report['predictions_per_s']} predictions/s"
    )
    return sentence, latency["p50"] is not None


if __name__ == "__main__":
    sys.exit(main())
