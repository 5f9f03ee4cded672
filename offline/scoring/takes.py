"""Stored clips in the space of takes: as takes of a sign, and as the background of a bundle.

    rows + head -> [answers] -> a take a clip -> means a class: `EmbeddingSpace.background`

See `models.few_shot` for what takes and background are for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.few_shot import IDLE, unit_length
from models.schema import EncoderSpec
from offline.data.examples import Example, Vocabulary
from offline.scoring.clip_predictions import WindowAnswers, by_windows, window_answers
from offline.training.augment import sign_span

_AFTER_S = 0.5  # a take is read from windows that end no later than this after its sign


def take_windows(
    rows: NDArray[np.float32], ends: NDArray[np.int64], spec: EncoderSpec
) -> NDArray[np.intp]:
    """Which windows of a clip of rows (T, D), ending at steps `ends` (N,), show the whole sign.

    As live, where a person is told when to sign: those that end as the hands come to rest.
    """
    if not by_windows(spec):
        return np.arange(len(ends))
    first, last = sign_span(rows)
    if last <= first:
        return np.array([len(ends) - 1])
    chosen = np.flatnonzero((ends >= last - 2) & (ends <= last + _AFTER_S * spec.fps))
    return chosen if len(chosen) else np.array([len(ends) - 1])


def take(rows: NDArray[np.float32], said: WindowAnswers, spec: EncoderSpec) -> NDArray[np.float32]:
    """(E,) What a clip of rows (T, D) gives as a take."""
    return unit_length(said.embeddings[take_windows(rows, said.ends, spec)].mean(0))


def background(
    head: nn.Module,
    examples: Sequence[Example],
    words: Vocabulary,
    spec: EncoderSpec,
    hop_s: float,
) -> NDArray[np.float32]:
    """(M, E) The mean take of each gloss of `words`, then of the others, then each clip of rest.

    Raises:
        ValueError: a gloss has no clip.
    """
    takes: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    resting = []
    for example in examples:
        named = example.gloss in words.glosses or example.gloss in words.others
        if not named and example.gloss != IDLE:
            continue
        said = window_answers(head, example.rows, spec, hop_s)
        if named:
            takes[example.gloss].append(take(example.rows, said, spec))
        else:
            resting.append(unit_length(said.embeddings.mean(0)))
    missing = [gloss for gloss in words.glosses if gloss not in takes]
    if missing:
        raise ValueError(f"no clip of {', '.join(missing)}")
    means = [unit_length(np.mean(takes[gloss], 0)) for gloss in (*words.glosses, *words.others)]
    return np.stack([*means, *resting])
