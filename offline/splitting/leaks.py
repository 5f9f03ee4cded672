"""Refuses what would make scores lie: a recording, or a signer, on both sides of a split.

    examples, copies told -> folds or splits -> [leaks] -> train, evaluate

Three leaks are looked for: rows of one video (its variants), rows of one signer group, and one
recording under two ids, as `offline.splitting.copies` found them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from offline.examples import Example

LABELS = "mend split or signer in the labels"
COPIES = "--copies leave-out: train without its copies"
_NAMED = 5  # rows that an error names

Pair = tuple[Example, Example]  # one to train on, and one to test with


def refuse_leaks(
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    grouped: bool = True,
    copies: bool = True,
) -> None:
    """Raise ValueError, naming the rows, when something stands on both sides.

    grouped: signers must not either. copies: nor may a recording under two ids.
    """
    _refuse("one video", _shared(train, test, lambda e: e.video_id))
    if grouped:
        _refuse("one signer group", _shared(train, test, lambda e: e.group))
    if copies:
        _refuse("one recording under two ids", copied(train, test), COPIES)


def copied(train: Sequence[Example], test: Sequence[Example]) -> list[Pair]:
    """For each recording on both sides, a row of each."""
    return _shared(train, test, lambda e: e.recording)


def row_name(example: Example) -> str:
    """How errors and reports name a row: id, variant, gloss and signer."""
    return f"{example.video_id} ({example.variant}, {example.gloss}, {example.group})"


def _shared(
    train: Sequence[Example], test: Sequence[Example], key: Callable[[Example], str]
) -> list[Pair]:
    """For each key on both sides, a row of each."""
    ours = {key(e): e for e in reversed(train)}
    theirs = {key(e): e for e in reversed(test)}
    return [(ours[k], theirs[k]) for k in sorted(ours.keys() & theirs.keys())]


def _refuse(what: str, pairs: Sequence[Pair], advice: str = LABELS) -> None:
    if pairs:
        named = "; ".join(f"{row_name(a)} and {row_name(b)}" for a, b in pairs[:_NAMED])
        more = f"; {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
        raise ValueError(
            f"{what} in both train and test, so scores would lie: {named}{more}. {advice}"
        )
