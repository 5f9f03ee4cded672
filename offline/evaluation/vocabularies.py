"""Vocabularies of several sizes out of one index, and how accuracy falls as they grow.

    examples -> [vocabularies] -> crossval, once a size -> report

A figure means nothing without the number of glosses it was among. The glosses with the most clips
come first, so each vocabulary holds the smaller ones; but every size is trained and tested anew,
with folds of its own, as it would be served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from offline.data.examples import Example, clip_counts, common_glosses, scored
from offline.evaluation.crossval import TrainingPlan
from offline.evaluation.figures import TOPS


def vocabularies(text: str, examples: Sequence[Example]) -> list[tuple[str, ...]]:
    """The vocabularies that a list such as `23,32,49` or `5+,4+,3+` asks for, smallest first.

    `23`: the 23 glosses with the most clips to score, of as many the first by name; `5+`: all
    glosses with at least five.

    Raises:
        ValueError: a word is none of these, or there are not so many glosses.
    """
    counts = clip_counts(examples)
    order = sorted(counts, key=lambda gloss: (-counts[gloss], gloss))
    found = set()
    for word in (word.strip() for word in text.split(",")):
        number = word.removesuffix("+")
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f"--vocabulary: {word!r} is neither a size (23) nor clips (5+)")
        if word.endswith("+"):
            found.add(common_glosses(examples, int(number)))
        elif int(number) > len(order):
            raise ValueError(f"--vocabulary {number}: only {len(order)} glosses can be scored")
        else:
            found.add(tuple(sorted(order[: int(number)])))
    return sorted(found, key=len)


def curve(
    plan: TrainingPlan,
    sizes: Sequence[tuple[str, ...]],
    known: dict[str, Any],
    judge: Callable[[TrainingPlan], dict[str, Any]],
) -> list[dict[str, Any]]:
    """One object a vocabulary: its size, the clips scored of its rarest gloss, and its figures.

    known: the figures of the plan's own vocabulary; `judge` makes those of another.
    """
    counts = Counter(e.gloss for e in scored(plan.examples))
    points = []
    for glosses in sizes:
        scores = known
        if set(glosses) != set(plan.glosses):
            scores = judge(replace(plan, glosses=glosses))
        tops = [f"top{top}" for top in TOPS if f"top{top}" in scores]
        points.append(
            {
                "glosses": len(glosses),
                "least_clips": min(counts[gloss] for gloss in glosses),
                "clips": scores["clips"],
                "chance": round(1 / len(glosses), 4),
                **{key: scores[key] for top in tops for key in (top, f"{top}_interval95")},
            }
        )
    return points
