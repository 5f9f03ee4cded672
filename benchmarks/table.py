"""What came out as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.contest import CONTENDERS, Contender, RivalOutcome

Outcomes = Mapping[tuple[int, str], RivalOutcome]  # (sessions, contender's name) -> median


def lines(outcomes: Outcomes, caption: str) -> list[str]:
    """A row a number of sessions and contender, under a line that says what was measured."""
    titles = {one.name: one for one in CONTENDERS}
    rows = [_row(sessions, titles[name], one) for (sessions, name), one in outcomes.items()]
    return [
        caption,
        "",
        "| sessions | | p50, ms | p95, ms | answers/s | CPU s | CPU ms/answer | RSS growth, MB | |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *rows,
    ]


def _row(sessions: int, contender: Contender, one: RivalOutcome) -> str:
    cells = (
        str(sessions),
        contender.title,
        _figure(one.p50_ms, 0),
        _figure(one.p95_ms, 0),
        _figure(one.per_s, 1),
        _figure(one.cpu_s, 3),
        _figure(one.cpu_ms_an_answer, 1),
        _figure(one.rss_growth_mb, 0),
        one.failed.replace("|", "/").replace("\n", " "),
    )
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None, digits: int) -> str:
    return "none" if value is None else f"{value:.{digits}f}"
