"""Two recognisers on the same clips, paired: is one better, and by how much?

    outcomes of A and of B -> [comparison] -> report

What makes a clip hard is the same for both and drops out of the difference, so paired figures find
differences far smaller than the interval of each recogniser alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from offline.evaluation.figures import accuracies, resampled
from offline.scoring.metrics import Figure, intervals, mcnemar
from offline.scoring.outcomes import Outcomes

_NAMED = 3  # clips that an error names


def compare_outcomes(a: Outcomes, b: Outcomes, names: tuple[str, str]) -> dict[str, Any]:
    """The figures of both, the differences B - A with 95 % intervals, and McNemar's test.

    Raises:
        ValueError: their clips or their glosses differ.
    """
    b = _aligned(a, b, names)
    figures_a, figures_b = accuracies(a), accuracies(b)
    differences = {name: _difference(figures_a[name], figures_b[name]) for name in figures_a}
    bounds = intervals(differences, a.groups)
    every = np.ones(len(a))
    right_a, right_b = a.ranks == 0, b.ranks == 0
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return {
        "a": names[0],
        "b": names[1],
        "clips": len(a),
        "glosses": len(a.glosses),
        "intervals_over": resampled(a),
        "figures": {
            name: {
                "a": round(figures_a[name](every), 4),
                "b": round(figures_b[name](every), 4),
                "difference": round(differences[name](every), 4),
                "difference_interval95": [round(x, 4) for x in bounds[name]],
            }
            for name in differences
        },
        "mcnemar": {
            "both_right": int((right_a & right_b).sum()),
            "only_a_right": only_a,
            "only_b_right": only_b,
            "neither_right": int((~right_a & ~right_b).sum()),
            "p": float(f"{mcnemar(only_a, only_b):.3g}"),
        },
        "differ": [
            {
                "video_id": a.clips[i].video_id,
                "gloss": a.clips[i].gloss,
                "signer": a.signers[i],
                "a": a.clips[i].predicted,
                "b": b.clips[i].predicted,
            }
            for i in np.flatnonzero(right_a != right_b).tolist()
        ],
    }


def _difference(a: Figure, b: Figure) -> Figure:
    return lambda weights: b(weights) - a(weights)


def _aligned(a: Outcomes, b: Outcomes, names: tuple[str, str]) -> Outcomes:
    """B, in the order of A's clips."""
    if set(a.glosses) != set(b.glosses):
        only = set(a.glosses) ^ set(b.glosses)
        raise ValueError(
            f"{names[0]} has a vocabulary of {len(a.glosses)} glosses, {names[1]} of "
            f"{len(b.glosses)}; {len(only)} are not in both{_named(only)}: the same clips are "
            "not equally hard for both"
        )
    of_b = {clip.video_id: clip for clip in b.clips}
    ids_a, ids_b = {clip.video_id for clip in a.clips}, of_b.keys()
    if ids_a != ids_b:
        raise ValueError(
            f"not the same clips: {len(ids_a - ids_b)} only in {names[0]}{_named(ids_a - ids_b)}, "
            f"{len(ids_b - ids_a)} only in {names[1]}{_named(ids_b - ids_a)}; score both on one "
            "split"
        )
    b = Outcomes(glosses=b.glosses, clips=tuple(of_b[clip.video_id] for clip in a.clips))
    relabelled = [
        clip.video_id
        for clip, other in zip(a.clips, b.clips, strict=True)
        if (clip.gloss, clip.signer) != (other.gloss, other.signer)
    ]
    if relabelled:
        raise ValueError(
            f"{len(relabelled)} clips have another gloss or signer in {names[1]} than in "
            f"{names[0]}{_named(relabelled)}: the labels were changed in between"
        )
    return b


def _named(ids: Iterable[str]) -> str:
    """The first few in brackets; nothing if there is none."""
    chosen = sorted(ids)
    more = ", …" if len(chosen) > _NAMED else ""
    return f" ({', '.join(chosen[:_NAMED])}{more})" if chosen else ""
