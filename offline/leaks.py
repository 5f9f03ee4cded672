"""Refuses what would make scores lie: a recording, or a signer, on both sides of a split.

    examples + fingerprints -> [leaks] -> train

Three leaks are looked for: rows of one video (its variants), rows of one signer group, and one
recording under two ids. Cropped and mirrored copies are not found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from offline.examples import Example
from offline.fingerprints import Fingerprint, likeness, looks

_ALIKE = 0.95  # `likeness` of two clips that are called one recording; docs/leaks.md says why
_LIKELY = (0.9, 0.7)  # cosine of mean pictures, and of where they move: below, not compared
LABELS = "mend split or signer in the labels"
COPIES = "give both one signer in the labels, or --copies leave-out: train without its copies"
_NAMED = 5  # rows that an error names
_BLOCK = 1024  # clips compared at once


def refuse_leaks(
    train: Sequence[Example],
    test: Sequence[Example],
    prints: Mapping[str, Fingerprint],
    *,
    grouped: bool = True,
) -> None:
    """Raise ValueError, naming the rows, when something stands on both sides.

    grouped: signers must not either. `prints` by video id; videos without one are not compared.
    """
    _refuse("one video", _shared(train, test, lambda e: e.video_id))
    if grouped:
        _refuse("one signer group", _shared(train, test, lambda e: e.group))
    _refuse("one recording under two ids", twins(train, test, prints), COPIES)


def twins(
    train: Sequence[Example], test: Sequence[Example], prints: Mapping[str, Fingerprint]
) -> list[tuple[Example, Example]]:
    """Pairs of a clip of `train` and one of `test` that are likely the same recording."""
    ours = list({e.video_id: e for e in train if e.video_id in prints}.values())
    theirs = list({e.video_id: e for e in test if e.video_id in prints}.values())
    if not ours or not theirs:
        return []
    left = looks([prints[e.video_id] for e in ours])
    right = looks([prints[e.video_id] for e in theirs])
    half = left.shape[1] // 2
    found = []
    for first in range(0, len(ours), _BLOCK):
        block = left[first : first + _BLOCK]
        likely = (block[:, :half] @ right[:, :half].T >= _LIKELY[0]) & (
            block[:, half:] @ right[:, half:].T >= _LIKELY[1]
        )
        for i, j in zip(*np.nonzero(likely), strict=True):
            a, b = ours[first + i], theirs[j]
            if likeness(prints[a.video_id], prints[b.video_id]) >= _ALIKE:
                found.append((a, b))
    return found


def videos_of(examples: Iterable[Example]) -> dict[str, Path]:
    """The video file of each id."""
    return {e.video_id: e.path for e in examples if e.path is not None}


def _shared(
    train: Sequence[Example], test: Sequence[Example], key: Callable[[Example], str]
) -> list[tuple[Example, Example]]:
    """For each key on both sides, a row of each."""
    ours = {key(e): e for e in reversed(train)}
    theirs = {key(e): e for e in reversed(test)}
    return [(ours[k], theirs[k]) for k in sorted(ours.keys() & theirs.keys())]


def _refuse(what: str, pairs: Sequence[tuple[Example, Example]], advice: str = LABELS) -> None:
    if pairs:
        named = "; ".join(f"{_row(a)} and {_row(b)}" for a, b in pairs[:_NAMED])
        more = f"; {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
        raise ValueError(
            f"{what} in both train and test, so scores would lie: {named}{more}. {advice}"
        )


def _row(example: Example) -> str:
    return f"{example.video_id} ({example.variant}, {example.gloss}, {example.group})"
