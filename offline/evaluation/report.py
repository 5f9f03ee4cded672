"""A report as one page that needs nothing else: no script, no request, light or dark.

    report + charts -> [page] -> report.html

Glosses, signers and file names come from strangers' labels. The templates escape all of it, and a
content policy on the page forbids scripts and requests.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from offline.evaluation.figures import MEANINGS, TOPS

matplotlib.use("Agg")  # no display; before pyplot is imported
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator, PercentFormatter

_LISTED = 20  # rows of confusions and of mistakes; the JSON has all
_FEW_SIGNERS = 20  # fewer make intervals too narrow


def evaluation_page(report: Mapping[str, Any]) -> str:
    """HTML of a report of `offline.evaluate` (without --compare)."""
    clips = report["clips"]
    wrong = sorted((c for c in clips if c["rank"] > 1), key=lambda c: -c["p"])
    vocabulary = report.get("vocabulary", [])
    known = [row for row in report["signers"] if row["signer"] is not None]
    return _render(
        "evaluation.html",
        report=report,
        scores=report["scores"],
        tops=[top for top in TOPS if f"top{top}" in report["scores"]],
        wrong=wrong[:_LISTED],
        wrong_count=len(wrong),
        listed=_LISTED,
        few_signers=_FEW_SIGNERS,
        known_signers=known,
        understood=sum(row["right"] == row["clips"] for row in known),
        missed=sum(2 * row["right"] < row["clips"] for row in known),
        reliability=reliability_chart(report["reliability"]),
        risk=risk_chart(report["risk_coverage"]),
        vocabulary=vocabulary_chart(vocabulary) if len(vocabulary) > 1 else None,
    )


def comparison_page(report: Mapping[str, Any]) -> str:
    """HTML of a report of `offline.evaluate --compare`."""
    return _render("comparison.html", report=report)


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["interval"] = interval
    environment.globals["points"] = points
    return environment.get_template(template).render(meanings=MEANINGS, **values)


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def interval(bounds: tuple[float, float]) -> str:
    """`82.5-91.8`, in percent, with an en dash."""
    return "\N{EN DASH}".join(f"{100 * bound:.1f}" for bound in bounds)


def points(*shares: float) -> str:
    """`+1.2`, or `-0.4 to +2.8`, in percentage points: differences keep their signs."""
    signed = (f"{round(100 * share, 1) + 0.0:+.1f}" for share in shares)  # + 0.0: no minus nought
    return " to ".join(signed).replace("-", "\N{MINUS SIGN}")


# MERGED from offline.evaluation.charts: Charts of a report, as SVG that a page can hold in itself
# and that follows its light or dark. figures -> [charts] -> page Only numbers are drawn, no
# names: what labels and files are called stays out of the pictures.


# Colours that stand for the page's: each becomes a CSS variable of the same place.
_INK, _QUIET, _FIRST, _SECOND, _THIRD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES = {
    _INK: ("ink", "#1f2328", "#e6e8eb"),
    _QUIET: ("quiet", "#c9ced6", "#4a515c"),
    _FIRST: ("first", "#0a5cc2", "#74b0ff"),
    _SECOND: ("second", "#b3480a", "#ff9f5e"),
    _THIRD: ("third", "#0f7a55", "#5fd3a6"),
}
_MEASURED = "DejaVu Sans"  # comes with matplotlib; shown is what the page is set in
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "livegloss",  # the same figures give the same file
    "font.family": _MEASURED,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _QUIET,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": _QUIET,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def reliability_chart(bins: Sequence[dict[str, float]]) -> str:
    """How often answers are right (bars) that are so sure (the diagonal), and how many there are.

    `bins` as `scores.reliability` makes them; a data URI.
    """
    with plt.rc_context(_STYLE):
        figure, (axes, counts) = plt.subplots(
            2, 1, sharex=True, figsize=(5, 4.6), height_ratios=(4, 1)
        )
        places = [b["from"] for b in bins]
        width = [0.94 * (b["to"] - b["from"]) for b in bins]
        axes.bar(places, [b["right"] for b in bins], width, align="edge", color=_FIRST, alpha=0.45)
        axes.plot([b["sure"] for b in bins], [b["right"] for b in bins], "o", color=_FIRST)
        axes.plot([0, 1], [0, 1], "--", color=_INK, linewidth=1)
        axes.set(ylabel="right", xlim=(0, 1), ylim=(0, 1.02))
        counts.bar(places, [b["clips"] for b in bins], width, align="edge", color=_SECOND)
        counts.set(xlabel="stated probability", ylabel="clips")
        counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        for percent in (axes.yaxis, counts.xaxis):
            percent.set_major_formatter(PercentFormatter(1, 0))
        figure.align_ylabels()
        return _uri(figure)


def risk_chart(points: Sequence[dict[str, float]]) -> str:
    """The share of errors against the share of clips answered, the surest first; a data URI."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(5, 4.6))
        coverage, risk = [p["coverage"] for p in points], [p["risk"] for p in points]
        axes.fill_between(coverage, risk, color=_FIRST, alpha=0.2, linewidth=0)
        axes.plot(coverage, risk, color=_FIRST)
        axes.axhline(risk[-1], color=_INK, linewidth=1, linestyle="--")
        axes.set(xlabel="clips answered, the surest first", ylabel="errors among them")
        axes.set(xlim=(0, 1), ylim=(0, max(0.02, 1.15 * max(risk))))
        axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, None))
        return _uri(figure)


