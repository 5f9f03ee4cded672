"""What was told of clips, and how soon: behind `offline.promptness`.

signs told + [ends] -> figures
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.schema import Sign
from offline.ends import SignEnd
from offline.evaluation.scores import mean_of, quantile_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was told of one clip. Times count from the clip's first picture, in seconds."""

    video: str
    gloss: str  # what it shows; "": none that is known
    whole: str  # the answer of the whole clip
    end: SignEnd | None  # None: not asked for
    signs: tuple[tuple[float, Sign], ...]  # each time one was told, and when

    @property
    def finals(self) -> list[tuple[float, Sign]]:
        """The last words, each with when it came."""
        return [(at_s, sign) for at_s, sign in self.signs if sign.final]

    @property
    def right(self) -> bool:
        return any(sign.gloss == self.gloss for _, sign in self.finals)

    @property
    def answer(self) -> tuple[float, Sign] | None:
        """The last word that answers the clip: the last right one, else the surest."""
        rights = [final for final in self.finals if final[1].gloss == self.gloss]
        return rights[-1] if rights else max(self.finals, key=lambda f: f[1].p, default=None)


def figures(heard: Sequence[Heard]) -> dict[str, Any]:
    """What was told of clips of known glosses, and how long after the sign's end, in seconds.

    Raises:
        ValueError: there is no clip, or nothing was told.
    """
    answered = [(one, one.answer) for one in heard if one.answer is not None]
    if not answered:
        raise ValueError("nothing was told of any clip")
    told_of = [one for one, _ in answered]
    return {
        "clips": len(heard),
        "right": _share([one.right for one in heard]),
        "wrong": _share([not one.right and bool(one.finals) for one in heard]),
        "nothing": _share([not one.finals for one in heard]),
        "more_than_one": _share([len(one.finals) > 1 for one in heard]),
        "more_signs": _more_signs(heard),
        "whole_clip_right": _share([one.whole == one.gloss for one in heard]),
        "told": len(told_of),
        "right_of_told": _share([one.right for one in told_of]),
        "whole_clip_right_of_told": _share([one.whole == one.gloss for one in told_of]),
        **{name: quantiles(list(delays)) for name, delays in _delays(answered)},
        "final_before_end": sum(
            at_s < one.end.moved_s for one, (at_s, _) in answered if one.end is not None
        ),
    }


def _delays(
    answered: Sequence[tuple[Heard, tuple[float, Sign]]],
) -> Iterator[tuple[str, Iterator[float]]]:
    """Named lists: from the end to the sign's first message, the first right one, the final one."""
    ended = [(one, one.end, final) for one, final in answered if one.end is not None]

    def first(one: Heard, final: Sign, gloss: str | None) -> Iterator[float]:
        for at_s, sign in one.signs:
            if sign.id == final.id and gloss in (None, sign.gloss):
                yield at_s
                return

    yield "first_s", (t - e.moved_s for o, e, (_, s) in ended for t in first(o, s, None))
    yield "first_right_s", (t - e.moved_s for o, e, (_, s) in ended for t in first(o, s, o.gloss))
    yield "final_s", (at_s - e.moved_s for _, e, (at_s, _) in ended)
    yield "final_from_lowering_s", (at_s - e.lowering_s for _, e, (at_s, _) in ended)
    yield (
        "final_where_after_end_s",
        (at_s - e.moved_s for _, e, (at_s, _) in ended if at_s >= e.moved_s),
    )


def _more_signs(heard: Sequence[Heard]) -> dict[str, int]:
    """Signs told of clips that had been told of already: the same once more, or another."""
    again, other, other_after_end = 0, 0, 0
    for one in heard:
        before: set[str] = set()
        for at_s, sign in one.finals:
            again += sign.gloss in before
            if before and sign.gloss not in before:
                other += 1
                other_after_end += one.end is not None and at_s > one.end.moved_s
            before.add(sign.gloss)
    return {"again": again, "other": other, "other_after_end": other_after_end}


def false_signs(outside: Sequence[Heard], idle_signs: int, idle_s: float) -> dict[str, Any]:
    """What is told where no known gloss is signed: of other signs, and of `idle_s` of nobody's."""
    return {
        "outside": len(outside),
        "outside_taken_for_known": _share([bool(one.signs) for one in outside])
        if outside
        else None,
        "false_signs_per_min": round(60 * idle_signs / idle_s, 2) if idle_s else None,
    }


def _share(hits: Sequence[bool]) -> dict[str, Any]:
    share, interval = mean_of(np.array(hits, np.float64))
    return {"share": round(share, 4), "interval95": [round(x, 4) for x in interval]}


def quantiles(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    found: dict[str, Any] = {"n": len(values)}
    for name, q in (("p50", 0.5), ("p95", 0.95)):
        value, interval = quantile_of(np.array(values), q)
        found[name] = round(value, 3)
        found[f"{name}_interval95"] = [round(x, 3) for x in interval]
    return found


def row(heard: Heard) -> dict[str, Any]:
    """One clip, for the report."""
    return {
        "video": heard.video,
        "gloss": heard.gloss,
        "whole": heard.whole,
        "end_s": None if heard.end is None else round(heard.end.moved_s, 3),
        "told": [
            [round(at_s, 3), s.id, s.gloss, round(s.p, 3), s.final] for at_s, s in heard.signs
        ],
    }
