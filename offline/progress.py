"""Tells how a training is going, while it goes: steps and losses in, lines and events out."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """Tells of the loss: on a terminal twice a second, to TensorBoard each step."""

    def __init__(self, tensorboard: str | None) -> None:
        self._board = _board(tensorboard)
        self._told = 0.0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        if self._board is not None:
            self._board.add_scalar("loss", loss, step)
        if sys.stderr.isatty() and (time.monotonic() - self._told > 0.5 or step == steps):
            self._told = time.monotonic()
            end = "\n" if step == steps else ""
            print(f"\rstep {step}/{steps}  loss {loss:.3f} ", end=end, file=sys.stderr, flush=True)


def _board(folder: str | None) -> Any:
    """TensorBoard's writer to `folder`; None without one."""
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as exc:
        raise ValueError("--tensorboard needs a package: pip install tensorboard") from exc
    return SummaryWriter(folder)