def vocabulary_chart(points: Sequence[dict[str, Any]]) -> str:
    """Accuracy with its intervals against the number of glosses; a data URI."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7, 3.6))
        sizes = [p["glosses"] for p in points]
        styles = {"top1": (_FIRST, "o"), "top3": (_SECOND, "s"), "top5": (_THIRD, "D")}
        for top, (colour, marker) in styles.items():
            there = [p for p in points if top in p]
            if not there:
                continue
            value = [p[top] for p in there]
            low, high = zip(*[p[f"{top}_interval95"] for p in there], strict=True)
            below = [v - x for v, x in zip(value, low, strict=True)]
            above = [x - v for v, x in zip(value, high, strict=True)]
            axes.errorbar(
                [p["glosses"] for p in there],
                value,
                (below, above),
                color=colour,
                marker=marker,
                capsize=3,
                label=f"top-{top.removeprefix('top')}",
            )
        axes.plot(sizes, [p["chance"] for p in points], ":", color=_INK, label="chance")
        axes.set(xlabel="glosses to choose from", ylabel="right", ylim=(0, 1.02))
        axes.set_xticks(sizes)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
        axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
        return _uri(figure)


def _uri(figure: Any) -> str:
    content = io.StringIO()
    figure.savefig(content, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    light = ";".join(f"--{name}:{colour}" for name, colour, _ in _VARIABLES.values())
    dark = ";".join(f"--{name}:{colour}" for name, _, colour in _VARIABLES.values())
    svg = svg.replace(f"'{_MEASURED}'", "system-ui, sans-serif")
    for drawn, (name, _, _) in _VARIABLES.items():
        svg = svg.replace(drawn, f"var(--{name})")
    style = f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    end = svg.index(">") + 1
    svg = f"{svg[:end]}<style>{style}</style>{svg[end:]}"
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


# MERGED from offline.evaluation.report: A command's figures in full, as a JSON file or a page.


def write_report(path: str, report: Mapping[str, Any]) -> None:
    """Write `report` to `path` as JSON; folders on the way are made.

    Raises:
        ValueError: it can't be written.
    """
    write_text(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def write_text(path: str, text: str) -> None:
    """Write `text` to `path`; folders on the way are made.

    Raises:
        ValueError: it can't be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ValueError(f"{path}: can't be written: {exc.strerror}") from exc


def refuse_place(path: str) -> None:
    """Raise ValueError when no file can be written at `path`: before hours of work for it."""
    folder = Path(path).parent
    while not folder.exists():
        folder = folder.parent
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: can't be written: look at its folder")
