"""Names that are spelled in several ways: splits and glosses of labels.

labels -> [spellings] -> one name for one thing
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

from models.few_shot import IDLE

EXTRA = "extra"  # a split to learn from, never to score: the word is written in the picture
_SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(
        ("val", "valid", "validation", "validate", "dev", "devel", "development"), "val"
    ),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys((EXTRA,), EXTRA),
    **dict.fromkeys(("", "-", "none", "null", "nan", "n/a"), ""),
}
_JOINERS = "\u200c\u200d"  # not shown, but letters and emoji differ by them
_EVALUATION = ("eval", "evaluation")  # the test split; the validation split where there is a test


def split_of(text: str) -> str | None:
    """The split that `text` names: train, val, test, extra or nothing; None: it names none."""
    name = text.strip().lower()
    return "test" if name in _EVALUATION else _SPLITS.get(name)


def split_named(text: str) -> str:
    """The split that `text` names: train, val, test, extra or nothing.

    Raises:
        ValueError: it names none.
    """
    if (split := split_of(text)) is None:
        raise ValueError(f"no split is called {text!r}: give train, val, test, {EXTRA} or nothing")
    return split


class SplitReader:
    """Reads the splits of one set of labels, whose names for them are `names`.

    `lines` says, for people, which name was taken for which split.
    """

    def __init__(self, names: Iterable[str]) -> None:
        there = {name.strip() for name in names}
        self._test_too = any(_SPLITS.get(name.lower()) == "test" for name in there)
        known = {name: self(name) for name in sorted(there) if split_of(name)}
        taken = [f"{name} as {split}" for name, split in known.items() if name.lower() != split]
        self.lines = [f"splits: {', '.join(taken)}"] if taken else []

    def __call__(self, text: str) -> str:
        """The split that `text` names: train, val, test, extra or nothing.

        Raises:
            ValueError: it names none.
        """
        split = split_named(text)
        return "val" if self._test_too and text.strip().lower() in _EVALUATION else split


def plain_gloss(text: str) -> str:
    """A gloss without needless space and what is not shown, composed: é is one character."""
    words = " ".join(text.split())
    shown = (c for c in words if c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf"))
    return unicodedata.normalize("NFC", " ".join("".join(shown).split()))


def gloss_key(gloss: str) -> str:
    """The same for all spellings of a gloss: in any case, with any space, in any composition."""
    return unicodedata.normalize("NFC", plain_gloss(gloss).casefold())


def one_spelling(glosses: Iterable[str], what: str = "gloss") -> tuple[dict[str, str], list[str]]:
    """The spelling to use for each gloss, by its key: the most frequent one, of equals the first.

    `idle` stays so. And a line for people about each gloss (or `what` these are) that has others.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for gloss in glosses:
        counts[gloss_key(gloss)][plain_gloss(gloss)] += 1
    chosen = {key: IDLE if key == IDLE else c.most_common(1)[0][0] for key, c in counts.items()}
    lines = []
    for key, spelled in counts.items():
        if others := sorted(spelled.keys() - {chosen[key]}):
            lines.append(f"one {what}, {chosen[key]}: also written {', '.join(others)}")
    return chosen, lines
