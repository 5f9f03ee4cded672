"""One peer, from its offer to its last message: one TaskGroup owns all its tasks.

    peer connection -> ring -> pipeline -> subscribers -> data channels, event streams
    data channel `results` -> [session] -> pipeline

Whatever ends it (the page, a deadline, the server, a fault) goes through `end`; `run` leaves
nothing behind.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from contextlib import AbstractContextManager

from models.bundle import Bundle
from models.window import FrameSampler
from streaming import messages
from streaming.batcher import Batcher
from streaming.capacity import Pace
from streaming.messages import ErrorMessage, MessageError, Pong, Stats
from streaming.pipeline import Pipeline
from streaming.ring import FrameRing
from streaming.settings import SessionSettings
from streaming.subscribers import MAX_STREAMS, PREDICTIONS, RESULTS, Outbox, Subscribers
from streaming.webrtc.data_channel import Channel, TokenBucket, send_texts
from streaming.webrtc.datagrams import SocketSettings
from streaming.webrtc.ice import rtc_ice_servers
from streaming.webrtc.offer import Fragment, Offer, OfferError, ice_name
from streaming.webrtc.peer import BoundedPeerConnection
from streaming.webrtc.rtp_receiver import ReceiveLimits

_log = logging.getLogger(__name__)

# What went wrong, as a sentence for a person, for the end reasons that are failures.
FAILURES = {
    "ice": "No network path to this server was found (ICE): its UDP ports may be blocked between "
    "you and it. Another network or a TURN server (--ice-server) may help.",
    "dtls": "A network path was found, but the encrypted connection over it failed (DTLS): "
    "certificate, fingerprint and cipher suites must fit the SDP offer.",
    "no video": "The connection stands, but no video came. Does the camera send?",
    "flood": "Far more data came than video needs; the session was ended to protect others.",
}

_WATCH_S = 1.0  # how often deadlines are checked
_FLUSH_S = 0.5  # for the messages that wait when a session ends


class Session:
    """Made for an admitted offer: `run` serves it, `answer` becomes the SDP answer.

    Bounds: one data channel of each name, and as many messages a second from the page as the
    settings allow; `buffers` returns the content of each buffer and its bound.
    """

    def __init__(
        self,
        *,
        id: str,
        address: str,
        offer: Offer,
        settings: SessionSettings,
        bundle: Bundle,
        batcher: Batcher,
        pace: Pace,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = id
        self.address = address
        self.etag = f'"{id[:8]}"'
        self.ice_name = ice_name(offer)
        self.answer: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.end_reason = "fault"
        self._offer = offer
        self._settings = settings
        self._bundle = bundle
        self._pace = pace
        self._began_s = self._received_s = time.monotonic()  # when the page's last message came
        self._answered_s = math.inf
        self._stats_frames = 0  # decoded when `stats` were last sent
        self._stop = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._allowance = TokenBucket(settings.messages_per_s, 2 * settings.messages_per_s)
        self._channels: dict[str, asyncio.Task[None]] = {}  # sending tasks by the channel's label
        self._channels_closed = False
        ring = FrameRing(bundle.encoder.frames)
        self._peer = BoundedPeerConnection(
            ice_servers=rtc_ice_servers(settings.ice_servers, settings.turn_secret),
            on_frame=ring.push,
            wants=FrameSampler(bundle.encoder.fps).wants,
            short_side=bundle.encoder.short_side,
            resize=bundle.encoder.resize,
            fps=bundle.encoder.fps,
            sockets=SocketSettings(ports=settings.ports, announced=settings.announce_ip),
            limits=ReceiveLimits(
                datagrams_per_s=settings.peer_datagrams_per_s,
                channel_bytes_per_s=settings.peer_bytes_per_s,
            ),
        )
        self._subscribers = Subscribers(self._hello, outbox=settings.outbox)
        self.pipeline = Pipeline(
            id,
            bundle=bundle,
            ring=ring,
            batcher=batcher,
            subscribers=self._subscribers,
            settings=settings,
            pace=pace,
            dropped_before=self._dropped_before_ring,
        )

    # Its life

    def end(self, reason: str) -> None:
        """Let `run` come to its end. The first reason stands; a failure is told and logged."""
        if not self._stop.is_set():
            self.end_reason = reason
            if (text := FAILURES.get(reason)) is not None:
                _log.info("session %s ended: %s. %s", self.id[:6], reason, text)
                self._subscribers.send(lambda: ErrorMessage(reason, text))
            self._stop.set()

    async def run(self) -> None:
        """Serve the peer until something ends it. Nothing that a peer does raises out of here."""
        try:
            async with self._tasks:
                await self._negotiate()
                work = [
                    self._tasks.create_task(self.pipeline.windows(), name="windows"),
                    self._tasks.create_task(self.pipeline.predictions(), name="predictions"),
                    self._tasks.create_task(self._watch(), name="watch"),
                ]
                await self._stop.wait()
                self.pipeline.clear()
                self._subscribers.close()
                await self._flush_channels()
                for task in work:
                    task.cancel()
        except Exception:
            _log.exception("session %s failed", self.id[:6])
        finally:
            self._stop.set()
            self._channels_closed = True
            self.pipeline.close()
            self._subscribers.close()
            try:
                await self._peer.close()
            finally:
                if not self.answer.done():
                    self.answer.set_exception(OfferError(503, "The session ended at once."))
                self.answer.exception()  # so that asyncio does not warn if nobody waits for it
                self.ended.set_result(None)

    async def _negotiate(self) -> None:
        """Answer the offer. A refusal goes to `answer`, and ends the session."""
        self._peer.on("datachannel", self._open_channel)
        self._peer.on("connectionstatechange", self._check_connection)
        try:
            async with asyncio.timeout(self._settings.connect_s):
                answer = await self._peer.answer(self._offer)
        except (OfferError, TimeoutError) as error:
            refusal = OfferError(503, "The SDP answer was not ready in time.")
            self.answer.set_exception(error if isinstance(error, OfferError) else refusal)
            self.end("offer")
            return
        self.answer.set_result(answer)
        self._answered_s = time.monotonic()

    def _check_connection(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self.end(self._stage_or("disconnected"))

    def _stage_or(self, reason: str) -> str:
        """The handshake that is not completed; `reason` if both are."""
        stage = self._peer.stage
        return reason if stage == "media" else stage

    async def _watch(self) -> None:
        """End a session that never came to life, or fell silent; send `stats` now and then."""
        settings = self._settings
        sent_s, added_s = time.monotonic(), 0.0
        while True:
            await asyncio.sleep(_WATCH_S)
            now_s = time.monotonic()
            alive_s = max(self._received_s, self.pipeline.frames_s)
            if now_s - self._answered_s > settings.follow_s and not self._peer.reached:
                self.end("ice")
            elif not self.pipeline.frames and now_s - self._began_s > settings.connect_s:
                self.end(self._stage_or("no video"))
            elif self._peer.flooding:
                self.end("flood")
            elif now_s - alive_s > settings.silence_s:
                self.end("silent")
            elif now_s - sent_s >= settings.heartbeat_s or added_s != self._pace.added_s:
                build = functools.partial(self._stats, now_s - sent_s)
                self._subscribers.send(build, slot="stats")
                sent_s, added_s = now_s, self._pace.added_s

    async def add_fragment(self, fragment: Fragment) -> None:
        """Add trickled candidates.

        Raises:
            OfferError: there are too many, or they can't be used.
        """
        await self._peer.add_fragment(fragment)

    # Data channels

    def _open_channel(self, channel: Channel) -> None:
        """The page has opened a channel. One that is not of the protocol is closed."""
        label = channel.label
        known = label in (RESULTS, PREDICTIONS)
        if not known or label in self._channels or self._channels_closed:
            channel.close()
            return
        if label == RESULTS:
            channel.on("message", self._receive)
        sending = self._send_on(channel, self._subscribers.join(label))
        self._channels[label] = self._tasks.create_task(sending, name=f"channel {label}")

    async def _send_on(self, channel: Channel, outbox: Outbox) -> None:
        buffered_bytes = self._settings.buffered_bytes
        await send_texts(channel, outbox.take_text, buffered_bytes=buffered_bytes)
        self._subscribers.leave(channel.label)
        if channel.label == RESULTS:
            self.end("channel closed")

    async def _flush_channels(self) -> None:
        """Accept no more channels, and give the last messages a moment to leave."""
        self._channels_closed = True
        if self._channels:
            await asyncio.wait(self._channels.values(), timeout=_FLUSH_S)
        for task in self._channels.values():
            task.cancel()

    def _receive(self, data: str | bytes) -> None:
        """A message from the page. Too many, too long or not understood: an error goes back."""
        now_s = self._received_s = time.monotonic()
        if not self._allowance.spend(1, now_s):
            return self._refuse("too-many", "Too many messages; some were not read.")
        if len(data) > self._settings.message_bytes:
            return self._refuse("too-long", f"More than {self._settings.message_bytes} bytes.")
        try:
            message = messages.parse(data)
        except MessageError as error:
            return self._refuse(error.code, str(error))
        match message:
            case messages.Ping(t):
                self._subscribers.send_page(lambda: Pong(t), slot="pong")
            case messages.SettingsChange():
                self.pipeline.change(message)
            case messages.TakeStart(id):
                self.pipeline.start_take(id)
            case messages.Clear():
                self.pipeline.clear()
            case messages.Bye():
                self.end("bye")

    def _refuse(self, code: str, text: str) -> None:
        self._subscribers.send_page(lambda: ErrorMessage(code, text), slot=f"error {code}")

    # What others ask of it

    def warn_stopping(self, grace_s: float) -> None:
        """Send that the server is about to stop, while there is time."""
        text = f"The server stops in {grace_s:g} seconds; reconnect to go on."
        self._subscribers.send(lambda: ErrorMessage("stopping", text))

    def event_stream(self) -> AbstractContextManager[Outbox]:
        """See `Subscribers.stream`. The outbox closes when the session ends."""
        return self._subscribers.stream()

    # What is sent

    def _hello(self) -> messages.Hello:
        limits = {
            "message_bytes": self._settings.message_bytes,
            "messages_per_s": self._settings.messages_per_s,
            "silence_s": self._settings.silence_s,
            "top_k": messages.MAX_TOP_K,
        }
        return messages.hello(self.id, self._bundle, self._pace.base_s, limits)

    def _stats(self, span_s: float) -> Stats:
        counts = self._peer.counters
        decoded = counts.frames_decoded
        frames, self._stats_frames = decoded - self._stats_frames, decoded
        return Stats(
            frames_per_s=round(frames / span_s, 1),
            frames=decoded,
            dropped=self.pipeline.frames_dropped,
            windows_replaced=self.pipeline.windows_replaced,
            key_frames_asked=counts.key_frames_asked,
            hop_s=round(self._pace.hop_s, 3),
            added_hop_s=round(self._pace.added_s, 3),
        )

    # For /metrics

    @property
    def decoding_s(self) -> float:
        """Processor time of the decoder's thread so far."""
        return self._peer.counters.decoding_s

    def _dropped_before_ring(self) -> int:
        return sum(self._peer.counters.dropped.values())

    def numbers(self) -> dict[str, int]:
        """What has been counted since the session began."""
        return {
            **self._peer.counters.numbers(),
            "frames_taken": self.pipeline.frames,
            "frames_dropped": self.pipeline.frames_dropped,
            "predictions": self.pipeline.predicted,
            "windows_replaced": self.pipeline.windows_replaced,
            "signs": self.pipeline.signs,
        }

    def buffers(self) -> dict[str, tuple[float, float]]:
        """How full each buffer is, and its bound, by name."""
        return {
            **self._peer.buffers(),
            **self.pipeline.buffers(),
            "outbox_messages": (self._subscribers.fullest, self._settings.outbox),
            "event_streams": (len(self._subscribers), MAX_STREAMS + 2),
        }
