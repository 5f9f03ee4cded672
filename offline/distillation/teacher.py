"""What a student shall say of each picture: a teacher's stored rows at the student's ticks.

    index.csv + .npy -> [teacher] -> a target a tick -> [student]

A teacher that gives a row a frame tells of its whole video, another one of the window in the middle
(see `offline.encoding.embedder`). What it does not tell is NaN, and not learnt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout
from models.schema import EncoderSpec
from offline.encoding.embedder import row_a_frame

Rows = NDArray[np.float32]


def check_teacher(spec: EncoderSpec) -> None:
    """Raise ValueError when rows of this encoder can't be laid along time."""
    if spec.kind == "vjepa2-tokens":
        raise ValueError("a teacher of single tokens: encode with vjepa2:PATH, a row a time step")


def tick_targets(rows: Rows, spec: EncoderSpec, ticks: int, fps: float) -> Rows:
    """(`ticks`, D) What rows (T, D) of the teacher `spec` say of each tick of a video at `fps`.

    Between two rows in a straight line; NaN where the teacher was not looking, or saw nothing.
    """
    if row_a_frame(spec):
        first_s, step_s = 0.0, 1 / spec.fps
    else:
        total = round(ticks * spec.fps / fps)  # the teacher's own ticks
        lead = (total - spec.frames) // 2 if total > spec.frames else total - spec.frames
        step_s = spec.window_s / len(rows)
        first_s = lead / spec.fps + (step_s - 1 / spec.fps) / 2  # the middle of what a row shows
    known = _unseen_as_nan(rows) if spec.kind == "landmarks" else rows
    at = (np.arange(ticks) / fps - first_s) / step_s
    inside = (at >= -0.5) & (at <= len(rows) - 0.5)
    at = at.clip(0, len(rows) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(rows) - 1)
    part = (at - low)[:, None].astype(np.float32)
    between = np.where(part > 0, (1 - part) * known[low] + part * known[high], known[low])
    targets: Rows = np.where(inside[:, None], between, np.nan).astype(np.float32)
    return targets


def mirrored_targets(targets: Rows, spec: EncoderSpec) -> Rows | None:
    """The targets of the mirrored pictures; None where nobody can tell from the rows."""
    return layout.mirrored(targets) if spec.kind == "landmarks" else None


def _unseen_as_nan(rows: Rows) -> Rows:
    """Landmarks that were not found are zeros; whether a hand was seen is always told."""
    known = np.where(rows == 0, np.float32(np.nan), rows)
    known[:, layout.SEEN] = rows[:, layout.SEEN]
    return known
