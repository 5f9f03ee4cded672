"""An encoder of fixed cost that knows no sign: to test and time everything around it.

    python -m offline.encode --encoder standin:20 …

It waits so many milliseconds a window, and leaves the CPU free meanwhile, as a GPU does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.schema import Clip, Embedding, EncoderSpec, Frame

KIND = "standin"
LOG = "LIVEGLOSS_STANDIN_LOG"  # a file that gets a line for each window that one encodes


def standin_spec(source: str) -> EncoderSpec:
    """The spec of a stand-in that takes `source` milliseconds a window.

    Raises:
        ValueError: that is no number, or a negative one.
    """
    try:
        good = 0 <= float(source) < 1e6
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"write the stand-in as standin:MS, with its milliseconds, not {source!r}")
    return EncoderSpec(
        kind=KIND, source=source, revision="1", dim=3, frames=16, fps=8.0, short_side=292
    )


class StandInEncoder:
    """Implements `models.schema.Encoder`: a row for each frame of the window, its mean colour."""

    device = "cpu"

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec
        self._closed = threading.Event()
        self._log = os.environ.get(LOG)

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        self._closed.wait(len(clips) * float(self.spec.source) / 1000)
        if self._log:
            with open(self._log, "a", encoding="utf-8") as log:
                log.write("".join(f"{clip.stream}\n" for clip in clips))
        return [
            Embedding(
                features=np.stack([_mean(frame) for frame in clip.frames]),
                start_s=clip.start_s,
                end_s=clip.end_s,
            )
            for clip in clips
        ]

    def forget(self, stream: str) -> None:
        """There is nothing to drop."""

    def close(self) -> None:
        self._closed.set()


def _mean(frame: Frame) -> NDArray[np.float32]:
    """(3,) Of every eighth pixel: to look at all would cost more than to decode them."""
    return np.asarray(frame.image[::8, ::8].mean((0, 1), np.float32))
