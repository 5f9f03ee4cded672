"""The data channel's guarded edge: what a peer may do to us over SCTP, and how we speak to it.

aiortc 1.16 hands an exception in its SCTP receive path to the DTLS loop, which ends the session:
invalid UTF-8 or a channel opened twice is enough. It also takes in fragments without a bound, at a
cost that grows with their square. `guard` puts a fence before both.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from aiortc import RTCDataChannel, RTCSctpTransport
from aiortc.exceptions import InvalidStateError

from streaming.messages import encode
from streaming.subscribers import Outbox


@dataclass(slots=True)
class Allowance:
    """A token bucket: `rate` units a second, `burst` at once; time is passed in, in seconds."""

    rate: float
    burst: float
    level: float = 0.0
    at_s: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.burst

    def spend(self, amount: float, now_s: float) -> bool:
        """Take `amount` if it is there."""
        self.level = min(self.burst, self.level + (now_s - self.at_s) * self.rate)
        self.at_s = now_s
        if amount > self.level:
            return False
        self.level -= amount
        return True


@dataclass(slots=True)
class GuardCounts:
    """What the fence kept out, for /metrics."""

    packets_dropped: int = 0  # over the allowance; SCTP sends them again, more slowly
    faults: int = 0  # malformed packets and messages


def guard(sctp: RTCSctpTransport, *, bytes_per_s: float) -> GuardCounts:
    """Bound what a peer's SCTP costs, and keep its faults from ending the session.

    Packets over the allowance are dropped before they are parsed, as a lossy network would.
    """
    counts = GuardCounts()
    allowance = Allowance(bytes_per_s, 4 * bytes_per_s, at_s=time.monotonic())
    inner: Any = sctp
    handle_data, receive = inner._handle_data, inner._receive

    async def guarded_handle_data(data: bytes) -> None:
        if not allowance.spend(len(data), time.monotonic()):
            counts.packets_dropped += 1
            return
        try:
            await handle_data(data)
        except ConnectionError:
            raise
        except Exception:  # whatever the parser's assertions make of hostile bytes
            counts.faults += 1

    async def guarded_receive(stream_id: int, pp_id: int, data: bytes) -> None:
        try:
            await receive(stream_id, pp_id, data)
        except ConnectionError:
            raise
        except Exception:
            counts.faults += 1

    inner._handle_data, inner._receive = guarded_handle_data, guarded_receive
    return counts


async def speak(channel: RTCDataChannel, outbox: Outbox, *, buffered_bytes: int) -> None:
    """Send what the outbox holds until the channel or the outbox closes.

    While more than `buffered_bytes` wait in the channel nothing is taken out of the outbox, where
    newer messages replace older ones.
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
        message = await outbox.take()
        if message is None:
            return
        try:
            channel.send(encode(message))
        except InvalidStateError:  # closed while there was nothing to say
            return
