"""RTP packets of one video stream in, RGB frames out: aiortc's receiver with bounded buffers.

aiortc: SRTP, RTX, reports -> [JitterBuffer] -> [VideoDecoder] -> Frame
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiortc import RTCRtpReceiver
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtp import RtpPacket

from models.schema import Frame
from streaming.webrtc.jitter_buffer import (
    EncodedFrame,
    JitterBuffer,
    JitterSettings,
    MediaPacket,
    starts_frame,
)
from streaming.webrtc.video_decoder import VideoDecoder, VideoDecoderSettings

_log = logging.getLogger(__name__)

_SSRCS = 8  # streams of one peer: video, its retransmission, and room for restarts


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveLimits:
    """The bounds of one session's receive path."""

    max_datagrams: int = 1024  # read from the socket and not looked at yet
    max_wait_s: float = 0.5  # for a datagram among them
    jitter: JitterSettings = field(default_factory=JitterSettings)
    decoder: VideoDecoderSettings = field(default_factory=VideoDecoderSettings)


@dataclass(slots=True)
class ReceiveCounters:
    """One session's receive path in numbers, each gauge with its bound."""

    packets: int = 0
    bytes: int = 0
    frames: int = 0  # encoded frames, whole and decodable
    decoded: int = 0
    converted: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # frames, by reason
    late_packets: int = 0  # duplicates, and those later than they were waited for
    faults: int = 0  # packets that could not be handled
    holes: int = 0  # packets lost for good
    repaired: int = 0  # packets that came late or again
    nacks: int = 0
    plis: int = 0
    decoder_errors: int = 0
    decoding_s: float = 0.0  # processor time of the decoder's thread
    datagrams: int = 0
    max_datagrams: int = 0
    datagrams_dropped: int = 0
    buffered_packets: int = 0
    max_packets: int = 0
    buffered_bytes: int = 0
    max_bytes: int = 0
    queued: int = 0
    max_queued: int = 0
    last_packet_s: float = 0.0  # monotonic; 0: none yet


class RtpReceiver(RTCRtpReceiver):
    """An RTCRtpReceiver for video whose buffers have bounds in time and size.

    aiortc's `_handle_rtp_packet` still feeds its estimator and reports and unwraps retransmissions;
    it hands every media packet to what it takes for its jitter buffer: `_Gate`, and so to us.
    """

    def __init__(
        self,
        transport: RTCDtlsTransport,
        *,
        on_frame: Callable[[Frame], None],
        wants: Callable[[float], bool],
        short_side: int,
        limits: ReceiveLimits,
    ) -> None:
        super().__init__("video", transport)
        self._limits = limits
        self._jitter = JitterBuffer(limits.jitter)
        self._decoder = VideoDecoder(
            on_frame=on_frame,
            wants=wants,
            on_loss=self._on_loss,
            short_side=short_side,
            settings=limits.decoder,
        )
        self._names: dict[int | None, str] = {}  # payload type -> codec
        self._ssrc: int | None = None
        self._ssrcs: set[int] = set()
        self._changed = asyncio.Event()
        self._repair_task: asyncio.Task[None] | None = None
        self._packets = 0
        self._bytes = 0
        self._faults = 0
        self._last_packet_s = 0.0
        self._stopped = False
        setattr(self, _mangled("jitter_buffer"), _Gate(self))
        setattr(self, _mangled("nack_generator"), None)
        setattr(self, _mangled("remote_bitrate_estimator"), PacedEstimator())

    def count(self, counters: ReceiveCounters) -> None:
        """Write this moment's numbers into `counters`."""
        jitter, decoder = self._jitter.counts, self._decoder.counts
        dropped = dict(jitter.dropped)
        for reason, number in decoder.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + number
        counters.packets, counters.bytes = self._packets, self._bytes
        counters.frames, counters.decoded = jitter.frames, decoder.decoded
        counters.converted, counters.dropped = decoder.converted, dropped
        counters.holes, counters.repaired = jitter.holes, jitter.repaired
        counters.nacks, counters.plis = jitter.nacks, jitter.plis
        counters.late_packets, counters.faults = jitter.late, self._faults
        counters.decoder_errors, counters.decoding_s = decoder.errors, decoder.busy_s
        counters.buffered_packets = self._jitter.packets
        counters.buffered_bytes = self._jitter.bytes
        counters.queued = self._decoder.queued
        counters.last_packet_s = self._last_packet_s

    # What aiortc calls

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Start; as aiortc's, but with our decoder thread and our repair task."""
        if getattr(self, _mangled("started")) or self._stopped:
            return
        for codec in parameters.codecs:
            getattr(self, _mangled("codecs"))[codec.payloadType] = codec
            self._names[codec.payloadType] = codec.name
        for encoding in parameters.encodings:
            if encoding.rtx:
                getattr(self, _mangled("rtx_ssrc"))[encoding.rtx.ssrc] = encoding.ssrc
        self._decoder.start()
        self.transport._register_rtp_receiver(self, parameters)
        setattr(self, _mangled("rtcp_task"), asyncio.ensure_future(self._run_rtcp()))
        self._repair_task = asyncio.create_task(self._run_repair(), name="video-repair")
        setattr(self, _mangled("started"), True)

    async def stop(self) -> None:
        """Stop for good; never blocks the loop."""
        self._stopped = True
        await super().stop()
        if self._repair_task is not None:
            self._repair_task.cancel()
            await asyncio.wait([self._repair_task])
            self._repair_task = None
        await self._decoder.close()

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        if packet.ssrc not in self._ssrcs:
            if len(self._ssrcs) >= _SSRCS:
                # Each stream costs memory in aiortc for as long as the session lasts.
                self.transport._rtp_router.ssrc_table.pop(packet.ssrc, None)
                self._faults += 1
                return
            self._ssrcs.add(packet.ssrc)
        self._packets += 1
        self._bytes += len(packet.payload)
        self._last_packet_s = time.monotonic()
        try:
            await super()._handle_rtp_packet(packet, arrival_time_ms)
        except Exception:  # what escapes here would end the whole transport
            self._faults += 1
            if self._faults == 1:
                _log.exception("a packet of a peer can't be handled; more are only counted")

    # What comes through the gate

    def _take(self, packet: RtpPacket, data: bytes) -> None:
        if packet.ssrc != self._ssrc:
            if self._ssrc is not None:
                self._jitter.restart()
            self._ssrc = packet.ssrc
        codec = self._names[packet.payload_type]
        if codec not in ("VP8", "H264"):
            return
        now_s = time.monotonic()
        queue = self.transport.transport._connection._queue
        read_s = queue.read_s if isinstance(queue, DatagramQueue) else now_s
        media = MediaPacket(
            sequence=packet.sequence_number,
            rtp=packet.timestamp,
            marker=bool(packet.marker),
            codec=codec,
            data=data,
            starts=starts_frame(codec, packet.payload, data),
            arrival_s=read_s or now_s,
        )
        self._decode(self._jitter.add(media, now_s))
        if self._jitter.deadline_s() is not None:
            self._changed.set()

    def _decode(self, frames: list[EncodedFrame]) -> None:
        for frame in frames:
            self._decoder.put(frame)

    def _on_loss(self) -> None:
        self._jitter.require_key()
        self._changed.set()

    async def _run_repair(self) -> None:
        """Ask for lost packets and key frames, and give up what doesn't come, each in its time."""
        while True:
            deadline_s = self._jitter.deadline_s()
            try:
                async with asyncio.timeout_at(deadline_s):  # the loop's clock is the monotonic one
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            now_s = time.monotonic()
            self._decode(self._jitter.poll(now_s))
            if self._ssrc is None:
                continue
            lost = self._jitter.nacks(now_s)
            if lost:
                await self._send_rtcp_nack(self._ssrc, lost)
            if self._jitter.asks_key(now_s):
                await self._send_rtcp_pli(self._ssrc)


