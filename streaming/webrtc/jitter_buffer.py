"""Packets of one video stream in, whole decodable frames out, each as soon as it is whole.

Replaces aiortc's jitter buffer, which holds a frame until the next one begins and waits for a lost
packet as long as 512 others take. Here a frame leaves at its RTP marker; a hole is asked for again
twice (NACK) and given up after `hole_s`; from then on frames are dropped, and a key frame is asked
for, until one comes. Plain synchronous code: time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streaming.webrtc.loss_tracker import LossTracker, LossTrackerSettings

_SEQUENCES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class JitterSettings(LossTrackerSettings):
    """Bounds in time, packets and bytes."""

    key_s: float = 0.3  # between two requests for a key frame
    max_packets: int = 1024
    max_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        LossTrackerSettings.__post_init__(self)
        if self.key_s <= 0:
            raise ValueError(f"not usable times: {self}")
        if not 1 <= self.max_packets <= _SEQUENCES // 4 or self.max_bytes < 1:
            raise ValueError(f"not usable bounds: {self}")


@dataclass(slots=True)
class JitterCounts:
    """What became of the packets and frames. `dropped` counts by reason."""

    frames: int = 0  # released
    holes: int = 0  # packets given up
    repaired: int = 0  # lost packets that came after all
    nacks: int = 0  # packets asked for
    plis: int = 0  # key frames asked for
    late: int = 0  # packets of no use: duplicates, later than waited for, from far away
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


class JitterBuffer:
    """Orders the packets of one stream and cuts them into frames.

    Overflow rule: past `max_packets` (waiting, or between the oldest awaited and the newest) or
    `max_bytes`, all that waits is dropped and the stream goes on after the newest packet, at the
    next key frame.
    """

    def __init__(self, settings: JitterSettings | None = None) -> None:
        self.settings = settings or JitterSettings()
        self.counts = JitterCounts()
        self.packets = 0  # waiting now
        self.bytes = 0  # waiting now
        self.holes = LossTracker(self.settings)  # by unwrapped sequence number
        self._waiting: dict[int, MediaPacket] = {}  # by unwrapped sequence number
        self._next: int | None = None  # the first packet that is not released yet
        self._highest = 0
        self._clean = False  # what came before `_next` was the end of a frame
        self._begun = False  # something was released or dropped: `_next` no longer moves back
        self._stray: int | None = None  # where a sender that jumped would go on
        self._needs_key = True
        self._asks_key = False
        self._key_asked_s: float | None = None

    def add(self, packet: MediaPacket, now_s: float) -> list[EncodedFrame]:
        """Take in one packet; the frames that are whole now, in order."""
        sequence = self._place(packet.sequence)
        if sequence is None:
            self.counts.late += 1
            return []
        if self._next is None or sequence > self._highest:
            self._notice_holes(sequence, now_s)
        elif sequence < self._next:
            if self._begun:  # a duplicate, or later than it was waited for
                self.counts.late += 1
                self.holes.came_late(sequence, now_s)
                return []
            self.holes.open(range(sequence + 1, self._next), now_s)
            self._next = sequence
        elif sequence in self._waiting:
            self.counts.late += 1
            return []
        self.counts.repaired += self.holes.fill(sequence, now_s)
        self._waiting[sequence] = packet
        self.packets += 1
        self.bytes += len(packet.data)
        if self._overflows():
            self._overflow()
            return []
        return list(self._release(now_s))

    def poll(self, now_s: float) -> list[EncodedFrame]:
        """Give up the holes that have waited long enough; the frames that this sets free."""
        frames: list[EncodedFrame] = []
        while self._next is not None and (hole := self._first_hole()) is not None:
            if now_s < self.holes.until_s(hole):
                break
            self._give_up(hole)
            frames.extend(self._release(now_s))
        return frames

    def nacks(self, now_s: float) -> list[int]:
        """The sequence numbers (16 bits) to ask for again at this moment."""
        due = self.holes.ask(now_s)
        self.counts.nacks += len(due)
        return sorted(sequence % _SEQUENCES for sequence in due)

    def asks_key(self, now_s: float) -> bool:
        """True when a key frame should be asked for at this moment, at most every `key_s`."""
        if not self._asks_key:
            return False
        if self._key_asked_s is not None and now_s < self._key_asked_s + self.settings.key_s:
            return False
        self._key_asked_s = now_s
        self.counts.plis += 1
        return True

    def require_key(self) -> None:
        """What was released was lost on the way, or can't be decoded: go on at a key frame."""
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
        """When `poll`, `nacks` or `asks_key` next have something to do; None: after a packet."""
        if self._next is None:
            return None
        times = list(self.holes.ask_at_s())
        if (first := self._first_hole()) is not None:
            times.append(self.holes.until_s(first))
        if self._asks_key:
            times.append((self._key_asked_s or 0.0) + self.settings.key_s)
        return min(times, default=None)

    # Where a packet belongs

    def _place(self, sequence: int) -> int | None:
        """Unwrap a sequence number; None for one far from the stream (RFC 3550, A.1).

        A sender that jumped is followed when two packets in a row say so.
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
        self.counts.drop("jump")
        self.restart()
        self._asks_key = True
        return sequence + _SEQUENCES

    def _notice_holes(self, sequence: int, now_s: float) -> None:
        if self._next is None:
            self._next = sequence
        else:
            self.holes.open(range(self._highest + 1, sequence), now_s)
        self._highest = sequence

    # Frames

    def _release(self, now_s: float) -> Iterator[EncodedFrame]:
        """Cut whole frames off the front."""
        while (group := self._front()) is not None:
            if not self._begun and not self._begins(group):
                # The stream's first packets come out of order: one before these is on its way.
                self._next = group.start - 1
                self.holes.open([self._next], now_s)
                return
            clean = self._clean
            packets = [self._take(sequence) for sequence in group]
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
            self.counts.frames += 1
            yield EncodedFrame(
                data=data,
                codec=packets[0].codec,
                rtp=packets[0].rtp,
                key=key,
                arrival_s=max(packet.arrival_s for packet in packets),
            )

    def _front(self) -> range | None:
        """The packets of the first frame when all of them are there."""
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

    def _begins(self, group: range) -> bool:
        """Whether a stream can begin with these packets."""
        first = self._waiting[group.start]
        data = b"".join(self._waiting[sequence].data for sequence in group)
        return first.starts and is_key(first.codec, data)

    def _refuse(self, reason: str) -> None:
        self.counts.drop(reason)
        self.require_key()

    def _first_hole(self) -> int | None:
        assert self._next is not None
        sequence = self._next
        while sequence in self._waiting:
            sequence += 1
        return sequence if sequence in self.holes else None

    def _give_up(self, hole: int) -> None:
        """Drop the hole and the packets before it: they belong to the frame it broke."""
        assert self._next is not None
        for sequence in range(self._next, hole):
            self._take(sequence)
        self.holes.give_up(hole)
        self._next = hole + 1
        self._clean = False
        self._begun = True
        self.counts.holes += 1
        self.require_key()

    def _take(self, sequence: int) -> MediaPacket:
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
        self.counts.drop("overflow")
        self.require_key()

    def _clear(self) -> None:
        self._waiting.clear()
        self.holes.clear()
        self.packets = 0
        self.bytes = 0


# MERGED from streaming.packets: What travels between the rooms of the receive path: packets,
# whole frames, and their marks.


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPacket:
    """One RTP packet with its payload header taken off."""

    sequence: int  # 16 bits
    rtp: int  # timestamp, 90 kHz, 32 bits
    marker: bool  # last packet of its frame
    codec: str  # "VP8" or "H264"
    data: bytes  # empty: padding
    starts: bool  # the payload itself shows that a frame begins here
    arrival_s: float  # monotonic time at which it was read from the socket


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFrame:
    """One whole frame as the encoder made it."""

    data: bytes
    codec: str
    rtp: int
    key: bool
    arrival_s: float  # of the packet that came last


def starts_frame(codec: str, payload: bytes, data: bytes) -> bool:
    """Whether an RTP payload shows by itself that it begins a frame.

    Args:
        codec: "VP8" or "H264".
        payload: as it came; `data`: without its payload header (H.264: with start codes).
    """
    if codec == "VP8":  # RFC 7741, 4.2: start of partition 0
        return bool(payload) and payload[0] & 0x17 == 0x10
    # RFC 6184: a sequence parameter set or an access unit delimiter comes first
    return data[:4] == b"\0\0\0\1" and len(data) > 4 and data[4] & 0x1F in (7, 9)


def is_key(codec: str, data: bytes) -> bool:
    """Whether a frame can be decoded without any before it."""
    if codec == "VP8":  # RFC 6386, 9.1
        return len(data) >= 10 and not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a"
    position = data.find(b"\0\0\1")
    while position >= 0 and position + 3 < len(data):
        if data[position + 3] & 0x1F == 5:  # IDR slice
            return True
        position = data.find(b"\0\0\1", position + 3)
    return False
