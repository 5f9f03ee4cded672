"""What a stream of the demo has to show: told by the engine's loop, looked at by the page's script.

Safe from any thread, and nobody waits: every call copies a little and returns.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.schema import Frame
from streaming.messages import Message

HISTORY = 200  # signs; the oldest leaves first
_SMALL = 4  # every fourth pixel of every fourth line is enough for a strip of pictures
_WORDS_S = 6.0  # how long a hint or an error stands


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """What there is to show at one moment. Messages are those of `streaming.messages`."""

    signs: tuple[Message, ...]  # in the order of their beginning, the last word on each
    prediction: Message | None  # the newest; None while there is none
    captured_s: float  # monotonic: when the newest picture of its window was due
    came_s: float  # monotonic: when a picture last came
    pictures: tuple[NDArray[np.uint8], ...]  # (h, w, 3) small, of its window, oldest first
    words: str  # what is wrong, or would help

    def delay_s(self, now_s: float) -> float:
        """How old the newest picture behind the prediction is at `now_s`.

        Counted from when it would have come had it been as quick as the quickest since the stream
        began: what holds pictures up before they reach us counts as well.
        """
        return max(0.0, now_s - self.captured_s)


class Display:
    """Bounds: `HISTORY` signs, a small picture for each frame of two windows of `frames`."""

    def __init__(self, frames: int) -> None:
        self._lock = threading.Lock()
        self._signs: dict[int, Message] = {}
        self._forgotten = 0  # signs up to this id
        self._small: deque[tuple[float, NDArray[np.uint8]]] = deque(maxlen=2 * frames)
        self._prediction: Message | None = None
        self._captured_s = -math.inf
        self._came_s = -math.inf
        self._early_s = math.inf  # least of arrival - media time since the stream began
        self._words = ""
        self._words_until_s = -math.inf

    def look(self) -> StreamState:
        """What there is to show now."""
        with self._lock:
            said = self._prediction
            window = said["window"] if said else {"start_s": 0.0, "end_s": 0.0}
            return StreamState(
                signs=tuple(self._signs.values()),
                prediction=said,
                captured_s=self._captured_s,
                came_s=self._came_s,
                pictures=tuple(
                    small
                    for media_s, small in self._small
                    if window["start_s"] < media_s <= window["end_s"]
                ),
                words=self._words if time.monotonic() < self._words_until_s else "",
            )

    def arrived(self, media_s: float, arrival_s: float) -> None:
        """A picture came, whether or not a window will use it."""
        with self._lock:
            self._came_s = arrival_s
            self._early_s = min(self._early_s, arrival_s - media_s)

    def keep(self, frame: Frame) -> None:
        """A window will use this frame."""
        small = frame.image[::_SMALL, ::_SMALL].copy()
        with self._lock:
            self._small.append((frame.media_s, small))

    def hear(self, message: Message) -> None:
        """What the recognition says."""
        with self._lock:
            match message["type"]:
                case "prediction" if self._early_s < math.inf:  # else of a stream that ended
                    self._prediction = message
                    self._captured_s = message["window"]["end_s"] + self._early_s
                case "sign" if message["id"] > self._forgotten:
                    self._signs[message["id"]] = message
                    if len(self._signs) > HISTORY:
                        del self._signs[next(iter(self._signs))]
                case "hint":
                    self._say(message["text"], _WORDS_S)
                case "error":
                    self._say(message["message"], _WORDS_S)

    def fail(self, words: str) -> None:
        """Say for good what is wrong."""
        with self._lock:
            self._say(words, math.inf)

    def pause(self) -> None:
        """The stream ended: only the signs stay."""
        with self._lock:
            self._prediction = None
            self._early_s = math.inf
            self._small.clear()

    def forget_signs(self) -> None:
        """Empty the history. What is yet to be told of a sign in it is not shown either."""
        with self._lock:
            self._forgotten = max(self._signs, default=self._forgotten)
            self._signs.clear()

    def buffers(self) -> dict[str, tuple[float, float]]:
        """How full each buffer is, and its bound, by name."""
        return {
            "signs": (len(self._signs), HISTORY),
            "small_pictures": (len(self._small), self._small.maxlen or 0),
        }

    def _say(self, words: str, for_s: float) -> None:
        self._words = words
        self._words_until_s = time.monotonic() + for_s
