"""The figures of a report, with a sentence for each that says what it means.

outcomes -> [figures] -> report, card
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from offline.scoring.metrics import (
    Figure,
    calibration_error,
    class_share,
    confusions,
    intervals,
    reliability,
    risk_area,
    risk_coverage,
    share,
)
from offline.scoring.outcomes import Outcomes

TOPS = (1, 3, 5, 10)
MEANINGS = {
    "topK": "The share of clips whose right gloss is among the K likeliest: what papers call "
    "accuracy per instance.",
    "topK_class_mean": "The same for each gloss by itself, then the mean over glosses: a frequent "
    "gloss counts no more than a rare one (papers: per class).",
    "interval95": "Where the figure lies in 95 of 100 draws of as many signers from those tested, "
    "with replacement (bootstrap; clips of unknown signers are drawn one by one); below about 20 "
    "signers it is too narrow. It tells of other signers, not of another training.",
    "ece": "Expected calibration error: how far, on the mean over clips, the stated probability "
    "is from how often answers so sure are right, in ten bins; 0 is best, and a few hundred clips "
    "show a few points by chance alone.",
    "aurc": "Area under the risk-coverage curve: the share of errors when only the surest answers "
    "are given, averaged over how many are given; 0 is best, and answers that are no surer where "
    "they are right show the share of errors.",
    "signers": "How often each signer was right: a mean can hide someone who is never understood.",
    "confusions": "Which gloss was taken for which, the most frequent first.",
    "coverage": "How many instances of the official split were at hand: WLASL's videos vanish "
    "from the web, and a figure on what is left is not the figure of the whole split.",
    "copies": "Clips of which a copy, under another id and another signer, was trained on: they "
    "ask for what was learnt.",
    "vocabulary": "Cross-validated accuracy for vocabularies of several sizes, the glosses with "
    "the most clips first: a figure means nothing without the number of glosses it was among.",
    "difference": "B minus A on the same clips, with the interval of the paired difference: when "
    "it leaves out 0 they differ by more than the chance of who signed.",
    "mcnemar": "McNemar's exact test on the clips that one alone had right: the chance of so "
    "uneven a count if both were as good. It counts clips as independent, so where signers gave "
    "many each, trust the interval.",
}


def figures_of(outcomes: Outcomes) -> dict[str, Any]:
    """What a card and a report's `scores` tell of clips, by the whole clip's answer."""
    labels, rank = outcomes.labels, outcomes.ranks
    right = rank == 0
    measured: dict[str, Figure] = {}
    for top in TOPS:
        if top < len(outcomes.glosses):
            measured[f"top{top}"] = share(rank < top)
            measured[f"top{top}_class_mean"] = class_share(rank < top, labels)
    measured["aurc"] = risk_area(outcomes.sure, right)
    bounds = intervals(measured, outcomes.groups)
    every = np.ones(len(outcomes))
    found: dict[str, Any] = {"clips": len(outcomes), "glosses": len(outcomes.glosses)}
    for name, figure in measured.items():
        found[name] = round(figure(every), 4)
        found[f"{name}_interval95"] = [round(x, 4) for x in bounds[name]]
    found["ece"] = round(calibration_error(outcomes.sure, right), 4)
    by_gloss: dict[str, list[bool]] = defaultdict(list)
    for label, is_right in zip(labels.tolist(), right.tolist(), strict=True):
        by_gloss[outcomes.glosses[label]].append(is_right)
    found["per_gloss"] = {g: [sum(v), len(v)] for g, v in sorted(by_gloss.items())}
    found["signer_groups"] = len(set(outcomes.groups))
    found["intervals_over"] = resampled(outcomes)
    return found


def resampled(outcomes: Outcomes) -> str:
    """What intervals are drawn over, in words."""
    signers = [outcomes.signer(i) for i in range(len(outcomes))]
    known, alone = len(set(signers) - {None}), signers.count(None)
    if not alone:
        return f"{known} signer groups"
    if not known:
        return f"{alone} clips, as no signer is known"
    return f"{known} signer groups and {alone} clips of unknown signers"


def details(outcomes: Outcomes) -> dict[str, Any]:
    """What a report tells beside its `scores`: reliability, risk, confusions, signers."""
    right = outcomes.ranks == 0
    glosses = outcomes.glosses
    times_of = np.bincount(outcomes.labels, minlength=len(glosses))
    return {
        "reliability": reliability(outcomes.sure, right),
        "risk_coverage": risk_coverage(outcomes.sure, right),
        "confusions": [
            {
                "gloss": glosses[label],
                "answer": glosses[answer],
                "times": times,
                "of": int(times_of[label]),
            }
            for label, answer, times in confusions(outcomes.labels, outcomes.answers)
        ],
        "signers": _signers(outcomes),
    }


def _signers(outcomes: Outcomes) -> list[dict[str, Any]]:
    """One object a signer, the one with the most clips first; unknown ones (null) together."""
    places: dict[str | None, list[int]] = defaultdict(list)
    for i in range(len(outcomes)):
        places[outcomes.signer(i)].append(i)
    order = sorted(places, key=lambda name: (name is None, -len(places[name]), name or ""))
    return [
        {
            "signer": name,
            "clips": len(places[name]),
            "right": int((outcomes.ranks[places[name]] == 0).sum()),
            "within5": int((outcomes.ranks[places[name]] < 5).sum()),
        }
        for name in order
    ]
