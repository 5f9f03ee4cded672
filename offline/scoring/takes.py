"""Stored clips as takes of a sign, and as the background of a bundle's few-shot classifier.

    rows + head -> [window outputs] -> a take a clip -> mean a gloss: `EmbeddingSpace.background`

`models.few_shot` says what takes and the background are for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.few_shot import IDLE, unit_length
from models.landmarks.layout import raised
from models.schema import EncoderSpec
from offline.data.examples import Example, Vocabulary
from offline.scoring.clip_predictions import WindowOutputs, by_windows, window_outputs

_AFTER_S = 0.5  # a take's windows end no later than this after its sign
_OTHERS, _TAKES = 150, 8  # of a background: glosses outside the vocabulary, takes of a gloss


def sign_span(rows: NDArray[np.float32]) -> tuple[int, int]:
    """First and one past the last step of rows (T, D) with a hand raised; (0, 0) when none is."""
    steps = np.flatnonzero(raised(rows).any(1))
    return (int(steps[0]), int(steps[-1]) + 1) if len(steps) else (0, 0)


def take(
    rows: NDArray[np.float32], outputs: WindowOutputs, spec: EncoderSpec
) -> NDArray[np.float32]:
    """The embedding (E,) of a clip of rows (T, D) as a take, by the outputs of its windows.

    As live, where the page says when to sign, it is the mean of the windows that show the whole
    sign.
    """
    chosen = outputs.embeddings
    if by_windows(spec):
        chosen = chosen[_show_the_sign(rows, outputs.ends, spec)]
    return unit_length(chosen.mean(0))


def _show_the_sign(
    rows: NDArray[np.float32], ends: NDArray[np.int64], spec: EncoderSpec
) -> NDArray[np.bool_]:
    """(N,) True of the windows of rows (T, D), by where they end, that end as the hands come to
    rest; of the last one if none does.
    """
    first, last = sign_span(rows)
    shown = (ends >= last - 2) & (ends <= last + _AFTER_S * spec.fps) & (last > first)
    return shown if shown.any() else ends == ends[-1]


def background(
    head: nn.Module,
    examples: Sequence[Example],
    vocabulary: Vocabulary,
    spec: EncoderSpec,
    hop_s: float,
) -> NDArray[np.float32]:
    """(M, E) The mean take of each gloss of `vocabulary`, of other glosses, each idle clip.

    Of the other glosses those with the most clips are enough, and of each gloss a few takes.

    Raises:
        ValueError: a gloss has no clip.
    """
    clips = Counter(e.gloss for e in examples)
    others = sorted(vocabulary.others, key=lambda gloss: (-clips[gloss], gloss))[:_OTHERS]
    names = (*vocabulary.glosses, *others)
    takes: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    idle, wanted = [], set(names)
    for example in examples:
        if example.gloss in wanted and len(takes[example.gloss]) < _TAKES:
            rows = example.rows
            chosen = partial(_show_the_sign, rows, spec=spec)
            outputs = window_outputs(head, rows, spec, hop_s, example.windows, chosen)
            takes[example.gloss].append(unit_length(outputs.embeddings.mean(0)))
        elif example.gloss == IDLE:
            outputs = window_outputs(head, example.rows, spec, hop_s, example.windows)
            idle.append(unit_length(outputs.embeddings.mean(0)))
    missing = [gloss for gloss in vocabulary.glosses if gloss not in takes]
    if missing:
        raise ValueError(f"no clip of {', '.join(missing)}")
    return np.stack([*(unit_length(np.mean(takes[gloss], 0)) for gloss in names), *idle])
