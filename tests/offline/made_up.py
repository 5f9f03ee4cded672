"""Outcomes of clips, made up, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from offline.scoring.outcomes import Outcomes


def outcomes(
    right: Sequence[bool], groups: Sequence[str] | None = None, first: int = 0, glosses: int = 7
) -> Outcomes:
    """Clips `first`, `first + 1`, … of one gloss after the other; a wrong answer is the next one,
    and the right gloss then comes third."""
    count = len(right)
    numbers = [str(first + i) for i in range(count)]
    labels = (np.arange(count) + first) % glosses
    ok = np.array(right)
    return Outcomes(
        glosses=tuple(f"gloss {i}" for i in range(glosses)),
        video_ids=tuple(numbers),
        videos=tuple(f"{number}.mp4" for number in numbers),
        groups=tuple(groups or (f"video:{number}" for number in numbers)),
        folds=(0,) * count,
        labels=labels,
        answers=np.where(ok, labels, (labels + 1) % glosses),
        ranks=np.where(ok, 0, 2),
        sure=np.where(ok, 0.9, 0.4),
    )
