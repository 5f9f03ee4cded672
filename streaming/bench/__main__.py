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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.bundle import BundleError
from models.command_line import read_command_line
from models.files import replacing
from streaming.bench.measure import BenchSettings, measure_latency
from streaming.bench.soak import SoakSettings, run_soak
from streaming.bench.sweep import SweepGoal, compare_losses, sweep_sessions


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
        print(f"error: {_first(group)}", file=sys.stderr)
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
