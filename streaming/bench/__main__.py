"""`python -m streaming.bench`: how long from a picture to its result, seen from outside.

    python -m streaming.bench --sessions 1 --duration 20
    python -m streaming.bench --model standin:20 --loss 2% --rtt-ms 50
    python -m streaming.bench --sweep --model standin:20 --report docs/latency.md
    python -m streaming.bench --soak 600

The server runs in this process, as `python -m streaming` would run it; synthetic peers in processes
of their own send what the page would ask a camera for, with each picture's number as a bar code in
its pixels. `capture_to_result_ms` counts from pixels to message: network, decoding, waiting,
recognising, telling. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from models.bundle import BundleError
from streaming.bench.flags import BenchRequest, asked_from
from streaming.bench.page import publish
from streaming.bench.run import measure
from streaming.bench.soak import soak
from streaming.bench.sweep import losses, sweep


async def told(asked: BenchRequest) -> dict[str, Any]:
    """The report of what is asked for."""
    if asked.soak is not None:
        return await soak(asked.soak)
    if asked.kind == "sweep":
        return await sweep(asked.bench, asked.goal)
    return await (losses if asked.kind == "losses" else measure)(asked.bench)


def main(argv: Sequence[str] | None = None) -> int:
    """Status 0; 1 where nothing could be measured or a soak left something behind; 2 for flags."""
    asked = asked_from(argv)
    print(f"bench: {asked.kind}, {asked.soak or asked.bench}", file=sys.stderr, flush=True)
    report: dict[str, Any] | None = None
    try:
        report = asyncio.run(told(asked))
        if asked.report is not None:
            publish(report, asked.report)
    except* (BundleError, ValueError, OSError) as group:  # what fails in a server comes in a group
        print(f"error: {_first(group)}", file=sys.stderr)
    if report is None:
        return 1
    if not asked.only_json:
        print(_sentence(report))
    print(json.dumps(report), flush=True)
    return _status(report)


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or "the peers did not finish in time"


def _status(report: dict[str, Any]) -> int:
    if "soak_s" in report:
        return 1 if report["findings"] else 0
    return 0 if report["capture_to_result_ms"]["p50"] is not None else 1


def _sentence(report: dict[str, Any]) -> str:
    """The gist of a report."""
    if "soak_s" in report:
        memory = report["memory_mb_per_h"]
        found = "; ".join(report["findings"]) or "nothing left over"
        return (
            f"{report['served']} sessions in {report['soak_s']:g} s: {found}; memory "
            f"{memory['mb_per_h']:+.0f} MB/h ({memory['low']:+.0f} to {memory['high']:+.0f})"
        )
    latency = report["capture_to_result_ms"]
    return (
        f"{report['sessions']} sessions, {report['model']}: picture to result {latency['p50']} ms "
        f"(p95 {latency['p95']}), {report['predictions_per_s']} predictions/s"
    )


if __name__ == "__main__":
    sys.exit(main())
