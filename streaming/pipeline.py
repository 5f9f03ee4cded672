"""One session's way from frames to signs: it cuts windows, asks for answers, tells what they say.

ring -> [windows] -> batcher -> [results] -> audience
"""

from __future__ import annotations

import asyncio
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
from models.few_shot import FewShotClassifier
from models.schema import Clip, Frame, Prediction, Sign
from models.window import WindowCutter
from streaming import messages
from streaming.answering import Answering, Replaced
from streaming.hints import Hint, Hints
from streaming.messages import Message
from streaming.ring import FrameRing
from streaming.settings import SessionSettings
from streaming.subscribers import Subscribers
from streaming.takes import NoTake, TakeRecorder

_UNREPORTED = 8  # answers that wait for the loop; the oldest leaves first


@dataclass(frozen=True, slots=True)
class _Answer:
    """A window that came back, with what is needed to say how long it took."""

    prediction: Prediction
    newest: Frame
    cut_s: float  # monotonic
    done_s: float  # monotonic


class Pipeline:
    """Two tasks, `windows` and `results`, both owned and run by the session.

    Bounds: the ring and the window (a window's frames each), one waiting window in the batcher,
    `_UNREPORTED` answers.
    """

    def __init__(
        self,
        stream: str,
        *,
        bundle: Bundle,
        batcher: Answering,
        audience: Subscribers,
        settings: SessionSettings,
        decoder: DecoderSettings,
        hop_s: float,
        frames_dropped: Callable[[], int],
    ) -> None:
        self.ring = FrameRing(bundle.encoder.frames)
        self.frames = 0  # taken from the ring
        self.frames_s = time.monotonic()  # when frames were last taken
        self.predictions = 0
        self.windows_replaced = 0
        self.signs = 0
        self._stream = stream
        self._frames_dropped = frames_dropped  # the session's count, in and before the ring
        self._lexicon = FewShotClassifier(bundle.glosses, bundle.space)
        self._takes = TakeRecorder(bundle.encoder.window_s)
        self._newest_s = 0.0  # media time
        self._batcher = batcher
        self._audience = audience
        self._goal_s = settings.goal_s
        self._top_k = settings.top_k
        self._decoder = SignDecoder(bundle.glosses, decoder)
        self._cutter = WindowCutter(stream, bundle.encoder, hop_s)
        self._hop_s = hop_s
        self._window_frames = bundle.encoder.frames
        self._hints = Hints()
        self._answers: deque[_Answer] = deque(maxlen=_UNREPORTED)
        self._answered = asyncio.Event()

    async def windows(self) -> None:
        """Cut a window each time one is due, and ask for its answer."""
        loop = asyncio.get_running_loop()
        while True:
            frames = await self.ring.take()
            self.frames += len(frames)
            self.frames_s = time.monotonic()
            for frame in frames:
                self._cutter.push(frame)
                self._newest_s = frame.media_s
            self._cutter.hop_s = self._hop_s + self._batcher.added_hop_s
            if self._cutter.due():
                clip = self._cutter.cut()
                answer = self._batcher.submit(clip, loop.time() + self._goal_s)
                answer.add_done_callback(functools.partial(self._hand_over, clip, self.frames_s))

    async def results(self) -> None:
        """Tell each answer, and the signs that it makes."""
        while True:
            await self._answered.wait()
            self._answered.clear()
            while self._answers:
                answer = self._answers.popleft()
                self.predictions += 1
                said = self._lexicon.read(answer.prediction)
                tell = functools.partial(
                    self._prediction, self.predictions, answer, said, self._lexicon.glosses
                )
                self._audience.predict(tell)
                self._tell_hint(self._hints.look(answer.newest, said.seen))
                self._tell_signs(self._decoder.update(said))
                self._tell_take(said)

    def change(self, settings: messages.SettingsChange) -> None:
        """The page's wishes, from the next answer on."""
        if settings.threshold is not None:
            self._decoder.settings = dataclasses.replace(
                self._decoder.settings, threshold=settings.threshold
            )
        self._top_k = settings.top_k or self._top_k

    def begin_take(self, id: str) -> None:
        """Record a take of a sign from now on, for as long as a window lasts."""
        self._takes.begin(id, self._newest_s)

    def teach(self, gloss: str, takes: NDArray[np.float32]) -> None:
        """Know `gloss` by `takes` (n, E) from the next answer on.

        Raises:
            LexiconError: it can't be learnt; nothing has changed.
        """
        self._lexicon.teach(gloss, takes)
        self._tell_signs(self._decoder.know(self._lexicon.glosses))

    def forget(self, gloss: str) -> None:
        """Know a taught sign no more.

        Raises:
            KeyError: it was not taught.
        """
        self._lexicon.forget(gloss)
        self._tell_signs(self._decoder.know(self._lexicon.glosses))

    def clear(self) -> None:
        """Close the sign under way and start over."""
        self._tell_signs(self._decoder.flush())

    def close(self) -> None:
        """Let go of the frames, of the window that waits, and of what is kept for those to come.

        At once: aiortc's connections are cycles, which hold what hangs on them until Python looks
        for cycles. Sessions that followed each other held 7 MB each for half a minute.
        """
        self.ring.close()
        self._cutter.clear()
        self._answers.clear()
        self._batcher.forget(self._stream)

    def buffers(self) -> dict[str, tuple[float, float]]:
        """How full each buffer is, and its bound, by name."""
        return {
            "ring_frames": (len(self.ring), self.ring.capacity),
            "window_frames": (len(self._cutter), self._window_frames),
            "unreported_answers": (len(self._answers), _UNREPORTED),
        }

    def _hand_over(self, clip: Clip, cut_s: float, answer: asyncio.Future[Prediction]) -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if isinstance(error, Replaced):
            self.windows_replaced += 1
        elif error is not None:
            text = str(error)  # a RecognitionError's: a sentence for the signer
            self._audience.tell(lambda: messages.error("recogniser", text), slot="recogniser error")
        else:
            self._answers.append(_Answer(answer.result(), clip.frames[-1], cut_s, time.monotonic()))
            self._answered.set()

    def _tell_hint(self, hint: Hint | None) -> None:
        if hint is not None:
            self._audience.tell(lambda: messages.hint(hint), slot="hint")

    def _tell_take(self, said: Prediction) -> None:
        try:
            take = self._takes.hear(said)
        except NoTake as error:
            text = str(error)
            self._audience.reply(lambda: messages.error("take", text), slot="take")
        else:
            if take is not None:
                space = self._lexicon.space.id
                self._audience.reply(lambda: messages.take(take, space), slot="take")

    def _tell_signs(self, signs: Iterable[Sign]) -> None:
        for sign in signs:
            self.signs += sign.final
            self._audience.tell(functools.partial(messages.sign, sign), slot=f"sign {sign.id}")

    def _prediction(
        self, seq: int, answer: _Answer, said: Prediction, glosses: tuple[str, ...]
    ) -> Message:
        newest = answer.newest
        now_s = time.monotonic()
        seconds = {
            "total": now_s - newest.arrival_s,
            "decode": newest.decoded_s - newest.arrival_s,
            "window": answer.cut_s - newest.decoded_s,
            "queue": answer.done_s - answer.cut_s - sum(said.stages_s.values()),
            **said.stages_s,
            "send": now_s - answer.done_s,
        }
        return messages.prediction(
            said,
            glosses,
            seq=seq,
            top_k=self._top_k,
            rtp_end=newest.rtp,
            latency_ms={stage: 1000 * max(0.0, s) for stage, s in seconds.items()},
            dropped={
                "frames": self._frames_dropped(),
                "windows": self.windows_replaced,
            },
        )
