"""Errors of recognition, by what may still work afterwards.

    RecognitionError        these windows have no prediction; the next ones may have
    ├── OutOfMemory         fewer windows at once may fit
    ├── NotANumber          some windows have no prediction; the others of the batch have theirs
    ├── Stuck               the device does not finish in time; it may come back
    └── DeviceLost          the device does not work again until the server restarts

Any other exception of a recogniser is a bug of ours, and treated as a RecognitionError.

`str()` is one sentence for the signer and says nothing of the machine. What happened belongs into
the cause, for the log: `raise OutOfMemory from exc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from models.schema import Prediction


class RecognitionError(Exception):
    """Windows without a prediction. `kind` is its name in metrics."""

    kind: ClassVar[str] = "other"
    sentence: ClassVar[str] = "This moment could not be read; the next one may be."

    def __str__(self) -> str:
        return self.sentence


class OutOfMemory(RecognitionError):
    """The device had no memory for a batch of this size. The model still works."""

    kind = "out_of_memory"
    sentence = "This moment could not be read: the recogniser's memory is full."


class NotANumber(RecognitionError, ArithmeticError):
    """The model returned NaN or infinity for some clips of a batch.

    `predictions` is in the order of the clips: None where there is none.
    """

    kind = "not_a_number"
    sentence = "The recogniser has no result for this moment; it may have one for the next."

    def __init__(self, predictions: Sequence[Prediction | None] = ()) -> None:
        super().__init__()
        self.predictions = tuple(predictions)


class Stuck(RecognitionError):
    """The device has not finished a batch in the time allowed."""

    kind = "stuck"
    sentence = "The recogniser does not answer. It may come back."


class DeviceLost(RecognitionError):
    """The device or its driver is gone: every later call would fail too."""

    kind = "device_lost"
    sentence = "The recogniser has stopped working; the server must be started anew."


WindowResult = Prediction | RecognitionError  # of one window of a batch
