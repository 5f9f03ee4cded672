"""A worse network, made inside a peer: loss, delay, jitter and a limited rate, in both directions.

    peer <-> aioice <-> [network] <-> socket

Everything that a peer sends or receives passes it: video, retransmissions, RTCP, data channels.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from aiortc import RTCPeerConnection

_QUEUE_S = 0.2  # that a datagram may wait for the rate; beyond it is lost, as in a router
_HEADERS = 28  # bytes, IPv4 and UDP


def option(metavar: str, parse: Callable[[str], Any]) -> Any:
    """For `Annotated`: a field's text on the command line, where it is not its type's usual one."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: parse(words[0]),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(value)],
    )


def _share(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


_SHARE = option("P", _share)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConditions:
    """A worse network, the same in both directions."""

    loss: Annotated[float, _SHARE] = 0.0  # share of the datagrams that is lost: 0.02 or 2%
    rtt_ms: float = 0.0  # round trip time added, half of it each way
    jitter_ms: float = 0.0  # each way, up to so much more or less
    rate_kbit: float | None = None  # kbit/s each way
    seed: int = 0  # the same packets are lost for the same seed

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1:
            raise ValueError("--loss must be at least 0 and below 1; 2% is 0.02")
        if not 0 <= self.rtt_ms <= 10_000 or not 0 <= self.jitter_ms <= self.rtt_ms / 2:
            raise ValueError("--rtt-ms must lie in 0 to 10000, --jitter-ms in 0 to half of it")
        if self.rate_kbit is not None and not 1 <= self.rate_kbit <= 1e7:
            raise ValueError("--rate-kbit must lie in 1 to 10000000")

    @property
    def impaired(self) -> bool:
        return bool(self.loss or self.rtt_ms or self.rate_kbit)


class ImpairedLink:
    """One direction. For the same seed it loses and delays the same datagrams.

    Order is kept: on a real network, packets that overtake others mostly took another route.
    """

    def __init__(self, network: NetworkConditions, seed: int) -> None:
        self._network = network
        self._random = random.Random(seed)
        self._free_s = 0.0  # when the rate lets the next one leave
        self._last_s = 0.0

    def arrives_s(self, size: int, now_s: float) -> float | None:
        """When a datagram of `size` bytes sent at `now_s` arrives; None: it is lost."""
        network = self._network
        lost = self._random.random() < network.loss
        jitter_s = self._random.uniform(-1, 1) * network.jitter_ms / 1000
        if lost:
            return None
        leaves_s = now_s
        if network.rate_kbit is not None:
            took_s = (size + _HEADERS) * 8 / (1000 * network.rate_kbit)
            leaves_s = max(now_s, self._free_s) + took_s
            if leaves_s - now_s > _QUEUE_S + took_s:
                return None
            self._free_s = leaves_s
        self._last_s = max(self._last_s, leaves_s + network.rtt_ms / 2000 + jitter_s)
        return self._last_s


def impair(connection: RTCPeerConnection, network: NetworkConditions, seed: int) -> None:
    """Put links under a connection that has gathered its candidates."""
    owners: list[Any] = [*connection.getSenders(), connection.sctp]
    transports = dict.fromkeys(owner.transport for owner in owners if owner is not None)
    for number, transport in enumerate(transports):
        for protocol in transport.transport._connection._protocols:
            up = ImpairedLink(network, seed + 2 * number)
            down = ImpairedLink(network, seed + 2 * number + 1)
            socket = protocol.transport
            socket.sendto = _over(up, socket, socket.sendto)
            protocol.datagram_received = _over(down, socket, protocol.datagram_received)


def _over(
    link: ImpairedLink, socket: asyncio.DatagramTransport, deliver: Callable[[bytes, Any], None]
) -> Callable[..., None]:
    """Like `deliver`, but late, or not at all, as the link decides or when the socket closes."""
    loop = asyncio.get_running_loop()

    def deliver_if_open(data: bytes, address: Any) -> None:
        if not socket.is_closing():
            deliver(data, address)

    def pass_on(data: bytes, address: Any = None) -> None:
        arrives_s = link.arrives_s(len(data), loop.time())
        if arrives_s is not None:
            loop.call_at(arrives_s, deliver_if_open, data, address)

    return pass_on
