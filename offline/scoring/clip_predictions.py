"""What a head says of a stored clip, by the windows that the live half would have cut from it.

Rows (T, D) -> a window every hop, the first row repeated before the start (as `models.window` does)
-> logits -> `Prediction`s -> the clip's answer. Embeddings that are not one row a frame are taken
whole, as one window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.classifier import softmax
from models.decoder import clip_probabilities
from models.landmarks.rest import at_rest
from models.schema import EncoderSpec, Prediction
from offline.data.examples import Example

_BATCH = 256


def by_windows(spec: EncoderSpec) -> bool:
    """True when stored rows are one a frame, so that windows can be cut out of them."""
    return spec.kind == "landmarks"


def middle_rows(rows: NDArray[np.float32], spec: EncoderSpec) -> NDArray[np.float32]:
    """Of a clip's rows (T, D) the window in its middle; all, if shorter or not one a frame."""
    if not by_windows(spec):
        return rows
    start = max(0, (len(rows) - spec.frames) // 2)
    return rows[start : start + spec.frames]


def window_ends(steps: int, spec: EncoderSpec, hop_s: float) -> NDArray[np.int64]:
    """The step at which each window of a clip of so many steps ends."""
    hop = max(1, math.ceil(hop_s * spec.fps - 1e-6))
    return np.arange(0, steps, hop)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowAnswers:
    """What a head says of the N windows of a clip."""

    ends: NDArray[np.int64]  # (N,) the step at which each ends
    logits: NDArray[np.float32]  # (N, K)
    embeddings: NDArray[np.float32]  # (N, E), unit rows


def window_answers(
    head: nn.Module, rows: NDArray[np.float32], spec: EncoderSpec, hop_s: float
) -> WindowAnswers:
    """The head's answer to each window of a clip of rows (T, D)."""
    ends = np.array([len(rows) - 1])
    if by_windows(spec):
        ends = window_ends(len(rows), spec, hop_s)
        steps = ends[:, None] - np.arange(spec.frames - 1, -1, -1)
        rows = rows[steps.clip(min=0)]  # N, T, D
    else:
        rows = rows[None]
    features = torch.from_numpy(rows)
    with torch.inference_mode():
        parts = [
            head(part, torch.ones(part.shape[:2], dtype=torch.bool))
            for part in torch.split(features, _BATCH)
        ]
    return WindowAnswers(
        ends=ends,
        logits=torch.cat([part.logits for part in parts]).numpy(),
        embeddings=torch.cat([part.embedding for part in parts]).numpy(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A clip, and what the heads of the fold in which it was tested said of its windows."""

    example: Example
    fold: int
    logits: NDArray[np.float32]  # (N, K)


def clip_logits(
    head: nn.Module, rows: NDArray[np.float32], spec: EncoderSpec, hop_s: float
) -> NDArray[np.float32]:
    """Logits (N, K) of the N windows of a clip."""
    return window_answers(head, rows, spec, hop_s).logits


def predictions(
    logits: NDArray[np.float32],
    glosses: int,
    spec: EncoderSpec,
    hop_s: float,
    temperature: float = 1.0,
    rows: NDArray[np.float32] | None = None,
) -> list[Prediction]:
    """Logits (N, K) of a clip's windows as the recogniser would have told them.

    The decoder wants to know when the hands rest: it can be told for the clip's `rows` (T, D).
    """
    resting: Sequence[bool | None] = [None] * len(logits)
    if rows is not None and by_windows(spec):
        ends = window_ends(len(rows), spec, hop_s) + 1
        resting = [at_rest(rows[max(0, end - spec.frames) : end], spec.fps) for end in ends]
    hop_s = max(1, math.ceil(hop_s * spec.fps - 1e-6)) / spec.fps
    nothing = np.zeros(0, np.float32)
    return [
        Prediction(
            stream="",
            probabilities=row[:glosses],
            idle=float(row[glosses]) if len(row) > glosses else 0.0,
            attention=nothing,
            start_s=i * hop_s - spec.window_s,
            end_s=i * hop_s,
            resting=resting[i],
        )
        for i, row in enumerate(softmax(logits, temperature))
    ]


def clip_answer(
    logits: NDArray[np.float32], glosses: int, spec: EncoderSpec, hop_s: float, temperature: float
) -> NDArray[np.float32]:
    """Probabilities (G,) of the glosses for a whole clip."""
    return clip_probabilities(predictions(logits, glosses, spec, hop_s, temperature))
