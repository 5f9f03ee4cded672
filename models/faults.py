"""What fails while windows are recognised, told apart by what may be hoped for next.

    RecognitionError        these windows are not answered; the next ones may be
    ├── OutOfMemory         fewer windows at once may fit
    ├── NotANumber          some windows have no answer, the others of the batch have theirs
    ├── Stuck               the device does not answer in time; it may come back
    └── DeviceLost          the device answers no more, until the server starts anew

Whatever else comes out of a recogniser is a fault of ours, and treated as a RecognitionError.

Each says what a signer is told: one sentence, nothing of the machine. What happened belongs into
the cause, for the log: `raise OutOfMemory from exc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from models.schema import Prediction


class RecognitionError(Exception):
    """Windows that could not be answered. `kind` names it in counts, `str()` to the signer."""

    kind: ClassVar[str] = "other"
    sentence: ClassVar[str] = "This moment could not be read; the next one may be."

    def __str__(self) -> str:
        return self.sentence


class OutOfMemory(RecognitionError):
    """The device had no memory for a batch of this size. The model is whole."""

    kind = "out_of_memory"
    sentence = "This moment could not be read: the recogniser's memory is full."


class NotANumber(RecognitionError, ArithmeticError):
    """The model gave something that is not a number for some of a batch's clips.

    `predictions` is in the order of the clips: None where there is none.
    """

    kind = "not_a_number"
    sentence = "The recogniser has no answer for this moment; it may have one for the next."

    def __init__(self, predictions: Sequence[Prediction | None] = ()) -> None:
        super().__init__()
        self.predictions = tuple(predictions)


class Stuck(RecognitionError):
    """The device has not answered a batch in the time allowed."""

    kind = "stuck"
    sentence = "The recogniser does not answer. It may come back."


class DeviceLost(RecognitionError):
    """The device, or its driver, is gone: an error that every later call would meet again."""

    kind = "device_lost"
    sentence = "The recogniser has stopped working; the server must be started anew."


WindowResult = Prediction | RecognitionError  # to a window of a batch
