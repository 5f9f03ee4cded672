"""The worker's end of the way to the recogniser: windows out over a link, answers back.

recognition -> [remote_batcher] -> link, slots -> window_desk -> batcher

Only frames that the other end has not got cross, by shared memory; a window names all of its
frames by number.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

from models.schema import Clip, Frame, Prediction
from streaming.answering import Replaced
from streaming.workers.link import Link, Note
from streaming.workers.slots import FrameSlots, SlotPool
from streaming.workers.wire import fault_from, frame_fields, prediction_from


@dataclass(slots=True)
class _Waiting:
    clip: Clip
    deadline_s: float
    answer: asyncio.Future[Prediction]


@dataclass(slots=True)
class _Stream:
    """What the other end has of a stream: the frames of the window sent last."""

    sent: dict[int, tuple[int, Frame]] = field(default_factory=dict)  # id(frame) -> number, frame
    answers: dict[int, asyncio.Future[Prediction]] = field(default_factory=dict)  # by the window's


class RemoteBatcher:
    """Implements `streaming.answering.Answering`.

    A window waits here only while too few slots are free, and a newer one of its stream replaces
    it. One with more new frames than fit all slots together sends the newest that do; the others
    repeat the oldest of these, as ticks without a frame do.
    """

    def __init__(self, link: Link, pool: SlotPool, slots: FrameSlots) -> None:
        self.added_hop_s = 0.0  # as told with the last window taken
        self._link = link
        self._pool = pool
        self._slots = slots
        self._waiting: dict[str, _Waiting] = {}
        self._streams: dict[str, _Stream] = {}
        self._numbers = itertools.count()

    def submit(self, clip: Clip, deadline_s: float) -> asyncio.Future[Prediction]:
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        older = self._waiting.pop(clip.stream, None)
        if older is not None:
            deadline_s = min(deadline_s, older.deadline_s)
            _fail(older.answer, Replaced())
        self._waiting[clip.stream] = _Waiting(clip, deadline_s, answer)
        self._send_what_fits()
        return answer

    def forget(self, stream: str) -> None:
        waiting = self._waiting.pop(stream, None)
        if waiting is not None:
            waiting.answer.cancel()
        sent = self._streams.pop(stream, None)
        if sent is not None:
            for answer in sent.answers.values():
                answer.cancel()
            self._link.send("forget", stream=stream)

    def taken(self, note: Note) -> None:
        """The other end has copied the frames out of some slots."""
        self.added_hop_s = float(note.fields["added_hop_s"])
        self._pool.give(note.fields["slots"])
        self._send_what_fits()

    def answered(self, note: Note) -> None:
        """The other end answers a window, or says why there is no answer."""
        stream = self._streams.get(note.fields["stream"])
        answer = stream.answers.pop(note.fields["window"], None) if stream else None
        if answer is None or answer.done():
            return
        if (fault := note.fields.get("fault")) is not None:
            _fail(answer, fault_from(fault))
        else:
            answer.set_result(prediction_from(note.fields["said"], note.rows))

    def _send_what_fits(self) -> None:
        """By deadline: what waits longest goes first, and nothing overtakes it."""
        for waiting in sorted(self._waiting.values(), key=lambda one: one.deadline_s):
            if not waiting.answer.cancelled() and not self._send(waiting):
                return
            del self._waiting[waiting.clip.stream]

    def _send(self, waiting: _Waiting) -> bool:
        clip = waiting.clip
        stream = self._streams.setdefault(clip.stream, _Stream())
        new = [one for one in dict.fromkeys(clip.frames) if id(one) not in stream.sent]
        needs = [self._slots.needs(frame.image) for frame in new]
        while sum(needs) > self._pool.count:
            del new[0], needs[0]
        slots = self._pool.take(sum(needs))
        if slots is None:
            return False
        told = []
        for frame, count in zip(new, needs, strict=True):
            number, theirs, slots = next(self._numbers), slots[:count], slots[count:]
            self._slots.write(theirs, frame.image)
            stream.sent[id(frame)] = number, frame
            told.append({"number": number, "slots": theirs, **frame_fields(frame)})
        frames = _held([stream.sent.get(id(frame)) for frame in clip.frames])
        stream.sent = {id(frame): (number, frame) for number, frame in frames}
        window = next(self._numbers)
        stream.answers[window] = waiting.answer
        self._link.send(
            "window",
            stream=clip.stream,
            window=window,
            start_s=clip.start_s,
            end_s=clip.end_s,
            within_s=waiting.deadline_s - asyncio.get_running_loop().time(),
            new=told,
            frames=[number for number, _ in frames],
        )
        return True


def _held(frames: list[tuple[int, Frame] | None]) -> list[tuple[int, Frame]]:
    """In place of each frame that was not sent, the next one that was. The newest always is."""
    held: list[tuple[int, Frame]] = []
    for sent in reversed(frames):
        held.append(sent or held[-1])
    return held[::-1]


def _fail(answer: asyncio.Future[Prediction], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # told or not, nobody must be warned of it
