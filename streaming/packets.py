"""What travels between the rooms of the receive path: packets, whole frames, and their marks."""

from __future__ import annotations

from dataclasses import dataclass


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
