"""The signs that a model knows, as a person looks for them: by theme, by word, the surest first.

    bundle's card, themes.json -> [known_signs] -> demo

known_signs.js does the same for the page, from the same themes.json.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

_FEW = 12  # so many can be looked through: no themes, no search, none to try first
_FIRST = 10  # to try first
_FEWEST = 3  # of a theme: fewer stand with the other signs
_WEAK = 2, 3  # a sign that is read right less often is weak
_Z = 1.96  # of a 95 % interval
_PART = 3  # letters: fewer name no theme, no part of a word, and are no word without its ending
_ENDINGS = (("s", ""), ("es", ""), ("ies", "y"), ("ied", "y"), ("ed", ""), ("ing", ""))


class KnownSigns:
    """`card` is the bundle's; its `metrics.cross_validation.per_gloss` and `data.same_sign` may be
    missing."""

    def __init__(self, glosses: Sequence[str], card: Mapping[str, Any]) -> None:
        table = json.loads(Path(__file__).with_name("themes.json").read_text(encoding="utf-8"))
        self._themes: dict[str, list[str]] = table["themes"]
        same = [
            [_fold(word) for word in (gloss, *words)]
            for gloss, words in _within(card, "data", "same_sign").items()
            if isinstance(words, list) and all(isinstance(word, str) for word in words)
        ]
        self._synonyms: list[list[str]] = [*table["synonyms"], *same]
        self.glosses = sorted(glosses, key=_fold)
        scores = _within(card, "metrics", "cross_validation", "per_gloss")
        self._scores: dict[str, list[int]] = {
            gloss: scores[gloss] for gloss in glosses if _is_score(scores.get(gloss))
        }

    @property
    def few(self) -> bool:
        return len(self.glosses) < _FEW

    @property
    def surest(self) -> list[str]:
        """The signs to try first: those that are surest to be recognised."""
        known = [] if self.few else [gloss for gloss in self._scores if not self.is_weak(gloss)]
        return sorted(known, key=lambda g: (-_sureness(*self._scores[g]), _fold(g)))[:_FIRST]

    @property
    def weak(self) -> list[str]:
        return [gloss for gloss in self.glosses if self.is_weak(gloss)]

    def is_weak(self, gloss: str) -> bool:
        right, clips = self._scores.get(gloss, (0, 0))
        return _WEAK[1] * right < _WEAK[0] * clips

    def score(self, gloss: str) -> str:
        """ "2 of 7", or nothing where it was not measured."""
        return " of ".join(str(number) for number in self._scores.get(gloss, ()))

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Themes and their glosses; one without a name where there are few."""
        if self.few:
            return {"": self.glosses}
        named = {
            theme: [gloss for gloss in self.glosses if _fold(gloss) in words]
            for theme, words in self._themes.items()
        }
        groups = {theme: glosses for theme, glosses in named.items() if len(glosses) >= _FEWEST}
        placed = {gloss for glosses in groups.values() for gloss in glosses}
        other = [gloss for gloss in self.glosses if gloss not in placed]
        return {**groups, "Other signs": other} if other else groups

    def find(self, text: str) -> list[str]:
        """The glosses that `text`, or else the word that it is a form of, stands for."""
        sought = _fold(text)
        words = [
            sought.removesuffix(end) + instead
            for end, instead in _ENDINGS
            if sought.endswith(end) and len(sought) >= len(end) + _PART
        ]
        return next((found for word in (sought, *words) if (found := self._named(word))), [])

    def _named(self, word: str) -> list[str]:
        """Glosses with a name that begins with `word`, or else of a theme that does, or else that
        contain it."""

        found = [gloss for gloss in self.glosses if _begins(self._names(gloss), [word])]
        if found or len(word) < _PART:
            return found
        words = [word, *self._same(word)]
        themed = {
            gloss
            for name, glosses in self.groups.items()
            if _begins([_fold(name)], words)
            for gloss in glosses
        }
        return [gloss for gloss in self.glosses if gloss in themed] or [
            gloss for gloss in self.glosses if word in _fold(gloss)
        ]

    def _names(self, gloss: str) -> list[str]:
        """The words by which it is found."""
        name = _fold(gloss)
        return [name, *self._same(name)]

    def _same(self, word: str) -> list[str]:
        """The words that stand for the same as `word`."""
        return [other for same in self._synonyms if word in same for other in same]


def _begins(names: Sequence[str], words: Sequence[str]) -> bool:
    """Whether a word of a name begins with one of `words`."""
    return any(f" {word}" in f" {name}" for name in names for word in words)


def _fold(text: str) -> str:
    """Without accents, case and spaces at the ends."""
    letters = unicodedata.normalize("NFD", text)
    plain = "".join(one for one in letters if not unicodedata.category(one).startswith("M"))
    return " ".join(plain.lower().split())


def _within(value: Any, *names: str) -> Mapping[str, Any]:
    """The object at the end of a path of names; an empty one where something else stands."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _is_score(score: object) -> bool:
    match score:
        case [int(right), int(clips)]:
            return 0 <= right <= clips and clips > 0
    return False


def _sureness(right: int, clips: int) -> float:
    """Lower end of the Wilson interval: 14 of 15 is surer than 3 of 3."""
    share = right / clips
    spread = _Z * math.sqrt(share * (1 - share) / clips + (_Z / (2 * clips)) ** 2)
    return (share + _Z**2 / (2 * clips) - spread) / (1 + _Z**2 / clips)
