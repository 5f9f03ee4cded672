"""RTP packets of one video stream in, RGB frames out: aiortc's receiver with bounded buffers.

socket -> [DatagramQueue] -> aiortc: SRTP, RTX, reports -> [RtpReceiver]
RtpReceiver: JitterBuffer -> VideoDecoder -> Frame
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiortc import RTCRtpReceiver
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtp import RtpPacket

from models.schema import Frame, Resize
from streaming.webrtc.datagrams import DatagramQueue
from streaming.webrtc.jitter_buffer import (
    EncodedFrame,
    JitterBuffer,
    JitterSettings,
    MediaPacket,
    ReceiveCounters,
    starts_frame,
)
from streaming.webrtc.video_decoder import VideoDecoder, VideoDecoderSettings

_log = logging.getLogger(__name__)

_SSRCS = 8  # streams of one peer: video, its retransmission, and spare ones for restarts
_STREAM_S = 1.0  # a stream that was silent for so long gives its place to another
_REMB_INTERVAL_MS = 200  # least time between two bandwidth estimates that are sent


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveLimits:
    """The bounds of one peer's receive path."""

    max_datagrams: int = 1024  # read from the socket and not handled yet
    max_datagram_age_s: float = 0.5
    datagrams_per_s: float = 2000.0  # sustained rate of all that the peer sends
    channel_bytes_per_s: float = 64 * 1024  # sustained rate of data channel traffic
    jitter: JitterSettings = field(default_factory=JitterSettings)
    decoder: VideoDecoderSettings = field(default_factory=VideoDecoderSettings)


class PacedEstimator(RemoteBitrateEstimator):
    """aiortc's bandwidth estimator, whose estimates are sent at most five times a second.

    aiortc sends one (REMB) for every packet while it takes the path for overused. A busy server
    looks like an overused path, so its feedback would keep it busy: with 20 sessions on a machine
    with other work, a quarter of the event loop's time. libwebrtc waits 10 to 200 ms between two.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sent_ms: int | None = None

    def add(
        self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int
    ) -> tuple[int, list[int]] | None:
        """As aiortc's: the bit rate and the streams that it is for; None: send nothing now."""
        estimate = super().add(arrival_time_ms, abs_send_time, payload_size, ssrc)
        if estimate is None:
            return None
        if self._sent_ms is not None and arrival_time_ms - self._sent_ms < _REMB_INTERVAL_MS:
            return None
        self._sent_ms = arrival_time_ms
        return estimate


class RtpReceiver(RTCRtpReceiver):
    """An RTCRtpReceiver for video whose buffers have bounds in time and size.

    aiortc's `_handle_rtp_packet` still estimates bandwidth, reports, and unwraps retransmissions.
    It hands every media packet to its jitter buffer, in whose place this object puts itself.
    """

    def __init__(
        self,
        transport: RTCDtlsTransport,
        *,
        on_frame: Callable[[Frame], None],
        wants: Callable[[float], bool],
        short_side: int,
        limits: ReceiveLimits,
        counters: ReceiveCounters,
        resize: Resize = "fast",
    ) -> None:
        super().__init__("video", transport)
        self.jitter = JitterBuffer(limits.jitter, counters)
        self.decoder = VideoDecoder(
            on_frame=on_frame,
            wants=wants,
            on_loss=self._on_loss,
            short_side=short_side,
            resize=resize,
            settings=limits.decoder,
            counters=counters,
        )
        self._counters = counters
        self._codecs: dict[int | None, str] = {}  # names by payload type
        self._ssrc: int | None = None  # the stream that is read
        self._ssrc_s = 0.0  # when its newest packet came
        self._ssrcs: set[int] = set()
        self._changed = asyncio.Event()
        self._repair_task: asyncio.Task[None] | None = None
        self._stopped = False
        setattr(self, _mangled("jitter_buffer"), self)
        setattr(self, _mangled("nack_generator"), None)
        setattr(self, _mangled("remote_bitrate_estimator"), PacedEstimator())

    # Called by aiortc

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Start; as aiortc's, but with our decoder thread and our repair task."""
        if getattr(self, _mangled("started")) or self._stopped:
            return
        for codec in parameters.codecs:
            getattr(self, _mangled("codecs"))[codec.payloadType] = codec
            self._codecs[codec.payloadType] = codec.name
        for encoding in parameters.encodings:
            if encoding.rtx:
                getattr(self, _mangled("rtx_ssrc"))[encoding.rtx.ssrc] = encoding.ssrc
        self.decoder.start()
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
        await self.decoder.close()

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        if packet.ssrc not in self._ssrcs:
            if len(self._ssrcs) >= _SSRCS:
                # Each stream costs memory in aiortc for as long as the session lasts.
                self.transport._rtp_router.ssrc_table.pop(packet.ssrc, None)
                self._counters.packet_faults += 1
                return
            self._ssrcs.add(packet.ssrc)
        self._counters.packets += 1
        self._counters.bytes += len(packet.payload)
        try:
            await super()._handle_rtp_packet(packet, arrival_time_ms)
        except Exception:  # an exception that leaves here would end the whole transport
            self._counters.packet_faults += 1
            if self._counters.packet_faults == 1:
                _log.exception("a packet of a peer can't be handled; more are only counted")

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Take in a media packet, in place of aiortc's jitter buffer.

        A sender of simulcast may send several streams at once whatever the answer says: the first
        one is read and the others are dropped, until it falls silent.

        Returns (False, None): aiortc has no key frame to request and no frame to decode.
        """
        now_s = time.monotonic()
        if packet.ssrc != self._ssrc:
            if self._ssrc is not None:
                if now_s - self._ssrc_s < _STREAM_S:
                    self._counters.other_streams += 1
                    return False, None
                self.jitter.restart()
            self._ssrc = packet.ssrc
        self._ssrc_s = now_s
        codec = self._codecs[packet.payload_type]
        if codec not in ("VP8", "H264"):
            return False, None
        queue = self.transport.transport._connection._queue
        read_s = queue.read_s if isinstance(queue, DatagramQueue) else now_s
        data: bytes = packet._data  # type: ignore[attr-defined]
        media = MediaPacket(
            sequence=packet.sequence_number,
            rtp=packet.timestamp,
            marker=bool(packet.marker),
            codec=codec,
            data=data,
            starts=starts_frame(codec, packet.payload, data),
            arrival_s=read_s or now_s,
        )
        self._decode(self.jitter.add(media, now_s))
        if self.jitter.deadline_s() is not None:
            self._changed.set()
        return False, None

    # Ours

    def _decode(self, frames: list[EncodedFrame]) -> None:
        for frame in frames:
            self.decoder.put(frame)

    def _on_loss(self) -> None:
        self.jitter.require_key()
        self._changed.set()

    async def _run_repair(self) -> None:
        """Ask for missing packets and key frames, and give up expired gaps, each when it is due."""
        while True:
            deadline_s = self.jitter.deadline_s()
            try:
                async with asyncio.timeout_at(deadline_s):  # the loop's clock is the monotonic one
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            now_s = time.monotonic()
            self._decode(self.jitter.poll(now_s))
            if self._ssrc is None:
                continue
            missing = self.jitter.nacks(now_s)
            if missing:
                await self._send_rtcp_nack(self._ssrc, missing)
            if self.jitter.asks_key(now_s):
                await self._send_rtcp_pli(self._ssrc)


def _mangled(name: str) -> str:
    """The name under which Python keeps a private attribute of RTCRtpReceiver."""
    return f"_RTCRtpReceiver__{name}"
