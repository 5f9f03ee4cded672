"""The recogniser's end of a worker's link: its windows to the batcher, the answers back to it.

remote_batcher -> link, slots -> [window_desk] -> batcher

Pictures are copied out of their slots at once. An encoder keeps frames for the windows to come,
and a frame must stay what it was, whatever the worker writes next.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Container, Mapping
from typing import Any

from models.schema import Clip, EncoderSpec, Frame, Prediction
from streaming.answering import Answering
from streaming.video_decoder import DecoderSettings
from streaming.workers.link import Link, Note
from streaming.workers.slots import FrameSlots
from streaming.workers.wire import fault_kind, frame_from, prediction_fields

MAX_PIXELS = DecoderSettings().max_pixels  # of a picture; the worker's decoder sees to it


class WindowDesk:
    """For the streams of one worker; `streams` are those it may speak for.

    Bound: of each stream the frames of its newest window, the same objects from one window to the
    next, so that an encoder can tell what it has seen already.

    Raises (from `window` and `forget`):
        KeyError, TypeError, ValueError: the note is none of ours.
    """

    def __init__(
        self,
        link: Link,
        slots: FrameSlots,
        answering: Answering,
        spec: EncoderSpec,
        streams: Container[str],
    ) -> None:
        self._link = link
        self._slots = slots
        self._answering = answering
        self._spec = spec
        self._streams = streams
        self._frames: dict[str, dict[int, Frame]] = {}  # by stream, by number

    def window(self, note: Note) -> None:
        """Take a window in: hand its slots back, with the hop of now, and submit it."""
        fields, stream = note.fields, note.fields["stream"]
        new = {one["number"]: self._take(one) for one in fields["new"]}
        slots = [slot for one in fields["new"] for slot in one["slots"]]
        self._link.send("taken", slots=slots, added_hop_s=self._answering.added_hop_s)
        if stream not in self._streams:
            return  # it has just ended here
        known = self._frames.get(stream, {}) | new
        if len(fields["frames"]) != self._spec.frames:
            raise ValueError(f"a window of {len(fields['frames'])} frames")
        self._frames[stream] = {number: known[number] for number in fields["frames"]}
        clip = Clip(
            stream=stream,
            frames=tuple(known[number] for number in fields["frames"]),
            start_s=float(fields["start_s"]),
            end_s=float(fields["end_s"]),
        )
        deadline_s = asyncio.get_running_loop().time() + float(fields["within_s"])
        answer = self._answering.submit(clip, deadline_s)
        answer.add_done_callback(functools.partial(self._tell, stream, int(fields["window"])))

    def forget(self, stream: str) -> None:
        """A stream of the worker has ended."""
        if self._frames.pop(stream, None) is not None:
            self._answering.forget(stream)

    def close(self) -> None:
        """The worker has ended, and its streams with it."""
        for stream in list(self._frames):
            self.forget(stream)

    def _take(self, fields: Mapping[str, Any]) -> Frame:
        height, width = fields["size"]
        if height * width > MAX_PIXELS:
            raise ValueError(f"a picture of {width}x{height}")
        return frame_from(fields, self._slots.read(fields["slots"], height, width))

    def _tell(self, stream: str, window: int, answer: asyncio.Future[Prediction]) -> None:
        if answer.cancelled():  # its stream has ended
            return
        error = answer.exception()
        if error is not None:
            self._link.send("answer", stream=stream, window=window, fault=fault_kind(error))
        else:
            said, rows = prediction_fields(answer.result())
            self._link.send("answer", rows, stream=stream, window=window, said=said)
