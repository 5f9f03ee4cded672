"""A report as one page that needs nothing else: no script, no request, light or dark.

    report + charts -> [page] -> report.html

Glosses, signers and file names come from strangers' labels. The templates escape all of it, and a
content policy on the page forbids scripts and requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from offline.evaluation.charts import reliability_chart, risk_chart, vocabulary_chart
from offline.evaluation.figures import MEANINGS, TOPS

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
