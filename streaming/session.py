"""One peer, from its offer to its last message: one TaskGroup owns everything it has running.

    peer connection -> recognition -> audience -> conversation, event streams

Whatever ends it (the page, a deadline, the server, a fault) goes through `end`; `run` leaves
nothing behind.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.decoder import DecoderSettings
from models.window import FrameSampler
from streaming import messages
from streaming.answering import Answering
from streaming.conversation import Conversation
from streaming.messages import Message
from streaming.pipeline import Pipeline
from streaming.settings import SessionSettings
from streaming.subscribers import MAX_STREAMS, Outbox, Subscribers
from streaming.webrtc.ice import rtc_ice_servers
from streaming.webrtc.offer import Fragment, Offer, OfferError
from streaming.webrtc.peer import BoundedPeerConnection
from streaming.webrtc.rtp_receiver import ReceiveLimits

_log = logging.getLogger(__name__)

_WATCH_S = 1.0  # how often deadlines are looked at


class Session:
    """Made for an admitted offer: `run` serves it, `answer` becomes the SDP answer.

    `buffers` tells how full each of its buffers is, and each one's bound.
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
        bundle: Bundle,
        batcher: Answering,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = id
        self.address = address
        self.etag = f'"{id[:8]}"'
        self.answer: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.end_reason = "fault"
        self._offer = offer
        self._settings = settings
        self._hop_s = hop_s
        self._bundle = bundle
        self._batcher = batcher
        self._audience = Subscribers(self._hello, outbox=settings.outbox)
        self._recognition = Pipeline(
            id,
            bundle=bundle,
            batcher=batcher,
            audience=self._audience,
            settings=settings,
            decoder=decoder,
            hop_s=hop_s,
            frames_dropped=lambda: self.frames_dropped,
        )
        self._began_s = time.monotonic()
        self._stats_frames = 0  # decoded when `stats` were last told
        self._stop = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._conversation = Conversation(
            self._tasks, self._audience, self._recognition, settings=settings, end=self.end
        )
        self._peer = BoundedPeerConnection(
            ice_servers=rtc_ice_servers(settings.ice_servers, settings.turn_secret),
            on_frame=self._recognition.ring.push,
            wants=FrameSampler(bundle.encoder.fps).wants,
            short_side=bundle.encoder.short_side,
            fps=bundle.encoder.fps,
            limits=ReceiveLimits(channel_bytes_per_s=settings.peer_bytes_per_s),
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
                    self._tasks.create_task(self._recognition.windows(), name="windows"),
                    self._tasks.create_task(self._recognition.results(), name="results"),
                    self._tasks.create_task(self._watch(), name="watch"),
                ]
                await self._stop.wait()
                self._recognition.clear()
                self._audience.close()
                await self._conversation.finish()
                for task in work:
                    task.cancel()
        except Exception:
            _log.exception("session %s failed", self.id[:6])
        finally:
            self._stop.set()
            self._conversation.close()
            self._recognition.close()
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
        self._peer.on("datachannel", self._conversation.open)
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
        self.answer.set_result(answer)

    def _check_connection(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self.end("disconnected")

    async def _watch(self) -> None:
        """End a session that never came to life, or fell silent; send `stats` now and then."""
        settings = self._settings
        told_s, added_s = time.monotonic(), 0.0
        while True:
            await asyncio.sleep(_WATCH_S)
            now_s = time.monotonic()
            heard_s = max(self._conversation.heard_s, self._recognition.frames_s)
            if not self._recognition.frames and now_s - self._began_s > settings.connect_s:
                self.end("no video")
            elif now_s - heard_s > settings.silence_s:
                self.end("silent")
            elif now_s - told_s >= settings.heartbeat_s or added_s != self._batcher.added_hop_s:
                self._audience.tell(functools.partial(self._stats, now_s - told_s), slot="stats")
                told_s, added_s = now_s, self._batcher.added_hop_s

    async def add_fragment(self, fragment: Fragment) -> None:
        """Take trickled candidates.

        Raises:
            OfferError: there are too many, or they can't be used.
        """
        await self._peer.add_fragment(fragment)

    async def teach(self, gloss: str, takes: NDArray[np.float32]) -> None:
        """See `Pipeline.teach`."""
        self._recognition.teach(gloss, takes)

    async def forget(self, gloss: str) -> None:
        """See `Pipeline.forget`."""
        self._recognition.forget(gloss)

    # What is told

    def _stats(self, span_s: float) -> Message:
        counts = self._peer.counters
        decoded = counts.frames_decoded
        frames, self._stats_frames = decoded - self._stats_frames, decoded
        return messages.stats(
            {
                "frames_per_s": round(frames / span_s, 1),
                "frames": decoded,
                "dropped": self.frames_dropped,
                "windows_replaced": self._recognition.windows_replaced,
                "key_frames_asked": counts.key_frames_asked,
                **self._pace(),
            }
        )

    def _pace(self) -> dict[str, float]:
        """How far apart windows are now, and how much of that is due to the load: whole ticks."""
        fps, added_s = self._bundle.encoder.fps, self._batcher.added_hop_s
        ticks = math.ceil((self._hop_s + added_s) * fps - 1e-6)
        return {"hop_s": round(ticks / fps, 3), "added_hop_s": round(added_s, 3)}

    def tell_stopping(self, grace_s: float) -> None:
        """The server is about to stop: say so, while there is time."""
        text = f"The server stops in {grace_s:g} seconds; reconnect to go on."
        self._audience.tell(lambda: messages.error("stopping", text))

    # Who listens

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Outbox]:
        """Join as an event stream: an outbox that closes when the session ends.

        Raises:
            TooManyListeners: on entering, when the session feeds as many as it may.
        """
        with self._audience.stream() as outbox:
            yield outbox

    def _hello(self) -> Message:
        limits = {
            "message_bytes": self._settings.message_bytes,
            "messages_per_s": self._settings.messages_per_s,
            "silence_s": self._settings.silence_s,
            "top_k": 50,
        }
        return messages.hello(self.id, self._bundle, self._hop_s, limits)

    # For /metrics

    @property
    def decoding_s(self) -> float:
        """Processor time of the decoder's thread so far."""
        return self._peer.counters.decoding_s

    @property
    def frames_dropped(self) -> int:
        return sum(self._peer.counters.dropped.values()) + self._recognition.ring.dropped

    def numbers(self) -> dict[str, int]:
        """What has been counted since the session began."""
        return {
            **self._peer.counters.numbers(),
            "frames_taken": self._recognition.frames,
            "frames_dropped": self.frames_dropped,
            "predictions": self._recognition.predictions,
            "windows_replaced": self._recognition.windows_replaced,
            "signs": self._recognition.signs,
        }

    def buffers(self) -> dict[str, tuple[float, float]]:
        """How full each buffer is, and its bound, by name."""
        return {
            **self._peer.buffers(),
            **self._recognition.buffers(),
            "outbox_messages": (self._audience.fullest, self._settings.outbox),
            "event_streams": (len(self._audience), MAX_STREAMS + 2),
        }
