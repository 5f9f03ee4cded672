"""Made-up outcomes of clips."""

from __future__ import annotations

from collections.abc import Sequence

from offline.scoring.outcomes import ClipOutcome, Outcomes


def outcomes(
    right: Sequence[bool], groups: Sequence[str] | None = None, first: int = 0, glosses: int = 7
) -> Outcomes:
    """Clips `first`, `first + 1`, … of one gloss after the other; a wrong answer is the next one,
    and the right gloss then comes third."""
    return Outcomes(
        glosses=tuple(f"gloss {i}" for i in range(glosses)),
        clips=tuple(
            ClipOutcome(
                video_id=str(number),
                video=f"{number}.mp4",
                gloss=f"gloss {number % glosses}",
                signer=groups[number - first] if groups else f"video:{number}",
                fold=0,
                predicted=f"gloss {(number + (not ok)) % glosses}",
                p=0.9 if ok else 0.4,
                rank=1 if ok else 3,
            )
            for number, ok in enumerate(right, first)
        ),
    )
