"""One session's pipeline from frames to signs, and the takes recorded from its predictions.

ring -> [windows] -> batcher -> [predictions] -> subscribers
                                predictions -> [TakeRecorder] -> the message `take`
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import functools
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.decoder import DecoderSettings, SignDecoder
from models.few_shot import FewShotClassifier, unit_length
from models.schema import Clip, Frame, Prediction, Sign
from models.window import WindowCutter
from streaming.batcher import Batcher, Replaced
from streaming.capacity import Pace
from streaming.captions import MAX_READERS, CaptionFeed
from streaming.hints import Hints
from streaming.messages import (
    ErrorMessage,
    Hint,
    PredictionMessage,
    SettingsChange,
    TakeMessage,
    prediction_message,
    to_sign_message,
)
from streaming.ring import FrameRing
from streaming.settings import SessionSettings
from streaming.subscribers import Subscribers

_AVERAGED_S = 0.5  # a take is the mean of the windows that end in its last so many seconds
_MAX_WINDOWS = 32  # of them


class TakeError(Exception):
    """Nothing usable was recorded; the text says why."""


class TakeRecorder:
    """Records one take at a time, a window long; starting another drops the one under way."""

    def __init__(self, window_s: float, space: str) -> None:
        self._window_s = window_s
        self._space = space  # id of the embedding space
        self._id: str | None = None
        self._start_s = 0.0
        self._embeddings: deque[NDArray[np.float32]] = deque(maxlen=_MAX_WINDOWS)

    def start(self, id: str, now_s: float) -> None:
        """The sign begins about now, in media time."""
        self._id, self._start_s = id, now_s
        self._embeddings.clear()

    def update(self, prediction: Prediction) -> TakeMessage | None:
        """The take, once `prediction` completes it.

        Raises:
            TakeError: it can't be completed any more; the next one can start.
        """
        if self._id is None:
            return None
        end_s = self._start_s + self._window_s
        if not self._start_s - self._window_s <= prediction.end_s <= end_s + self._window_s:
            self._id = None
            raise TakeError("The video stopped during the take. Record it again.")
        if prediction.embedding is not None and prediction.end_s >= end_s - _AVERAGED_S:
            self._embeddings.append(prediction.embedding)
        if prediction.end_s < end_s:
            return None
        id, self._id = self._id, None
        if not self._embeddings:
            raise TakeError("This model has no embeddings, so it can't learn new signs.")
        return TakeMessage(
            id=id,
            space=self._space,
            embedding=pack(unit_length(np.mean(self._embeddings, axis=0))),
            start_s=round(self._start_s, 3),
            end_s=round(prediction.end_s, 3),
        )


def pack(vector: NDArray[np.float32]) -> str:
    """(E,) as the base64 of float16, little-endian."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii")


