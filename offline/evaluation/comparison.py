"""Two recognisers on the same clips, paired: is one better, and by how much?

    outcomes of A, of B -> [comparison] -> report

Each clip is answered by both, so what makes a clip hard is the same for both and falls out of the
difference: paired figures find differences that lie far inside the intervals of each alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from offline.evaluation.figures import TOPS, resampled
from offline.scoring.metrics import Figure, class_share, intervals, mcnemar, share
from offline.scoring.outcomes import Outcomes

_NAMED = 3  # clips that an error names


def compare_outcomes(a: Outcomes, b: Outcomes, names: tuple[str, str]) -> dict[str, Any]:
    """The figures of both, the differences B - A with 95 % intervals, and McNemar's test.

    Raises:
        ValueError: they were not asked the same clips of the same glosses.
    """
    a, b = _aligned(a, b, names)
    tops = [top for top in TOPS if top < min(len(a.glosses), len(b.glosses))]
    each: dict[str, tuple[Figure, Figure]] = {}
    for top in tops:
        right = a.ranks < top, b.ranks < top
        each[f"top{top}"] = share(right[0]), share(right[1])
        of_class = class_share(right[0], a.labels), class_share(right[1], a.labels)
        each[f"top{top}_class_mean"] = of_class
    bounds = intervals({name: _difference(*pair) for name, pair in each.items()}, a.groups)
    every = np.ones(len(a))
    mine, its = a.ranks == 0, b.ranks == 0
    only_a, only_b = int((mine & ~its).sum()), int((its & ~mine).sum())
    return {
        "a": names[0],
        "b": names[1],
        "clips": len(a),
        "glosses": len(a.glosses),
        "intervals_over": resampled(a),
        "figures": {
            name: {
                "a": round(pair[0](every), 4),
                "b": round(pair[1](every), 4),
                "difference": round(pair[1](every) - pair[0](every), 4),
                "difference_interval95": [round(x, 4) for x in bounds[name]],
            }
            for name, pair in each.items()
        },
        "mcnemar": {
            "both_right": int((mine & its).sum()),
            "only_a_right": only_a,
            "only_b_right": only_b,
            "neither_right": int((~mine & ~its).sum()),
            "p": float(f"{mcnemar(only_a, only_b):.3g}"),
        },
        "differ": [
            {
                "video_id": a.video_ids[i],
                "gloss": a.glosses[a.labels[i]],
                "signer": a.signer(i),
                "a": a.glosses[a.answers[i]],
                "b": b.glosses[b.answers[i]],
            }
            for i in np.flatnonzero(mine != its).tolist()
        ],
    }


def _difference(a: Figure, b: Figure) -> Figure:
    return lambda weights: b(weights) - a(weights)


def _aligned(a: Outcomes, b: Outcomes, names: tuple[str, str]) -> tuple[Outcomes, Outcomes]:
    """Both, in the order of A's clips."""
    if set(a.glosses) != set(b.glosses):
        only = sorted(set(a.glosses) ^ set(b.glosses))
        raise ValueError(
            f"{names[0]} chose from {len(a.glosses)} glosses, {names[1]} from {len(b.glosses)}; "
            f"{len(only)} are not in both ({_some(only)}): the same clips are not as hard for both"
        )
    mine, its = set(a.video_ids), set(b.video_ids)
    if mine != its:
        raise ValueError(
            f"not the same clips: {len(mine - its)} only in {names[0]}{_named(mine - its)}, "
            f"{len(its - mine)} only in {names[1]}{_named(its - mine)}; score both on one split"
        )
    place = {video_id: i for i, video_id in enumerate(b.video_ids)}
    b = b.take([place[video_id] for video_id in a.video_ids])
    relabelled = [
        a.video_ids[i]
        for i in range(len(a))
        if a.glosses[a.labels[i]] != b.glosses[b.labels[i]] or a.groups[i] != b.groups[i]
    ]
    if relabelled:
        raise ValueError(
            f"{len(relabelled)} clips have another gloss or signer in {names[1]} than in "
            f"{names[0]}{_named(relabelled)}: the labels were changed in between"
        )
    return a, b


def _named(ids: Iterable[str]) -> str:
    chosen = sorted(ids)
    return f" ({_some(chosen)})" if chosen else ""


def _some(names: list[str]) -> str:
    more = ", …" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
