"""RTP packets of one video stream in, whole decodable frames out, each as soon as it is complete.

    RtpReceiver -> [jitter buffer] -> VideoDecoder

It replaces aiortc's jitter buffer, which holds a frame until the next one begins and waits for a
lost packet until 512 others have come. Here a frame leaves at its RTP marker. A missing packet is
asked for twice (NACK) and given up after `wait_s`; from then on frames are dropped and a key frame
is requested (PLI) until one comes. Plain synchronous code: time is passed in.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from streaming.webrtc.loss_tracker import LossTracker, LossTrackerSettings

_SEQUENCES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class JitterSettings(LossTrackerSettings):
    """Bounds in time, packets and bytes."""

    key_interval_s: float = 0.3  # between two requests for a key frame
    max_packets: int = 1024
    max_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        LossTrackerSettings.__post_init__(self)
        if self.key_interval_s <= 0:
            raise ValueError(f"not usable times: {self}")
        if not 1 <= self.max_packets <= _SEQUENCES // 4 or self.max_bytes < 1:
            raise ValueError(f"not usable bounds: {self}")


@dataclass(slots=True)
class ReceiveCounters:
    """What one peer sent and what became of it. Every stage of the receive path writes into it."""

    packets: int = 0  # RTP
    bytes: int = 0  # of their payloads
    packet_faults: int = 0  # packets that could not be handled
    late_packets: int = 0  # duplicates, packets of closed gaps, packets far from the stream
    other_streams: int = 0  # packets of a second stream beside the one that is read
    gaps: int = 0  # packets given up
    gaps_repaired: int = 0  # packets that came late or again
    nacks: int = 0  # packets asked for again
    key_frames_asked: int = 0
    frames_received: int = 0  # encoded frames, complete and decodable
    frames_decoded: int = 0
    frames_converted: int = 0
    decoder_errors: int = 0
    datagrams_dropped: int = 0  # they waited too long, or too many did
    datagrams_over_rate: int = 0  # more than a peer may send
    datagram_faults: int = 0  # empty, too large, or refused by what decrypts and parses them
    stranger_datagrams: int = 0  # from addresses that no ICE check has validated
    stun_refused: int = 0  # STUN that is malformed, not authentic, or not for this session
    channel_packets_dropped: int = 0  # data channel traffic over its rate; SCTP sends it again
    channel_faults: int = 0  # malformed packets and messages of the data channels
    decoding_s: float = 0.0  # processor time of the decoder's thread
    dropped: dict[str, int] = field(default_factory=dict)  # frames, by reason
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def drop(self, reason: str, frames: int = 1) -> None:
        """Count dropped frames; the event loop and the decoder's thread both do."""
        with self._lock:
            self.dropped[reason] = self.dropped.get(reason, 0) + frames

    def numbers(self) -> dict[str, int]:
        """Every count but `dropped`, by name."""
        values = ((one.name, getattr(self, one.name)) for one in dataclasses.fields(self))
        return {name: value for name, value in values if isinstance(value, int)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPacket:
    """One RTP packet without its payload header."""

    sequence: int  # 16 bits
    rtp: int  # timestamp, 90 kHz, 32 bits
    marker: bool  # last packet of its frame
    codec: str  # "VP8" or "H264"
    data: bytes  # empty: padding
    starts: bool  # the payload itself shows that a frame begins here
    arrival_s: float  # monotonic time at which it was read from the socket


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFrame:
    """One complete frame as the encoder made it."""

    data: bytes
    codec: str
    rtp: int
    key: bool
    arrival_s: float  # of the packet that came last


class JitterBuffer:
    """Puts the packets of one stream in order and joins them to frames.

    Overflow rule: past `max_packets` (waiting, or between the oldest awaited and the newest) or
    `max_bytes`, everything that waits is dropped, and the stream goes on after the newest packet,
    at the next key frame.
    """

    def __init__(
        self, settings: JitterSettings | None = None, counters: ReceiveCounters | None = None
    ) -> None:
        self.settings = settings or JitterSettings()
        self.counters = counters or ReceiveCounters()
        self.packets = 0  # waiting now
        self.bytes = 0  # waiting now
        self.losses = LossTracker(self.settings)
        self._waiting: dict[int, MediaPacket] = {}  # by unwrapped sequence number
        self._next: int | None = None  # the first packet that is not released yet
        self._highest = 0
        self._clean = False  # the packet before `_next` was the end of a frame
        self._begun = False  # a packet was released or dropped: `_next` no longer moves back
        self._stray: int | None = None  # the next sequence number of a sender that jumped
        self._needs_key = True
        self._asks_key = False
        self._key_asked_s: float | None = None

    def add(self, packet: MediaPacket, now_s: float) -> list[EncodedFrame]:
        """Take in one packet. Returns the frames that are complete now, in order."""
        sequence = self._unwrap(packet.sequence)
        if sequence is None:
            self.counters.late_packets += 1
            return []
        if self._next is None or sequence > self._highest:
            self._extend(sequence, now_s)
        elif sequence < self._next:
            if self._begun:  # a duplicate, or its gap was given up
                self.counters.late_packets += 1
                self.losses.arrived_late(sequence, now_s)
                return []
            self.losses.open(range(sequence + 1, self._next), now_s)
            self._next = sequence
        elif sequence in self._waiting:
            self.counters.late_packets += 1
            return []
        self.counters.gaps_repaired += self.losses.repair(sequence, now_s)
        self._waiting[sequence] = packet
        self.packets += 1
        self.bytes += len(packet.data)
        if self._overflows():
            self._overflow()
            return []
        return list(self._release(now_s))

    def poll(self, now_s: float) -> list[EncodedFrame]:
        """Give up the gaps that have expired. Returns the frames that were held back by them."""
        frames: list[EncodedFrame] = []
        while self._next is not None and (gap := self._first_gap()) is not None:
            if now_s < self.losses.expires_s(gap):
                break
            self._give_up(gap)
            frames.extend(self._release(now_s))
        return frames

    def nacks(self, now_s: float) -> list[int]:
        """The sequence numbers (16 bits) to ask for again at this moment."""
        due = self.losses.nacks(now_s)
        self.counters.nacks += len(due)
        return sorted(sequence % _SEQUENCES for sequence in due)

    def asks_key(self, now_s: float) -> bool:
        """Whether to ask for a key frame at this moment; True at most every `key_interval_s`."""
        if not self._asks_key:
            return False
        interval_s = self.settings.key_interval_s
        if self._key_asked_s is not None and now_s < self._key_asked_s + interval_s:
            return False
        self._key_asked_s = now_s
        self.counters.key_frames_asked += 1
        return True

    def require_key(self) -> None:
        """Released frames were lost later or can't be decoded: go on at a key frame."""
        self._needs_key = True
        self._asks_key = True

    def restart(self) -> None:
        """The sender began another stream (a new SSRC)."""
        self._clear()
        self._next = None
        self._stray = None
        self._begun = False
        self._clean = False
        self._needs_key = True

    def deadline_s(self) -> float | None:
        """When `poll`, `nacks` or `asks_key` has work next; None: not before another packet."""
        if self._next is None:
            return None
        times = list(self.losses.nack_times_s())
        if (first := self._first_gap()) is not None:
            times.append(self.losses.expires_s(first))
        if self._asks_key:
            times.append((self._key_asked_s or 0.0) + self.settings.key_interval_s)
        return min(times, default=None)

    # The place of a packet in the stream

    def _unwrap(self, sequence: int) -> int | None:
        """Unwrap a sequence number; None for one far from the stream (RFC 3550, A.1).

        A sender that jumped is followed after two consecutive packets.
        """
        if self._next is None:
            return sequence + _SEQUENCES
        step = (sequence - self._highest + _SEQUENCES // 2) % _SEQUENCES - _SEQUENCES // 2
        if abs(step) <= self.settings.max_packets:
            self._stray = None
            return max(self._highest + step, 0)
        if self._stray != sequence:
            self._stray = (sequence + 1) % _SEQUENCES
            return None
        self._stray = None
        self.counters.drop("jump")
        self.restart()
        self._asks_key = True
        return sequence + _SEQUENCES

    def _extend(self, sequence: int, now_s: float) -> None:
        """Move the stream's end to `sequence`; packets that were skipped are missing."""
        if self._next is None:
            self._next = sequence
        else:
            self.losses.open(range(self._highest + 1, sequence), now_s)
        self._highest = sequence

    # Frames

    def _release(self, now_s: float) -> Iterator[EncodedFrame]:
        """Take complete frames off the front."""
        while (group := self._front()) is not None:
            if not self._begun and not self._can_begin(group):
                # The stream's first packets come out of order: one before these is on its way.
                self._next = group.start - 1
                self.losses.open([self._next], now_s)
                return
            clean = self._clean
            packets = [self._pop(sequence) for sequence in group]
            self._next = group.stop
            self._clean = True
            self._begun = True
            packets = [packet for packet in packets if packet.data]
            if not packets:
                self._clean = clean  # padding between frames
                continue
            if not clean and not packets[0].starts:
                self._refuse("partial")
                continue
            data = b"".join(packet.data for packet in packets)
            key = is_key(packets[0].codec, data)
            if self._needs_key and not key:
                self._refuse("no_key")
                continue
            self._needs_key = self._asks_key = False
            self.counters.frames_received += 1
            yield EncodedFrame(
                data=data,
                codec=packets[0].codec,
                rtp=packets[0].rtp,
                key=key,
                arrival_s=max(packet.arrival_s for packet in packets),
            )

    def _front(self) -> range | None:
        """The packets of the first frame; None while it is not complete."""
        if self._next is None or (first := self._waiting.get(self._next)) is None:
            return None
        sequence = self._next
        while (packet := self._waiting.get(sequence)) is not None:
            if packet.rtp != first.rtp:  # the frame before ended without a marker
                return range(self._next, sequence)
            sequence += 1
            if packet.marker:
                return range(self._next, sequence)
        return None

    def _can_begin(self, group: range) -> bool:
        """Whether a stream can begin with these packets."""
        first = self._waiting[group.start]
        data = b"".join(self._waiting[sequence].data for sequence in group)
        return first.starts and is_key(first.codec, data)

    def _refuse(self, reason: str) -> None:
        self.counters.drop(reason)
        self.require_key()

    def _first_gap(self) -> int | None:
        assert self._next is not None
        sequence = self._next
        while sequence in self._waiting:
            sequence += 1
        return sequence if sequence in self.losses else None

    def _give_up(self, gap: int) -> None:
        """Drop the gap and the packets before it, which belong to the same frame."""
        assert self._next is not None
        for sequence in range(self._next, gap):
            self._pop(sequence)
        self.losses.give_up(gap)
        self._next = gap + 1
        self._clean = False
        self._begun = True
        self.counters.gaps += 1
        self.require_key()

    def _pop(self, sequence: int) -> MediaPacket:
        packet = self._waiting.pop(sequence)
        self.packets -= 1
        self.bytes -= len(packet.data)
        return packet

    # Bounds

    def _overflows(self) -> bool:
        assert self._next is not None
        span = self._highest - self._next
        return span >= self.settings.max_packets or self.bytes > self.settings.max_bytes

    def _overflow(self) -> None:
        self._clear()
        self._next = self._highest + 1
        self._clean = False
        self._begun = True
        self._refuse("overflow")

    def _clear(self) -> None:
        self._waiting.clear()
        self.losses.clear()
        self.packets = 0
        self.bytes = 0


def starts_frame(codec: str, payload: bytes, data: bytes) -> bool:
    """Whether an RTP payload shows by itself that it begins a frame.

    Args:
        codec: "VP8" or "H264".
        payload: as received.
        data: without its payload header; of H.264 with start codes.
    """
    if codec == "VP8":  # RFC 7741, 4.2: start of partition 0
        return bool(payload) and payload[0] & 0x17 == 0x10
    # RFC 6184: a sequence parameter set or an access unit delimiter comes first
    return data[:4] == b"\0\0\0\1" and len(data) > 4 and data[4] & 0x1F in (7, 9)


def is_key(codec: str, data: bytes) -> bool:
    """Whether a frame can be decoded without any frame before it."""
    if codec == "VP8":  # RFC 6386, 9.1
        return len(data) >= 10 and not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a"
    position = data.find(b"\0\0\1")
    while position >= 0 and position + 3 < len(data):
        if data[position + 3] & 0x1F == 5:  # IDR slice
            return True
        position = data.find(b"\0\0\1", position + 3)
    return False
