"""The figures of a report and of a card, from the outcomes of clips.

outcomes -> [figures] -> report, card
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from offline.scoring.metrics import (
    Figure,
    bootstrapped,
    calibration_error,
    class_share,
    clip_share,
    confusions,
    intervals,
    reliability,
    risk_area,
    risk_coverage,
)
from offline.scoring.outcomes import ClipOutcome, Outcomes, source_of

TOPS = (1, 3, 5, 10)
_WEAK = 8  # glosses that a table names


def accuracies(outcomes: Outcomes) -> dict[str, Figure]:
    """Top-K over clips and over classes, for each K below the number of glosses."""
    found: dict[str, Figure] = {}
    for top in TOPS:
        if top < len(outcomes.glosses):
            found[f"top{top}"] = clip_share(outcomes.ranks < top)
            found[f"top{top}_class_mean"] = class_share(outcomes.ranks < top, outcomes.labels)
    return found


def mean_of(values: Sequence[float]) -> dict[str, Any]:
    """The mean of a value a clip, such as right or wrong, and its 95 % interval."""
    share, interval = bootstrapped(np.array(values, np.float64))
    return {"share": round(share, 4), "interval95": [round(x, 4) for x in interval]}


def per_minute(signs: int, seconds: float) -> float | None:
    """Signs a minute; None where no time was measured."""
    return round(60 * signs / seconds, 2) if seconds else None


def figures_of(outcomes: Outcomes) -> dict[str, Any]:
    """A report's `scores`, by the prediction for the whole clip."""
    right = outcomes.ranks == 0
    measured = accuracies(outcomes)
    measured["aurc"] = risk_area(outcomes.confidence, right)
    bounds = intervals(measured, outcomes.groups)
    found: dict[str, Any] = {"clips": len(outcomes), "glosses": len(outcomes.glosses)}
    for name, figure in measured.items():
        found[name] = round(figure(np.ones(len(outcomes))), 4)
        found[f"{name}_interval95"] = [round(x, 4) for x in bounds[name]]
    found["ece"] = round(calibration_error(outcomes.confidence, right), 4)
    by_gloss: dict[str, list[bool]] = defaultdict(list)
    for clip in outcomes.clips:
        by_gloss[clip.gloss].append(clip.rank == 1)
    found["per_gloss"] = {g: [sum(v), len(v)] for g, v in sorted(by_gloss.items())}
    found["signer_groups"] = len(set(outcomes.groups))
    found["intervals_over"] = resampled(outcomes)
    return found


def figure_table(figures: dict[str, Any]) -> str:
    """`figures_of` as a few lines for people."""
    lines = [f"{figures['clips']} clips of {len(figures['per_gloss'])} glosses, among "
             f"{figures['glosses']}; 95 % intervals over {figures['intervals_over']}"]  # fmt: skip
    lines.append(f"  {'':<16}{'of clips':>9}  {'95 %':<14}{'mean of glosses':>15}  95 %")
    for top in (top for top in TOPS if f"top{top}" in figures):
        cells = []
        for name in (f"top{top}", f"top{top}_class_mean"):
            low, high = figures[f"{name}_interval95"]
            cells.append((f"{100 * figures[name]:.1f} %", f"{100 * low:.1f}-{100 * high:.1f}"))
        name = "right first" if top == 1 else f"among first {top}"
        (share, bounds), (mean, mean_bounds) = cells
        lines.append(f"  {name:<16}{share:>9}  {bounds:<14}{mean:>15}  {mean_bounds}")
    weak = sorted(figures["per_gloss"].items(), key=lambda item: (item[1][0] / item[1][1], item[0]))
    wrong = [f"{gloss} {right}/{n}" for gloss, (right, n) in weak if right < n]
    if wrong:
        more = f", {len(wrong) - _WEAK} more" if len(wrong) > _WEAK else ""
        lines.append(f"  weakest: {', '.join(wrong[:_WEAK])}{more}")
    return "\n".join(lines)


def figures_by_source(outcomes: Outcomes) -> dict[str, Any]:
    """The same for the clips of each source by themselves, where there are several, less
    `per_gloss`.
    """
    clips: dict[str, list[ClipOutcome]] = defaultdict(list)
    for clip in outcomes.clips:
        clips[source_of(clip.video_id)].append(clip)
    if len(clips) == 1:
        return {}
    figures = {
        source: figures_of(Outcomes(glosses=outcomes.glosses, clips=tuple(own)))
        for source, own in sorted(clips.items())
    }
    for found in figures.values():
        del found["per_gloss"]
    return figures


def resampled(outcomes: Outcomes) -> str:
    """What the bootstrap draws, in words."""
    known, unknown = len(set(outcomes.signers) - {None}), outcomes.signers.count(None)
    if not unknown:
        return f"{known} signer groups"
    if not known:
        return f"{unknown} clips, as no signer is known"
    return f"{known} signer groups and {unknown} clips of unknown signers"


def details(outcomes: Outcomes) -> dict[str, Any]:
    """The rest of a report: reliability, risk, confusions, signers."""
    right = outcomes.ranks == 0
    glosses = outcomes.glosses
    clips_of = np.bincount(outcomes.labels, minlength=len(glosses))
    return {
        "reliability": reliability(outcomes.confidence, right),
        "risk_coverage": risk_coverage(outcomes.confidence, right),
        "confusions": [
            {
                "gloss": glosses[label],
                "predicted": glosses[predicted],
                "times": times,
                "of": int(clips_of[label]),
            }
            for label, predicted, times in confusions(outcomes.labels, outcomes.predicted)
        ],
        "signers": _by_signer(outcomes),
    }


def _by_signer(outcomes: Outcomes) -> list[dict[str, Any]]:
    """One object a signer, the one with the most clips first; unknown signers (null) as one."""
    ranks: dict[str | None, list[int]] = defaultdict(list)
    for signer, clip in zip(outcomes.signers, outcomes.clips, strict=True):
        ranks[signer].append(clip.rank)
    order = sorted(ranks, key=lambda name: (name is None, -len(ranks[name]), name or ""))
    return [
        {
            "signer": name,
            "clips": len(ranks[name]),
            "right": sum(rank == 1 for rank in ranks[name]),
            "within5": sum(rank <= 5 for rank in ranks[name]),
        }
        for name in order
    ]
