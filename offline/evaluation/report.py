"""A report as JSON, and as one page that needs nothing else: no script, no request, light or dark.

    report -> [report] -> report.json, charts (SVG in the page) -> report.html

Glosses, signers and file names come from other people's labels. The templates escape all of it, a
content policy on the page forbids scripts and requests, and charts show numbers only, no names.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator, PercentFormatter

from offline.evaluation import MEANINGS
from offline.evaluation.figures import TOPS

_LISTED = 20  # rows of confusions and of errors; the JSON has all
_FEW_SIGNERS = 20  # fewer make intervals too narrow

# Colours that stand for the page's: each becomes a CSS variable.
_INK, _QUIET, _FIRST, _SECOND, _THIRD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES = {
    _INK: ("ink", "#1f2328", "#e6e8eb"),
    _QUIET: ("quiet", "#c9ced6", "#4a515c"),
    _FIRST: ("first", "#0a5cc2", "#74b0ff"),
    _SECOND: ("second", "#b3480a", "#ff9f5e"),
    _THIRD: ("third", "#0f7a55", "#5fd3a6"),
}
_FONT = "DejaVu Sans"  # comes with matplotlib: texts are measured in it, and shown in the page's
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "livegloss",  # the same figures give the same file
    "font.family": _FONT,
    "font.size": 11,
    **{f"axes.spines.{side}": False for side in ("top", "right")},
    **{f"{name}.major.size": 0 for name in ("xtick", "ytick")},
    **{f"{name}.color": _INK for name in ("text", "xtick", "ytick")},
    **{f"{name}.facecolor": "none" for name in ("figure", "axes")},
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _QUIET,
    "grid.linewidth": 0.6,
    "grid.color": _QUIET,
    "legend.frameon": False,
}


def write_report(path: str, report: Mapping[str, Any]) -> None:
    """Write `report` to `path` as JSON, see `write_text`."""
    write_text(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def write_text(path: str, text: str) -> None:
    """Write `text` to `path`, with its folders.

    Raises:
        ValueError: it can't be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ValueError(f"{path}: can't be written: {exc.strerror}") from exc


def evaluation_page(report: Mapping[str, Any]) -> str:
    """HTML of a report of `offline.evaluate` (without --compare)."""
    wrong = sorted((c for c in report["clips"] if c["rank"] > 1), key=lambda c: -c["p"])
    curve = report.get("vocabulary", [])
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
        all_right=sum(row["right"] == row["clips"] for row in known),
        mostly_wrong=sum(2 * row["right"] < row["clips"] for row in known),
        reliability=_chart(_reliability, (5, 4.6), report["reliability"]),
        risk=_chart(_risk, (5, 4.6), report["risk_coverage"]),
        signs=_chart(_signs, (5, 4.6), report["live"]) if report["live"] else None,
        vocabulary=_chart(_vocabulary, (7, 3.6), curve) if len(curve) > 1 else None,
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
    environment.filters["percent"] = lambda share, digits=1: f"{100 * share:.{digits}f} %"
    # 82.5-91.8, in percent, with an en dash
    environment.filters["interval"] = lambda bounds: "\N{EN DASH}".join(
        f"{100 * bound:.1f}" for bound in bounds
    )
    environment.globals["points"] = points
    return environment.get_template(template).render(meanings=MEANINGS, **values)


def points(*shares: float) -> str:
    """`+1.2`, or `-0.4 to +2.8`, in percentage points: differences keep their signs."""
    signed = (f"{round(100 * share, 1) + 0.0:+.1f}" for share in shares)  # + 0.0: no minus zero
    return " to ".join(signed).replace("-", "\N{MINUS SIGN}")


