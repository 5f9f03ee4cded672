"""Did a head learn anything: its loss and its accuracy beside those of guessing.

trained heads -> [chance] -> a warning, or none -> train
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from offline.training.batches import TrainClips
from offline.training.config import RECIPES, TrainChoices, TrainSettings

_LITTLE = 0.15  # of the way from guessing to the least loss that there can be
_FEW = 10  # clips that say nothing about chance


def guessing_loss(clips: TrainClips) -> float:
    """The loss of a head that knows only how often each class is drawn: ln(classes) if equally."""
    share = np.bincount(clips.labels, clips.weights, minlength=clips.classes)
    share = share[share > 0] / share.sum()
    return float(-(share * np.log(share)).sum())


def least_loss(classes: int, smoothing: float) -> float:
    """The loss of a head that is always right and as sure as smoothed labels ask."""
    right, wrong = 1 - smoothing + smoothing / classes, smoothing / classes
    return -sum(n * p * math.log(p) for n, p in ((1, right), (classes - 1, wrong)) if p > 0)


def near_chance(
    losses: Sequence[float],
    clips: TrainClips,
    smoothing: float,
    scored: tuple[float, Sequence[str]],
) -> str | None:
    """What is wrong, in half a line, if a head is hardly better than guessing.

    scored: the share right of clips that the head did not learn, and their glosses; may be none.
    """
    guess, loss = guessing_loss(clips), float(np.mean(losses[-20:]))
    found = []
    if loss > guess - _LITTLE * (guess - least_loss(clips.classes, smoothing)):
        found.append(f"its loss is {loss:.2f} at the end, where guessing has {guess:.2f}")
    top1, glosses = scored
    if len(glosses) >= _FEW:
        chance = max(Counter(glosses).values()) / len(glosses)
        if top1 <= chance + 1.64 * math.sqrt(chance * (1 - chance) / len(glosses)):
            found.append(
                f"of {len(glosses)} clips that it did not learn {100 * top1:.0f} % are right, "
                f"where always the same gloss has {100 * chance:.0f} %"
            )
    if not found:
        return None
    return f"this head has learnt next to nothing: {'; '.join(found)}"


def chance_warning(
    losses: Sequence[float],
    clips: TrainClips,
    scored: tuple[float, Sequence[str]],
    choices: TrainChoices,
    settings: TrainSettings,
) -> str | None:
    """`near_chance`, and what to try."""
    wrong = near_chance(losses, clips, settings.smoothing, scored)
    if wrong is None:
        return None
    names = ("batch", "epochs", "least_steps", "lr", "weight_decay")
    own = RECIPES[settings.head]
    given = [name for name in names if getattr(choices, name) is not None]
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    more = f"more --epochs (these were {settings.epochs:g})"
    if flags:
        rates = " ".join(f"{rate:g}" for rate in own.lr)
        advice = (
            f"leave out {flags}: the head {settings.head} has its own (batch {own.batch}, lr "
            f"{rates}, {own.epochs:g} epochs and {own.gloss_steps} steps a gloss); or give {more}"
        )
    else:
        advice = f"try {more}, and look whether the labels fit the videos"
    return f"{wrong}: {advice}"