def unpack(text: str, dim: int) -> NDArray[np.float32]:
    """(dim,) of what `pack` made.

    Raises:
        ValueError: it is something else, or of another length.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a take is not base64") from error
    if len(raw) != 2 * dim:
        raise ValueError(f"a take has {len(raw)} bytes, not the {2 * dim} of {dim} float16")
    return np.frombuffer(raw, "<f2").astype(np.float32)


_UNSENT = 8  # predictions that wait for the loop; the oldest leaves first


@dataclass(frozen=True, slots=True)
class _Result:
    """The prediction of one window, and when it was made."""

    prediction: Prediction
    newest: Frame
    cut_s: float  # monotonic
    done_s: float  # monotonic


class Pipeline:
    """Two tasks, `windows` and `predictions`, both owned and run by the session.

    `dropped_before` returns how many frames were dropped before the ring.

    Bounds: the ring and the window (a window's frames each), one waiting window in the batcher,
    `_UNSENT` predictions.
    """

    def __init__(
        self,
        stream: str,
        *,
        bundle: Bundle,
        ring: FrameRing,
        batcher: Batcher,
        subscribers: Subscribers,
        settings: SessionSettings,
        pace: Pace,
        dropped_before: Callable[[], int],
    ) -> None:
        self.frames = 0  # taken from the ring
        self.frames_s = time.monotonic()  # when frames were last taken
        self.predicted = 0  # predictions
        self.windows_replaced = 0
        self.signs = 0
        self.captions: CaptionFeed | None = None  # for others; None: nobody asked for them
        self._closed = False
        self._stream = stream
        self._ring = ring
        self._batcher = batcher
        self._subscribers = subscribers
        self._pace = pace
        self._dropped_before = dropped_before
        self._goal_s = settings.goal_s
        self._top_k = settings.top_k
        threshold = settings.threshold or bundle.threshold
        self._decoder = SignDecoder(bundle.glosses, DecoderSettings(threshold=threshold))
        self._few_shot = FewShotClassifier(bundle.glosses, bundle.space)
        self._takes = TakeRecorder(bundle.encoder.window_s, bundle.space.id)
        self._newest_s = 0.0  # media time
        self._cutter = WindowCutter(stream, bundle.encoder, pace.base_s)
        self._window_frames = bundle.encoder.frames
        self._hints = Hints()
        self._results: deque[_Result] = deque(maxlen=_UNSENT)
        self._results_came = asyncio.Event()

    @property
    def frames_dropped(self) -> int:
        """Before the ring and in it."""
        return self._dropped_before() + self._ring.dropped

    @property
    def glosses(self) -> tuple[str, ...]:
        """All that it may report: the bundle's glosses, and the taught ones."""
        return self._few_shot.glosses

    async def windows(self) -> None:
        """Cut a window each time one is due, and ask for its prediction."""
        loop = asyncio.get_running_loop()
        while True:
            frames = await self._ring.take()
            self.frames += len(frames)
            self.frames_s = time.monotonic()
            for frame in frames:
                self._cutter.push(frame)
                self._newest_s = frame.media_s
            self._cutter.hop_s = self._pace.base_s + self._pace.added_s
            if self._cutter.due():
                clip = self._cutter.cut()
                future = self._batcher.submit(clip, loop.time() + self._goal_s)
                future.add_done_callback(functools.partial(self._receive, clip, self.frames_s))
            elif not self._pace.added_s:  # else windows leave frames out
                self._batcher.prepare(self._cutter.newest())

    async def predictions(self) -> None:
        """Send each prediction, and the signs, hints and takes that come of it."""
        while True:
            await self._results_came.wait()
            self._results_came.clear()
            while self._results:
                result = self._results.popleft()
                self.predicted += 1
                prediction = self._few_shot.apply(result.prediction)
                build = functools.partial(
                    self._message, self.predicted, result, prediction, self._few_shot.glosses
                )
                self._subscribers.send_prediction(build)
                self._send_hint(self._hints.update(result.newest, prediction.seen))
                self._send_signs(self._decoder.update(prediction))
                self._send_take(prediction)

    def change(self, settings: SettingsChange) -> None:
        """Apply the page's settings from the next prediction on."""
        if settings.threshold is not None:
            self._decoder.settings = dataclasses.replace(
                self._decoder.settings, threshold=settings.threshold
            )
        if settings.top_k is not None:
            self._top_k = int(settings.top_k)

    def start_take(self, id: str) -> None:
        """Record a take of a sign from now on, for the length of a window."""
        self._takes.start(id, self._newest_s)

    def teach(self, gloss: str, takes: NDArray[np.float32]) -> None:
        """Recognise `gloss` by `takes` (n, E) from the next prediction on.

        Raises:
            FewShotError: it can't be learnt; nothing has changed.
        """
        self._few_shot.teach(gloss, takes)
        self._send_signs(self._decoder.set_glosses(self._few_shot.glosses))

    def forget(self, gloss: str) -> None:
        """Recognise a taught sign no more.

        Raises:
            KeyError: it was not taught.
        """
        self._few_shot.forget(gloss)
        self._send_signs(self._decoder.set_glosses(self._few_shot.glosses))

    def show_captions(self, feed: CaptionFeed) -> None:
        """Show the signs to others, too, from the next one on."""
        self.captions = feed
        if self._closed:
            feed.end()

    def clear(self) -> None:
        """Close the sign under way and start over."""
        self._send_signs(self._decoder.flush())

    def close(self) -> None:
        """Drop the frames, the waiting window, and the encoder's state of this stream.

        At once: aiortc's connections are reference cycles, which hold everything that they refer to
        until Python looks for cycles. Sessions that followed each other held 7 MB each for half a
        minute.
        """
        self._closed = True
        if self.captions is not None:
            self.captions.end()
        self._ring.close()
        self._cutter.clear()
        self._results.clear()
        self._batcher.forget(self._stream)

    def buffers(self) -> dict[str, tuple[float, float]]:
        """How full each buffer is, and its bound, by name."""
        return {
            "ring_frames": (len(self._ring), self._ring.capacity),
            "window_frames": (len(self._cutter), self._window_frames),
            "unsent_predictions": (len(self._results), _UNSENT),
            "caption_readers": (len(self.captions.captions) if self.captions else 0, MAX_READERS),
        }

    def _receive(self, clip: Clip, cut_s: float, future: asyncio.Future[Prediction]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, Replaced):
            self.windows_replaced += 1
        elif error is not None:
            message = ErrorMessage("recogniser", str(error))  # a RecognitionError: for the signer
            self._subscribers.send(lambda: message, slot="recogniser error")
        else:
            result = _Result(future.result(), clip.frames[-1], cut_s, time.monotonic())
            self._results.append(result)
            self._results_came.set()

    def _send_hint(self, hint: Hint | None) -> None:
        if hint is not None:
            self._subscribers.send(lambda: hint, slot="hint")

    def _send_take(self, prediction: Prediction) -> None:
        message: TakeMessage | ErrorMessage | None
        try:
            message = self._takes.update(prediction)
        except TakeError as error:
            message = ErrorMessage("take", str(error))
        if message is not None:
            self._subscribers.send_page(lambda: message, slot="take")

    def _send_signs(self, signs: Iterable[Sign]) -> None:
        for sign in signs:
            self.signs += sign.final
            self._subscribers.send(functools.partial(to_sign_message, sign), slot=f"sign {sign.id}")
            if self.captions is not None:
                self.captions.show(sign, self.frames_s - self._newest_s)

    def _message(
        self, seq: int, result: _Result, prediction: Prediction, glosses: tuple[str, ...]
    ) -> PredictionMessage:
        newest = result.newest
        now_s = time.monotonic()
        seconds = {
            "total": now_s - newest.arrival_s,
            "decode": newest.decoded_s - newest.arrival_s,
            "window": result.cut_s - newest.decoded_s,
            "queue": result.done_s - result.cut_s - sum(prediction.stages_s.values()),
            **prediction.stages_s,
            "send": now_s - result.done_s,
        }
        return prediction_message(
            prediction,
            glosses,
            seq=seq,
            top_k=self._top_k,
            rtp_end=newest.rtp,
            latency_ms={stage: 1000 * max(0.0, s) for stage, s in seconds.items()},
            dropped={"frames": self.frames_dropped, "windows": self.windows_replaced},
        )