class _Gate:
    """Stands where aiortc has its jitter buffer, and passes every packet on."""

    def __init__(self, receiver: RtpReceiver) -> None:
        self._receiver = receiver

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        self._receiver._take(packet, packet._data)  # type: ignore[attr-defined]
        return False, None  # no key frame to ask for, no frame to decode: both are our affair


def _mangled(name: str) -> str:
    """The name under which Python keeps a private attribute of RTCRtpReceiver."""
    return f"_RTCRtpReceiver__{name}"


# MERGED from streaming.datagrams: The first bounded buffer of the receive path: datagrams read
# from a socket, not yet looked at.


class DatagramQueue(asyncio.Queue[Any]):
    """What aioice read from the socket and the loop has not looked at yet.

    Overflow rule: the oldest leave, when there are `max_datagrams` or when they have waited for
    `max_wait_s`. The end mark (None) stays. Remembers when the datagram taken last was read, so
    that time spent here counts as age.
    """

    def __init__(self, max_datagrams: int, max_wait_s: float) -> None:
        super().__init__()
        self.bound = max_datagrams
        self.dropped = 0
        self.read_s = 0.0
        self._max_wait_s = max_wait_s

    def put_nowait(self, item: Any) -> None:
        waiting = self._waiting
        oldest_s = time.monotonic() - self._max_wait_s
        while waiting and waiting[0][1] is not None:
            if len(waiting) < self.bound and waiting[0][0] >= oldest_s:
                break
            waiting.popleft()
            self.dropped += 1
        super().put_nowait(item)

    def _init(self, maxsize: int) -> None:
        self._waiting: deque[tuple[float, Any]] = deque()

    def qsize(self) -> int:
        return len(self._waiting)

    def empty(self) -> bool:
        return not self._waiting

    def _put(self, item: Any) -> None:
        self._waiting.append((time.monotonic(), item))

    def _get(self) -> Any:
        self.read_s, item = self._waiting.popleft()
        return item


# MERGED from streaming.feedback: aiortc's bandwidth estimate, told to the sender no more often
# than it helps. aiortc sends its estimate (REMB) once for every packet while it takes the path
# for overused. A busy server looks like one, so that its feedback would keep it busy: with 20
# sessions on a machine with other work, a quarter of the event loop's time. libwebrtc waits 10 to
# 200 ms between two such steps.

_LEAST_MS = 200  # between two


class PacedEstimator(RemoteBitrateEstimator):
    """An estimator that keeps every packet in mind and speaks at most five times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._told_ms: int | None = None

    def add(
        self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int
    ) -> tuple[int, list[int]] | None:
        """As aiortc's: the bit rate and the streams that it is for; None: nothing to tell now."""
        estimate = super().add(arrival_time_ms, abs_send_time, payload_size, ssrc)
        if estimate is None:
            return None
        if self._told_ms is not None and arrival_time_ms - self._told_ms < _LEAST_MS:
            return None
        self._told_ms = arrival_time_ms
        return estimate
