"""Recognisers that fail in the ways that a device can."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from models.faults import NotANumber, OutOfMemory
from models.schema import Clip, Prediction
from streaming.bench.standin import StandIn

PATIENT_S = 30.0


class Faulty(StandIn):
    """Raises `fault` in place of each answer, as long as there is one; warms up all the same."""

    def __init__(self, fault: Exception | None, device: str = "cpu") -> None:
        super().__init__()
        self.fault, self.device = fault, device

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        if self.fault is not None:
            raise self.fault
        return super().recognise(clips)


class Small(StandIn):
    """Has the memory for `most` clips at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sizes = most, list[int]()

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        self.sizes.append(len(clips))
        if len(clips) > self.most:
            raise OutOfMemory
        return super().recognise(clips)


class Blind(StandIn):
    """Has no number for the streams in `to`."""

    def __init__(self, *to: str) -> None:
        super().__init__()
        self.to = to

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        answers = super().recognise(clips)
        if any(clip.stream in self.to for clip in clips):
            raise NotANumber([None if one.stream in self.to else one for one in answers])
        return answers


class Hanging(StandIn):
    """Hangs in its first batch until `leave` is set."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.device = device
        self.entered, self.leave = threading.Event(), threading.Event()

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        self.entered.set()
        assert self.leave.wait(PATIENT_S)
        return super().recognise(clips)
