"""A network made worse inside of a sender: loss, delay, jitter and a rate, in both directions.

For machines without `tc netem` (see namespace.py). It lies between aioice and its sockets, so that
everything a peer sends or hears goes through it: video, retransmissions, reports, data channels.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from aiortc import RTCPeerConnection

from streaming.bench.settings import NetworkConditions

_QUEUE_S = 0.2  # of datagrams that wait for the rate; more are lost, as in a router
_BITS = 8
_HEADERS = 28  # bytes, IPv4 and UDP


class ImpairedLink:
    """One direction. The same datagrams are lost, and as late, for the same seed.

    Order is kept: what overtakes on a real network mostly took another way.
    """

    def __init__(self, network: NetworkConditions, seed: int) -> None:
        self._network = network
        self._chance = random.Random(seed)
        self._free_s = 0.0  # when the rate lets the next one leave
        self._last_s = 0.0

    def arrives_s(self, size: int, now_s: float) -> float | None:
        """When a datagram of `size` bytes sent at `now_s` comes out; None: never."""
        network = self._network
        lost = self._chance.random() < network.loss
        jitter_s = self._chance.uniform(-1, 1) * network.jitter_ms / 1000
        if lost:
            return None
        leaves_s = now_s
        if network.rate_kbit is not None:
            took_s = (size + _HEADERS) * _BITS / (1000 * network.rate_kbit)
            leaves_s = max(now_s, self._free_s) + took_s
            if leaves_s - now_s > _QUEUE_S + took_s:
                return None
            self._free_s = leaves_s
        self._last_s = max(self._last_s, leaves_s + network.rtt_ms / 2000 + jitter_s)
        return self._last_s


class _Socket:
    """A datagram transport behind a link; everything else is the transport's own affair."""

    def __init__(self, transport: asyncio.DatagramTransport, link: ImpairedLink) -> None:
        self._transport = transport
        self._link = link
        self._loop = asyncio.get_running_loop()

    def sendto(self, data: bytes, address: Any = None) -> None:
        arrives_s = self._link.arrives_s(len(data), self._loop.time())
        if arrives_s is not None:
            self._loop.call_at(arrives_s, self._send, data, address)

    def _send(self, data: bytes, address: Any) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def worsen(connection: RTCPeerConnection, network: NetworkConditions, seed: int) -> None:
    """Put links under a connection that has gathered its candidates."""
    owners: list[Any] = [*connection.getSenders(), connection.sctp]
    transports = dict.fromkeys(owner.transport for owner in owners if owner is not None)
    loop = asyncio.get_running_loop()
    for number, transport in enumerate(transports):
        for protocol in transport.transport._connection._protocols:
            up, down = (
                ImpairedLink(network, seed + 2 * number),
                ImpairedLink(network, seed + 2 * number + 1),
            )
            protocol.transport = _Socket(protocol.transport, up)
            protocol.datagram_received = _late(protocol.datagram_received, down, loop)


def _late(receive: Any, link: ImpairedLink, loop: asyncio.AbstractEventLoop) -> Any:
    def received(data: bytes, address: Any) -> None:
        arrives_s = link.arrives_s(len(data), loop.time())
        if arrives_s is not None:
            loop.call_at(arrives_s, receive, data, address)

    return received
