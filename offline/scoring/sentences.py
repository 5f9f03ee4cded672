"""Made-up sentences: clips of single signs, cut to their sign, joined so that nothing jumps.

    clips of held-out signers -> [sentences] -> joined rows + head -> logits -> sign decoder

Between two signs the hands and the body go in a straight line from the last row of one clip to the
first row of the next, in 2 to 4 ticks: more, the longer the way. A hand that only one of the two
clips shows comes or goes halfway. A second before the first sign and after the last one is kept;
where the clip ends sooner, its last row is held.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.landmarks import layout
from models.schema import EncoderSpec
from offline.data.examples import Example
from offline.scoring.clip_predictions import window_outputs
from offline.scoring.takes import sign_span

MARGINS_S = (0.0, 0.2, 0.5)  # kept on either side of a sign, where the clip has it; 0: hand to hand
SIGNS = (3, 6)  # the shortest and the longest sentence
_ENDS_S = 1.0  # kept before the first and after the last sign: the decoder sees the hands rest
_TICKS = (2, 4)  # between two signs
_STEP = 0.3  # shoulder widths a tick: hands between signs move with about 4 a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """Clips of different glosses, in the order in which they are signed."""

    clips: tuple[Example, ...]

    @property
    def glosses(self) -> tuple[str, ...]:
        return tuple(clip.gloss for clip in self.clips)

    @property
    def one_signer(self) -> bool:
        """True when all clips are of one signer group."""
        return len({clip.group for clip in self.clips}) == 1


def draw_sentences(clips: Sequence[Example], count: int, seed: int) -> list[Sentence]:
    """`count` sentences of 3 to 6 different glosses out of `clips`; none from under 3 glosses.

    Each clip begins the choice of a sentence once before one does again. The other clips are of its
    signer group where that has enough glosses, else of anybody. Clips without a raised hand are
    left out.
    """
    draw = np.random.default_rng(seed)
    usable = sorted(
        (clip for clip in clips if sign_span(clip.rows)[1]), key=lambda clip: clip.video_id
    )
    glosses = len({clip.gloss for clip in usable})
    if glosses < SIGNS[0]:
        return []
    of_group: dict[str, list[Example]] = defaultdict(list)
    for clip in usable:
        of_group[clip.group].append(clip)
    sentences: list[Sentence] = []
    while len(sentences) < count:
        for i in draw.permutation(len(usable))[: count - len(sentences)]:
            first = usable[i]
            length = min(int(draw.integers(SIGNS[0], SIGNS[1] + 1)), glosses)
            own = of_group[first.group]
            pool = own if len({clip.gloss for clip in own}) >= length else usable
            chosen = [first]
            while len(chosen) < length:
                rest = [c for c in pool if c.gloss not in {clip.gloss for clip in chosen}]
                chosen.append(rest[draw.integers(len(rest))])
            order = draw.permutation(length)
            sentences.append(Sentence(clips=tuple(chosen[place] for place in order)))
    return sentences


def sentence_rows(sentence: Sentence, margin_s: float, fps: float) -> NDArray[np.float32]:
    """(T, D) The rows of a sentence, with `margin_s` of rest on either side of each joint."""
    ends, margin = round(_ENDS_S * fps), round(margin_s * fps)
    parts: list[NDArray[np.float32]] = []
    for number, clip in enumerate(sentence.clips, 1):
        rows = clip.rows
        first, last = sign_span(rows)
        before = margin if parts else ends
        after = margin if number < len(sentence.clips) else ends
        part = rows[max(0, first - before) : last + after]
        if parts:
            parts.append(rows_between(parts[-1][-1], part[0]))
        parts.append(part)
        if number == len(sentence.clips):
            parts.append(np.repeat(part[-1:], max(0, last + after - len(rows)), 0))
    return np.concatenate(parts)


def rows_between(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) The rows from row `a` (D,) to row `b`, without these two."""
    both = [piece for piece in (*layout.HANDS, layout.BODY) if a[piece].any() and b[piece].any()]
    ways = [float(np.hypot(*(b[hand] - a[hand])[:2])) for hand in both if hand != layout.BODY]
    ticks = min(max(math.ceil(max(ways, default=0.0) / _STEP - 1e-6), _TICKS[0]), _TICKS[1])
    part = (np.arange(1, ticks + 1, dtype=np.float32) / (ticks + 1))[:, None]
    rows = np.where(part < 0.5, a, b)
    for piece in both:
        rows[:, piece] = a[piece] + part * (b[piece] - a[piece])
    return rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SentenceLogits:
    """A sentence with one margin, and the logits of its windows by the heads of its fold."""

    sentence: Sentence
    margin_s: float
    fold: int
    rows: NDArray[np.float32]  # (T, D)
    logits: NDArray[np.float32]  # (N, K)


def read_sentences(
    head: nn.Module, sentences: Sequence[Sentence], spec: EncoderSpec, hop_s: float
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Joined rows and logits of each sentence with each of `MARGINS_S`, sentence by sentence."""
    found = []
    for sentence in sentences:
        for margin_s in MARGINS_S:
            rows = sentence_rows(sentence, margin_s, spec.fps)
            found.append((rows, window_outputs(head, rows, spec, hop_s).logits))
    return found
