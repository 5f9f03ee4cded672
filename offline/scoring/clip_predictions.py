"""What a head predicts for a stored clip, by the windows that the live half would cut from it.

    rows (T, D) -> a window every hop -> [head] -> logits -> `Prediction`s -> the clip's prediction

Before the clip's start its first row is repeated, as `models.window` does. Embeddings that do not
have one row a frame are those of windows already: of one, or of several that were spread over it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.classifier import softmax
from models.decoder import clip_probabilities
from models.landmarks.layout import at_rest
from models.schema import EncoderSpec, Prediction
from offline.data.examples import Example

_BATCH = 256  # windows at once
_STEPS = 2**14  # rows at once: attention over all tokens of a clip takes much memory
_HELD_S = 1.5  # as long as the page is watched after a clip in the tests


def by_windows(spec: EncoderSpec) -> bool:
    """True when stored rows are one a frame, so that windows can be cut out of them."""
    return spec.kind == "landmarks"


def middle_rows(
    rows: NDArray[np.float32], spec: EncoderSpec, windows: int = 1
) -> NDArray[np.float32]:
    """The window in the middle of a clip's rows; all rows if fewer. windows: see `Example`."""
    if not by_windows(spec):
        steps = len(rows) // windows
        return rows[windows // 2 * steps :][:steps]
    start = max(0, (len(rows) - spec.frames) // 2)
    return rows[start : start + spec.frames]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowOutputs:
    """What a head computes for the N windows of a clip."""

    ends: NDArray[np.int64]  # (N,) the row at which each ends
    logits: NDArray[np.float32]  # (N, K)
    embeddings: NDArray[np.float32]  # (N, E), unit rows


def window_outputs(
    head: nn.Module,
    rows: NDArray[np.float32],
    spec: EncoderSpec,
    hop_s: float,
    windows: int = 1,
    choose: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> WindowOutputs:
    """Run the head, where it is, on each window of a clip of rows (T, D); see `Example.windows`.

    Of windows cut out of rows only on those for which `choose`, given their ends (N,), is true.
    """
    if by_windows(spec):
        steps = rows_of_windows(len(rows), spec, hop_s)
        if choose is not None:
            steps = steps[choose(steps[:, -1])]
        ends, rows = steps[:, -1], rows[steps]  # N, T, D
    else:
        rows = rows.reshape(windows, -1, rows.shape[1])
        ends = np.arange(1, windows + 1) * rows.shape[1] - 1
    most = max(1, min(_BATCH, _STEPS // rows.shape[1]))
    device = next((weight.device for weight in head.parameters()), None)
    with torch.inference_mode():
        parts = [
            head(part.to(device), torch.ones(part.shape[:2], dtype=torch.bool, device=device))
            for part in torch.split(torch.from_numpy(rows), most)
        ]
    return WindowOutputs(
        ends=ends,
        logits=torch.cat([part.logits for part in parts]).numpy(force=True),
        embeddings=torch.cat([part.embedding for part in parts]).numpy(force=True),
    )


def rows_of_windows(rows: int, spec: EncoderSpec, hop_s: float) -> NDArray[np.int64]:
    """(N, frames) Which of a clip's rows each window shows; before the first one it is repeated."""
    ends = np.arange(0, rows, _hop_rows(spec, hop_s))
    return (ends[:, None] - np.arange(spec.frames - 1, -1, -1)).clip(min=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipLogits:
    """A clip, and the logits of its windows by the heads of the fold in which it was tested."""

    example: Example
    fold: int
    logits: NDArray[np.float32]  # (N, K)
    held: NDArray[np.float32] | None = None  # (M, K) of `hold_end`'s windows, for the sign decoder


def hold_end(rows: NDArray[np.float32], spec: EncoderSpec) -> NDArray[np.float32]:
    """Rows (T, D) of a clip with its last row held: clips end with their sign, a camera goes on."""
    if not by_windows(spec):
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], round(_HELD_S * spec.fps), axis=0)])


def clip_logits(
    head: nn.Module, example: Example, fold: int, spec: EncoderSpec, hop_s: float
) -> ClipLogits:
    """The logits of a clip's windows, and of those while its end is held."""
    rows = example.rows
    logits = window_outputs(head, hold_end(rows, spec), spec, hop_s, example.windows).logits
    count = len(range(0, len(rows), _hop_rows(spec, hop_s))) if by_windows(spec) else len(logits)
    return ClipLogits(example=example, fold=fold, logits=logits[:count], held=logits[count:])


def predictions(
    logits: NDArray[np.float32],
    glosses: int,
    spec: EncoderSpec,
    hop_s: float,
    temperature: float = 1.0,
    rows: NDArray[np.float32] | None = None,
) -> list[Prediction]:
    """Logits (N, K) of a clip's windows as the recogniser's predictions.

    With the clip's `rows` (T, D) they say when the hands rest, which the sign decoder uses.
    """
    hop = _hop_rows(spec, hop_s)
    resting: Sequence[bool | None] = [None] * len(logits)
    if rows is not None and by_windows(spec):
        ends = range(1, len(rows) + 1, hop)
        resting = [at_rest(rows[max(0, end - spec.frames) : end], spec.fps) for end in ends]
    hop_s = hop / spec.fps
    return [
        Prediction(
            stream="",
            probabilities=row[:glosses],
            idle=float(row[glosses]) if len(row) > glosses else 0.0,
            attention=np.zeros(0, np.float32),
            start_s=i * hop_s - spec.window_s,
            end_s=i * hop_s,
            resting=resting[i],
        )
        for i, row in enumerate(softmax(logits, temperature))
    ]


def predict_clip(
    logits: NDArray[np.float32], glosses: int, spec: EncoderSpec, hop_s: float, temperature: float
) -> NDArray[np.float32]:
    """Probabilities (G,) of the glosses for a whole clip, from its windows' logits (N, K)."""
    return clip_probabilities(predictions(logits, glosses, spec, hop_s, temperature))


def _hop_rows(spec: EncoderSpec, hop_s: float) -> int:
    return max(1, math.ceil(hop_s * spec.fps - 1e-6))
