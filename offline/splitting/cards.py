"""Clips cut across: a title card, or another scene, stands between their pictures.

    index.csv -> [examples] + [fingerprints] -> [cards] -> options: what is learnt and scored

Where clips were cut out of a film by times that are off, the card before the next sign is in them,
and often that sign too: such a clip does not show what its label says, or the word stands in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from offline.examples import Example
from offline.labels import IDLE
from offline.splitting.fingerprints import STEP_S, Fingerprint

_FAR = 50.0  # grey levels from the clip's middle picture, cell by cell, that no signer moves
_LONG_S = 0.15  # shorter is a black picture at a cut, as the first one of many clips
_NAMED = 10  # videos that are told by their ids


def card_s(clip: Fingerprint) -> float:
    """For how many seconds of a clip something else than its scene is shown."""
    cells = clip.astype(np.float32)
    away = np.abs(cells - np.median(cells, axis=0)).mean(axis=1)
    return float((away > _FAR).sum() * STEP_S)


def with_cards(
    examples: Sequence[Example],
    prints: Mapping[str, Fingerprint],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Example]:
    """`examples`, those of signs that show a card marked, and said in a line."""
    far = {name for name, clip in prints.items() if card_s(clip) > _LONG_S}
    marked = [replace(e, card=e.video_id in far and e.gloss != IDLE) for e in examples]
    if names := sorted({e.video_id for e in marked if e.card}):
        more = ", ..." if len(names) > _NAMED else ""
        progress(
            f"a title card, or another scene, stands between the pictures of {len(names)} of the "
            f"videos: {', '.join(names[:_NAMED])}{more}"
        )
    return marked
