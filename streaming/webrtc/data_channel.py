"""The data channels of one peer: a guarded SCTP transport in, messages out.

    SCTP -> [guard] -> aiortc: channels -> session; outbox -> [send_texts] -> channel

aiortc 1.16 hands an exception in its SCTP receive path to the DTLS loop, which ends the session:
invalid UTF-8 or a channel opened twice is enough. It also collects message fragments, streams and
channels without a bound, at a cost that grows with the square of their number. `guard` prevents it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiortc import RTCDataChannel, RTCSctpTransport
from aiortc.exceptions import InvalidStateError

from streaming.webrtc.jitter_buffer import ReceiveCounters

Channel = RTCDataChannel  # for the session, which does not import aiortc


# Of one peer; our pages open two channels, and their longest message has four fragments.
_FRAGMENTS = 64  # of messages that are not complete
_STREAMS = 64
_MISORDERED = 1024  # packets that came before an earlier one


class TokenBucket:
    """A rate limit: `rate` units a second, `burst` at once. Time is passed in."""

    def __init__(self, rate: float, burst: float, now_s: float = 0.0) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def spend(self, amount: float, now_s: float) -> bool:
        """Take `amount` if it is there. Returns whether it was."""
        self._level = min(self._burst, self._level + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if amount > self._level:
            return False
        self._level -= amount
        return True


def guard(sctp: RTCSctpTransport, counters: ReceiveCounters, *, bytes_per_s: float) -> None:
    """Bound what a peer's SCTP costs, and keep its faults from ending the session.

    Packets over the rate are dropped before they are parsed, as a lossy network would. A peer that
    leaves more than `_FRAGMENTS`, `_STREAMS` or `_MISORDERED` open is disconnected.
    """
    bucket = TokenBucket(bytes_per_s, 4 * bytes_per_s, time.monotonic())
    inner: Any = sctp
    handle_data, receive = inner._handle_data, inner._receive

    async def guarded_handle_data(data: bytes) -> None:
        if not bucket.spend(len(data), time.monotonic()):
            counters.channel_packets_dropped += 1
            return
        try:
            await handle_data(data)
        except ConnectionError:
            raise
        except Exception:  # such as an assertion of the parser about hostile bytes
            counters.channel_faults += 1
        streams = inner._inbound_streams
        if (
            sum(len(stream.reassembly) for stream in streams.values()) > _FRAGMENTS
            or max(len(streams), len(inner._data_channels)) > _STREAMS
            or len(inner._sack_misordered) > _MISORDERED
        ):
            counters.channel_faults += 1
            raise ConnectionError("the peer leaves too much open in its data channels")

    async def guarded_receive(stream_id: int, pp_id: int, data: bytes) -> None:
        try:
            await receive(stream_id, pp_id, data)
        except ConnectionError:
            raise
        except Exception:
            counters.channel_faults += 1

    inner._handle_data, inner._receive = guarded_handle_data, guarded_receive


async def send_texts(
    channel: RTCDataChannel,
    next_text: Callable[[], Awaitable[str | None]],
    *,
    buffered_bytes: int,
) -> None:
    """Send each text that `next_text` returns, until it returns None or the channel closes.

    While more than `buffered_bytes` wait in the channel, `next_text` is not called: its owner may
    replace older texts by newer ones.
    """
    drained = asyncio.Event()
    channel.bufferedAmountLowThreshold = buffered_bytes // 2
    channel.on("bufferedamountlow", drained.set)
    channel.on("close", drained.set)
    while channel.readyState == "open":
        if channel.bufferedAmount > buffered_bytes:
            drained.clear()
            await drained.wait()
            continue
        text = await next_text()
        if text is None:
            return
        try:
            channel.send(text)
        except InvalidStateError:  # closed while there was nothing to send
            return
