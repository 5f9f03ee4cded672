"""The state of a training on disk, so that one that was cut off goes on where it was.

What goes on ends with the same weights, bit for bit, on the same CPU with as many threads. The file
is replaced whole: after kill -9 it is the one before or the one after.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from offline.training.lessons import TrainClips
from offline.training.recipe import TrainSettings


class Resume:
    """Keeps a training's state in `path`, every `every_s` seconds."""

    def __init__(self, path: Path, every_s: float = 30.0) -> None:
        self.path = path
        self._every_s = every_s
        self._written = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._written >= self._every_s

    def write(self, clips: TrainClips, settings: TrainSettings, state: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(f".{self.path.name}.part")
        torch.save({"of": _of(clips, settings), **state}, scratch)
        os.replace(scratch, self.path)
        self._written = time.monotonic()

    def read(self, clips: TrainClips, settings: TrainSettings) -> dict[str, Any] | None:
        """The state to go on from; None when there is none yet.

        Raises:
            ValueError: it is of another training, or no state at all.
        """
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            other = state["of"] != _of(clips, settings)
        except (OSError, KeyError, TypeError, RuntimeError, EOFError,
                pickle.UnpicklingError) as exc:  # fmt: skip
            raise ValueError(f"{self.path}: no state to resume from; delete it: {exc}") from exc
        if other:
            raise ValueError(
                f"{self.path}: is the state of another training (options, index or torch differ): "
                "delete it, or give another --resume"
            )
        return state


def _of(clips: TrainClips, settings: TrainSettings) -> str:
    """What makes a training another one."""
    parts = (asdict(settings), clips.classes, clips.idle, clips.labels, clips.weights,
             clips.frames, clips.fps, torch.__version__)  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()
