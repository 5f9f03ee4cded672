"""A report into a page that people read: tables between two marks, plots beside the page.

The page keeps its places with lines such as `<!-- sweep -->` and `<!-- end of sweep -->`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def publish(report: dict[str, Any], page: Path) -> None:
    """Put a report's table into the page at `page`, and its plots beside it.

    Raises:
        ValueError: the page keeps no place for this kind of report.
        OSError: it can't be read or written.
    """
    from streaming.bench import plots  # matplotlib takes a second, and is not always there

    if "sweep" in report:
        put(page, "sweep", _sweep(report))
        plots.draw_sweep(report["sweep"], report["goal_ms"], page.with_name("latency-sweep.png"))
    elif "losses" in report:
        put(page, "losses", _losses(report))
    elif "soak_s" in report:
        put(page, "soak", _soak(report))
        plots.draw_soak(report["samples"], page.with_name("latency-soak.png"))
    else:
        put(page, report["senders"], _run_of(report))


def put(path: Path, name: str, lines: Sequence[str]) -> None:
    """Write lines into the page at `path`, in place of those between the marks called `name`.

    Raises:
        ValueError, OSError: as `around`; or it can't be written.
    """
    before, after = around(path, name)
    path.write_text(before + "\n".join(["", *lines, "", ""]) + after, encoding="utf-8")


def around(path: Path, name: str) -> tuple[str, str]:
    """The page at `path` up to the first of the marks called `name`, and from the second one on.

    Raises:
        ValueError: the page has no such marks.
        OSError: it can't be read.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{path} has no lines '{begin}' and '{end}' to put the table between")
    return before + begin, end + after


def _measured(report: dict[str, Any]) -> str:
    """The line over a table: with what, on what."""
    width, height = report["size"]
    return (
        f"Model `{report['model']}`, {width}x{height} at {report['fps']:g} a second, "
        f"{report['duration_s']:g} s a run, {_machine(report)}."
    )


def _machine(report: dict[str, Any]) -> str:
    return (
        f"{report['machine']}, Python {report['versions']['python']}, "
        f"aiortc {report['versions']['aiortc']}, commit {report['commit']}"
    )


def _sweep(report: dict[str, Any]) -> list[str]:
    rows = [
        f"| {one['sessions']} | {_ms(one)} | {one['predictions_per_s']:.0f} "
        f"| {1000 * one['cpu_s_per_session_s']:.0f} | {one['windows']['replaced']} "
        f"| {'yes' if one['holds'] else 'no'} |"
        for one in report["sweep"]
    ]
    return [
        f"{_measured(report)} The goal is a p95 of {report['goal_ms']:g} ms: "
        f"**{report['most_sessions']} sessions** hold it.",
        "",
        "| sessions | p50, ms | p95, ms | p99, ms | answers/s | CPU ms a session and second "
        "| windows replaced | holds |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *rows,
        "",
        "![Latency and its stages against sessions](latency-sweep.png)",
    ]


def _losses(report: dict[str, Any]) -> list[str]:
    network, rows = report["network"], []
    for one in report["losses"]:
        beside = one["capture_to_result_ms"]["p95"] / report["capture_to_result_ms"]["p95"]
        rows.append(
            f"| {one['loss']:.0%} | {_ms(one)} | {beside:.2f} | {one['packets']['repaired']} of "
            f"{one['packets']['lost']} | {one['packets']['key_frames_asked']} "
            f"| {one['windows']['lost']} | {one['windows']['old']} "
            f"| {one['longest_silence_ms']:.0f} |"
        )
    return [
        f"{_measured(report)} Round trip {network['rtt_ms']:g} ms, made by {network['by']}.",
        "",
        "| packets lost | p50, ms | p95, ms | p99, ms | p95 beside none lost | repaired "
        "| key frames asked for | results lost | older than 1 s | longest silence, ms |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]


def _soak(report: dict[str, Any]) -> list[str]:
    memory, rounds = report["memory_mb_per_h"], report["rounds"]
    counted = ("sessions", "tasks", "threads", "sockets", "fds", "objects")
    return [
        f"{report['served']} sessions in {len(rounds)} rounds, {report['sessions']} at once, in "
        f"{report['soak_s']:g} s; {report['killed']} rounds ended by a kill. Model "
        f"`{report['model']}`, {_machine(report)}.",
        "",
        f"| | {' | '.join(counted)} | memory, MB |",
        f"| --- |{' ---: |' * (len(counted) + 1)}",
        *(
            f"| {name} | {' | '.join(str(one[key]) for key in counted)} | {one['rss_mb']:.1f} |"
            for name, one in (("after the first round", rounds[0]), ("after the last", rounds[-1]))
        ),
        "",
        f"Memory grows by {memory['mb_per_h']:.1f} MB an hour (95 %: {memory['low']:.1f} to "
        f"{memory['high']:.1f}). {'; '.join(report['findings']) or 'Nothing was left over'}.",
        "",
        "![Memory while sessions come and go](latency-soak.png)",
    ]


def _run_of(report: dict[str, Any]) -> list[str]:
    return [
        _measured(report),
        "",
        "| sessions | p50, ms | p95, ms | p99, ms | the same without the model, p95, ms |",
        "| ---: | ---: | ---: | ---: | ---: |",
        f"| {report['sessions']} | {_ms(report)} | {report['without_model_ms']['p95']:.0f} |",
    ]


def _ms(report: dict[str, Any]) -> str:
    """Three cells."""
    latency = report["capture_to_result_ms"]
    told = (latency[name] for name in ("p50", "p95", "p99"))
    return " | ".join("none" if ms is None else f"{ms:.0f}" for ms in told)