def _reliability(figure: Picture, bins: Sequence[dict[str, float]]) -> None:
    """The share of right predictions by confidence (bars; the diagonal is ideal), and the number
    of clips. `bins` as `metrics.reliability` returns them."""
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    left = [b["from"] for b in bins]
    width = [0.94 * (b["to"] - b["from"]) for b in bins]
    right = [b["right"] for b in bins]
    axes.bar(left, right, width, align="edge", color=_FIRST, alpha=0.45)
    axes.plot([b["confidence"] for b in bins], right, "o", color=_FIRST)
    axes.plot([0, 1], [0, 1], "--", color=_INK, linewidth=1)
    axes.set(ylabel="right", xlim=(0, 1), ylim=(0, 1.02))
    counts.bar(left, [b["clips"] for b in bins], width, align="edge", color=_SECOND)
    counts.set(xlabel="stated probability", ylabel="clips")
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axis in (axes.yaxis, counts.xaxis):
        axis.set_major_formatter(PercentFormatter(1, 0))
    figure.align_ylabels()


def _risk(figure: Picture, curve: Sequence[dict[str, float]]) -> None:
    """The share of errors against the share of clips predicted."""
    axes = figure.subplots()
    coverage, risk = [p["coverage"] for p in curve], [p["risk"] for p in curve]
    axes.fill_between(coverage, risk, color=_FIRST, alpha=0.2, linewidth=0)
    axes.plot(coverage, risk, color=_FIRST)
    axes.axhline(risk[-1], color=_INK, linewidth=1, linestyle="--")
    axes.set(xlabel="clips predicted, most confident first", ylabel="errors among them")
    axes.set(xlim=(0, 1), ylim=(0, max(0.02, 1.15 * max(risk))))
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, None))


def _signs(figure: Picture, curve: Sequence[dict[str, Any]]) -> None:
    """False signs against known signs reported, over thresholds: of known signs, and of all."""
    axes = figure.subplots()
    coverage = [p["coverage"] for p in curve]
    for name, colour, marker, label in (
        ("risk_with_others", _SECOND, "s", "with other signs and nobody signing"),
        ("risk", _FIRST, "o", "known signs alone"),
    ):
        axes.plot(coverage, [p[name] for p in curve], color=colour, marker=marker, label=label)
    axes.set(xlabel="known signs reported", ylabel="false among the signs reported")
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, None))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1))


def _vocabulary(figure: Picture, curve: Sequence[dict[str, Any]]) -> None:
    """Accuracy with its intervals against the number of glosses."""
    axes = figure.subplots()
    sizes = [p["glosses"] for p in curve]
    styles = {"top1": (_FIRST, "o"), "top3": (_SECOND, "s"), "top5": (_THIRD, "D")}
    for top, (colour, marker) in styles.items():
        there = [p for p in curve if top in p]
        if there:
            bounds = [(p[top], *p[f"{top}_interval95"]) for p in there]
            axes.errorbar(
                [p["glosses"] for p in there],
                [value for value, _, _ in bounds],
                ([v - low for v, low, _ in bounds], [high - v for v, _, high in bounds]),
                color=colour,
                marker=marker,
                capsize=3,
                label=f"top-{top.removeprefix('top')}",
            )
    axes.plot(sizes, [p["chance"] for p in curve], ":", color=_INK, label="chance")
    axes.set(xlabel="glosses in the vocabulary", ylabel="right", ylim=(0, 1.02))
    axes.set_xticks(sizes)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))


def _chart(
    draw: Callable[[Picture, Any], None], inches: tuple[float, float], values: Sequence[Any]
) -> str:
    """A chart as SVG in a data URI; its colours follow the page's light or dark."""
    content = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Picture(figsize=inches)
        draw(figure, values)
        figure.savefig(content, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :].replace(f"'{_FONT}'", "system-ui, sans-serif")
    for drawn, (name, _, _) in _VARIABLES.items():
        svg = svg.replace(drawn, f"var(--{name})")
    light = ";".join(f"--{name}:{colour}" for name, colour, _ in _VARIABLES.values())
    dark = ";".join(f"--{name}:{colour}" for name, _, colour in _VARIABLES.values())
    style = f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    end = svg.index(">") + 1
    svg = f"{svg[:end]}<style>{style}</style>{svg[end:]}"
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
