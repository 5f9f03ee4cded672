"""One peer, from its offer to its last message: one TaskGroup owns everything it has running.

    receiver's thread -> ring -> [windows] -> batcher -> [results] -> outboxes -> channel, events

Whatever ends it (the page, a deadline, the server, a fault) goes through `end`; `run` leaves
nothing behind.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from aiortc import RTCDataChannel

from models.decoder import DecoderSettings, SignDecoder
from models.schema import Clip, Frame, Prediction, Sign
from models.window import FrameSampler, WindowCutter
from streaming import protocol
from streaming.audience import MAX_STREAMS, PREDICTIONS, RESULTS, Audience
from streaming.batcher import Batcher, Replaced
from streaming.channel import Allowance, GuardCounts, guard, speak
from streaming.ice import rtc_ice_servers
from streaming.outbox import Outbox
from streaming.protocol import Message
from streaming.receiver import BoundedPeerConnection
from streaming.recognizer import RecognizerWorker
from streaming.ring import FrameRing
from streaming.sdp import Fragment, Offer, OfferError
from streaming.settings import SessionSettings

_log = logging.getLogger(__name__)

_UNREPORTED = 8  # answers that wait for the loop; the oldest leaves first
_WATCH_S = 1.0  # how often deadlines are looked at
_LAST_WORDS_S = 0.5  # for the messages that wait when a session ends


@dataclass(frozen=True, slots=True)
class _Answer:
    """A window that came back, with what is needed to say how long it took."""

    prediction: Prediction
    newest: Frame
    cut_s: float  # monotonic
    done_s: float  # monotonic


class Session:
    """Made for an admitted offer: `run` serves it, `answer` becomes the SDP answer.

    Bounds: the ring, the window, one waiting window in the batcher, the outboxes; `buffers` tells
    how full each is.
    """

    def __init__(
        self,
        *,
        id: str,
        address: str,
        offer: Offer,
        settings: SessionSettings,
        decoder: DecoderSettings,
        hop_s: float,
        worker: RecognizerWorker,
        batcher: Batcher,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = id
        self.address = address
        self.etag = f'"{id[:8]}"'
        self.answer: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.end_reason = "fault"
        self.guard = GuardCounts()
        self.windows_replaced = 0
        self.signs = 0
        self._offer = offer
        self._settings = settings
        self._top_k = settings.top_k
        self._hop_s = hop_s
        self._worker = worker
        self._batcher = batcher
        self._decoder = SignDecoder(worker.bundle.glosses, decoder)
        self._cutter = WindowCutter(id, worker.spec, hop_s)
        self._ring = FrameRing(worker.spec.frames)
        self._answers: deque[_Answer] = deque(maxlen=_UNREPORTED)
        self._answered = asyncio.Event()
        self._audience = Audience(self._hello, outbox=settings.outbox)
        self._allowance = Allowance(settings.messages_per_s, 2 * settings.messages_per_s)
        self._began_s = self._heard_s = time.monotonic()
        self._frames = 0
        self._seq = 0
        self._stats_frames = 0  # decoded when `stats` were last told
        self._stop = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._speakers: dict[str, asyncio.Task[None]] = {}  # by the data channel's label
        self._peer = BoundedPeerConnection(
            ice_servers=rtc_ice_servers(settings.ice_servers, settings.turn_secret),
            on_frame=self._ring.push,
            wants=FrameSampler(worker.spec.fps).wants,
            short_side=worker.spec.short_side,
        )

    # Its life

    def end(self, reason: str) -> None:
        """Let `run` come to its end. The first reason stands."""
        if not self._stop.is_set():
            self.end_reason = reason
            self._stop.set()

    async def run(self) -> None:
        """Serve the peer until something ends it. What a peer does never raises out of here."""
        try:
            async with self._tasks:
                await self._negotiate()
                work = [
                    self._tasks.create_task(self._windows(), name="windows"),
                    self._tasks.create_task(self._results(), name="results"),
                    self._tasks.create_task(self._watch(), name="watch"),
                ]
                await self._stop.wait()
                self._tell_signs(self._decoder.flush())
                self._audience.close()
                if self._speakers:
                    await asyncio.wait(self._speakers.values(), timeout=_LAST_WORDS_S)
                for task in (*work, *self._speakers.values()):
                    task.cancel()
        except Exception:
            _log.exception("session %s failed", self.id[:6])
        finally:
            self._stop.set()
            self._ring.close()
            self._batcher.withdraw(self.id)
            self._worker.forget(self.id)
            self._audience.close()
            try:
                await self._peer.close()
            finally:
                if not self.answer.done():
                    self.answer.set_exception(OfferError(503, "The session ended at once."))
                self.answer.exception()  # whether or not someone still waits for it
                self.ended.set_result(None)

    async def _negotiate(self) -> None:
        """Answer the offer. A refusal goes to `answer`, and ends the session."""
        self._peer.on("datachannel", self._open_channel)
        self._peer.on("connectionstatechange", self._check_connection)
        try:
            async with asyncio.timeout(self._settings.connect_s):
                answer = await self._peer.answer(self._offer)
        except OfferError as error:
            self.answer.set_exception(error)
            self.end("offer")
            return
        except TimeoutError:
            self.answer.set_exception(OfferError(503, "No answer could be made in time."))
            self.end("offer")
            return
        if self._peer.sctp is not None:
            self.guard = guard(self._peer.sctp, bytes_per_s=self._settings.peer_bytes_per_s)
        self.answer.set_result(answer)

    def _check_connection(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self.end("disconnected")

    async def _watch(self) -> None:
        """End a session that never came to life, or fell silent; send `stats` now and then."""
        settings = self._settings
        told_s = time.monotonic()
        while True:
            await asyncio.sleep(_WATCH_S)
            now_s = time.monotonic()
            if not self._frames and now_s - self._began_s > settings.connect_s:
                self.end("no video")
            elif now_s - self._heard_s > settings.silence_s:
                self.end("silent")
            elif now_s - told_s >= settings.heartbeat_s:
                self._audience.tell(functools.partial(self._stats, now_s - told_s), slot="stats")
                told_s = now_s

    async def add_fragment(self, fragment: Fragment) -> None:
        """Take trickled candidates.

        Raises:
            OfferError: there are too many, or they can't be used.
        """
        await self._peer.add_fragment(fragment)

    # Frames in, windows out, answers back

    async def _windows(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            frames = await self._ring.take()
            self._frames += len(frames)
            self._heard_s = time.monotonic()
            for frame in frames:
                self._cutter.push(frame)
            if self._cutter.due():
                clip = self._cutter.cut()
                answer = self._batcher.submit(clip, loop.time() + self._settings.goal_s)
                answer.add_done_callback(functools.partial(self._hand_over, clip, time.monotonic()))

    def _hand_over(self, clip: Clip, cut_s: float, answer: asyncio.Future[Prediction]) -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if isinstance(error, Replaced):
            self.windows_replaced += 1
        elif error is not None:
            self._audience.tell(
                lambda: protocol.error("recogniser", f"A window could not be read: {error}"),
                slot="recogniser error",
            )
        else:
            self._answers.append(_Answer(answer.result(), clip.frames[-1], cut_s, time.monotonic()))
            self._answered.set()

    async def _results(self) -> None:
        while True:
            await self._answered.wait()
            self._answered.clear()
            while self._answers:
                answer = self._answers.popleft()
                self._seq += 1
                self._audience.predict(functools.partial(self._prediction, self._seq, answer))
                self._tell_signs(self._decoder.update(answer.prediction))

    # What is told

    def _prediction(self, seq: int, answer: _Answer) -> Message:
        said, newest = answer.prediction, answer.newest
        now_s = time.monotonic()
        seconds = {
            "total": now_s - newest.arrival_s,
            "decode": newest.decoded_s - newest.arrival_s,
            "window": answer.cut_s - newest.decoded_s,
            "queue": answer.done_s - answer.cut_s - sum(said.stages_s.values()),
            **said.stages_s,
            "send": now_s - answer.done_s,
        }
        return protocol.prediction(
            said,
            self._worker.bundle.glosses,
            seq=seq,
            top_k=self._top_k,
            rtp_end=newest.rtp,
            latency_ms={stage: 1000 * max(0.0, s) for stage, s in seconds.items()},
            dropped={"frames": self.frames_dropped, "windows": self.windows_replaced},
        )

    def _tell_signs(self, signs: Iterable[Sign]) -> None:
        for sign in signs:
            self.signs += sign.final
            self._audience.tell(functools.partial(protocol.sign, sign), slot=f"sign {sign.id}")

    def _stats(self, span_s: float) -> Message:
        counts = self._peer.counters
        frames, self._stats_frames = counts.decoded - self._stats_frames, counts.decoded
        return protocol.stats(
            {
                "frames_per_s": round(frames / span_s, 1),
                "frames": counts.decoded,
                "dropped": self.frames_dropped,
                "windows_replaced": self.windows_replaced,
                "key_frames_asked": counts.plis,
            }
        )

    def tell_stopping(self, grace_s: float) -> None:
        """The server is about to stop: say so, while there is time."""
        text = f"The server stops in {grace_s:g} seconds; reconnect to go on."
        self._audience.tell(lambda: protocol.error("stopping", text))

    # Who listens

    def listen(self) -> AbstractContextManager[Outbox]:
        """Join as an event stream: an outbox that closes when the session ends.

        Raises:
            TooManyListeners: on entering, when the session feeds as many as it may.
        """
        return self._audience.stream()

    def _open_channel(self, channel: RTCDataChannel) -> None:
        label = channel.label
        if label not in (RESULTS, PREDICTIONS) or label in self._speakers or self._stop.is_set():
            channel.close()
            return
        if label == RESULTS:
            channel.on("message", self._hear)
        self._speakers[label] = self._tasks.create_task(
            self._speak(channel, self._audience.join(label)), name=f"channel {label}"
        )

    async def _speak(self, channel: RTCDataChannel, outbox: Outbox) -> None:
        await speak(channel, outbox, buffered_bytes=self._settings.buffered_bytes)
        self._audience.leave(channel.label)
        if channel.label == RESULTS:
            self.end("channel closed")

    def _hello(self) -> Message:
        limits = {
            "message_bytes": self._settings.message_bytes,
            "messages_per_s": self._settings.messages_per_s,
            "silence_s": self._settings.silence_s,
            "top_k": 50,
        }
        return protocol.hello(self.id, self._worker.bundle, self._hop_s, limits)

    def _hear(self, data: str | bytes) -> None:
        """A message from the page. Too many, too long or not understood: an error goes back."""
        now_s = self._heard_s = time.monotonic()
        if not self._allowance.spend(1, now_s):
            return self._object("too-many", "Too many messages; some were not read.")
        if len(data) > self._settings.message_bytes:
            return self._object("too-long", f"More than {self._settings.message_bytes} bytes.")
        try:
            message = protocol.parse(data)
        except protocol.ProtocolError as error:
            return self._object(error.code, str(error))
        match message:
            case protocol.Ping(t):
                self._audience.reply(lambda: protocol.pong(t), slot="pong")
            case protocol.SettingsChange(threshold, top_k):
                if threshold is not None:
                    self._decoder.settings = dataclasses.replace(
                        self._decoder.settings, threshold=threshold
                    )
                self._top_k = top_k or self._top_k
            case protocol.Clear():
                self._tell_signs(self._decoder.flush())
            case protocol.Bye():
                self.end("bye")

    def _object(self, code: str, text: str) -> None:
        self._audience.reply(lambda: protocol.error(code, text), slot=f"error {code}")

    # For /metrics

    @property
    def frames_dropped(self) -> int:
        return sum(self._peer.counters.dropped.values()) + self._ring.dropped

    def numbers(self) -> dict[str, int]:
        """What has been counted since the session began."""
        counts = self._peer.counters
        return {
            "packets": counts.packets,
            "bytes": counts.bytes,
            "frames_received": counts.frames,
            "frames_decoded": counts.decoded,
            "frames_converted": counts.converted,
            "frames_taken": self._frames,
            "frames_dropped": self.frames_dropped,
            "holes": counts.holes,
            "holes_repaired": counts.repaired,
            "key_frames_asked": counts.plis,
            "decoder_errors": counts.decoder_errors,
            "datagrams_dropped": counts.datagrams_dropped,
            "channel_packets_dropped": self.guard.packets_dropped,
            "channel_faults": self.guard.faults,
            "predictions": self._seq,
            "windows_replaced": self.windows_replaced,
            "signs": self.signs,
        }

    def buffers(self) -> dict[str, tuple[float, float]]:
        """How full each buffer is, and its bound, by name."""
        counts = self._peer.counters
        return {
            "socket_datagrams": (counts.datagrams, counts.max_datagrams),
            "jitter_packets": (counts.buffered_packets, counts.max_packets),
            "jitter_bytes": (counts.buffered_bytes, counts.max_bytes),
            "decoder_frames": (counts.queued, counts.max_queued),
            "ring_frames": (len(self._ring), self._ring.capacity),
            "window_frames": (len(self._cutter), self._worker.spec.frames),
            "outbox_messages": (self._audience.fullest, self._settings.outbox),
            "unreported_answers": (len(self._answers), _UNREPORTED),
            "event_streams": (len(self._audience), MAX_STREAMS + 2),
        }
