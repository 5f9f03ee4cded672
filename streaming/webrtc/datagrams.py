"""The UDP sockets of one session: who may send into it, how much, and from which ports it answers.

    socket, TURN relay -> [GuardedProtocol, DatagramGate] -> [DatagramQueue] -> aiortc: DTLS, SRTP

aioice 0.13 hands on a datagram of any source, parses every one as STUN, answers checks of strangers
with errors, and lets what its parser raises out into the log. Here a datagram goes on only if it
comes from an address that an ICE check has validated: the peer knows a password that it can only
have from the SDP answer, or the server from its offer. What strangers send is counted and costs a
look into a set.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import (
    Connection,
    StunProtocol,
    relayed_candidate,
    server_reflexive_candidate,
)
from aioice.stun import Class, Message, parse_message
from aioice.turn import UDP_SOCKET_BUFFER_SIZE

from streaming.webrtc.data_channel import TokenBucket
from streaming.webrtc.jitter_buffer import ReceiveCounters
from streaming.webrtc.offer import OfferError

Address = tuple[str, int]  # host, port

_STUN_TYPES = 4  # the first byte of STUN datagrams is less (RFC 7983)
_BINDING_REQUEST = b"\x00\x01"
_LONGEST = 1500  # bytes; libsrtp's buffer, and more than a network's MTU leaves for a datagram
_ADDRESSES = 32  # validated in a session; a browser has a handful
_STUN_COST = 20.0  # datagrams: what a check costs the event loop, compared with one of video
_NEW_CHECKS_PER_S = 50.0  # from addresses that are not validated yet, but name the session
_GATHER_S = 5.0  # a STUN or TURN server has so long to respond
_ERROR_RESPONSES = 64  # to checks of ours, in a session: each may make aioice repeat the check


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketSettings:
    """Where sessions open their sockets, and how the SDP answer names them."""

    ports: Sequence[int] = (0,)  # to choose from; 0: the system chooses
    announced: tuple[str, ...] = ()  # addresses to name instead of those of this machine


class DatagramQueue(asyncio.Queue[Any]):
    """Datagrams that aioice has read from the socket and the event loop has not handled yet.

    Overflow rule: the oldest leave, when there are `max_datagrams` or when they have waited for
    `max_age_s`. The end mark (None) stays. `read_s` is when the datagram taken last was read, so
    that time spent here counts as age.
    """

    def __init__(self, max_datagrams: int, max_age_s: float, counters: ReceiveCounters) -> None:
        super().__init__()
        self.read_s = 0.0
        self._max_datagrams = max_datagrams
        self._max_age_s = max_age_s
        self._counters = counters

    def put_nowait(self, item: Any) -> None:
        waiting = self._waiting
        oldest_s = time.monotonic() - self._max_age_s
        while waiting and waiting[0][1] is not None:
            if len(waiting) < self._max_datagrams and waiting[0][0] >= oldest_s:
                break
            waiting.popleft()
            self._counters.datagrams_dropped += 1
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


class DatagramGate:
    """Which datagrams of a session's sockets go on. Pure: time is passed in.

    Bounds: `_ADDRESSES` validated addresses (later ones are refused), and `datagrams_per_s` from
    all of them together, twice as many at once. What is over the rate is dropped. A peer that sends
    more than twice the rate for some seconds is `flooding`.
    """

    def __init__(
        self, counters: ReceiveCounters, *, datagrams_per_s: float, now_s: float = 0.0
    ) -> None:
        self.flooding = False
        self.counters = counters
        self._addresses: set[Address] = set()
        self._rate = TokenBucket(datagrams_per_s, 2 * datagrams_per_s, now_s)
        self._excess = TokenBucket(datagrams_per_s, 5 * datagrams_per_s, now_s)
        self._new_checks = TokenBucket(_NEW_CHECKS_PER_S, 2 * _NEW_CHECKS_PER_S, now_s)
        self._error_responses = _ERROR_RESPONSES

    @property
    def validated(self) -> bool:
        """Whether a peer has proved an address."""
        return bool(self._addresses)

    def validate(self, address: Address) -> None:
        """An ICE check has succeeded with this address."""
        if len(self._addresses) < _ADDRESSES:
            self._addresses.add(address)

    def takes_data(self, size: int, address: Address, now_s: float) -> bool:
        """Whether a datagram of `size` bytes that is not STUN goes on."""
        if address not in self._addresses:
            self.counters.stranger_datagrams += 1
            return False
        if not self._within_rate(1, now_s):
            return False
        if not 0 < size <= _LONGEST:
            self.counters.datagram_faults += 1
            return False
        return True

    def takes_check(self, address: Address, now_s: float) -> bool:
        """Whether to parse an ICE check that names the session, and to verify its password."""
        if address in self._addresses:
            return self._within_rate(_STUN_COST, now_s)
        if len(self._addresses) < _ADDRESSES and self._new_checks.spend(1, now_s):
            return True
        self.counters.stun_refused += 1
        return False

    def takes_response(self, message: Message) -> bool:
        """Whether a response to a check of ours goes on."""
        if message.message_class == Class.ERROR:
            self._error_responses -= 1
        return self._error_responses >= 0

    def _within_rate(self, cost: float, now_s: float) -> bool:
        if self._rate.spend(cost, now_s):
            return True
        self.counters.datagrams_over_rate += 1
        if not self._excess.spend(cost, now_s):
            self.flooding = True
        return False


class GuardedProtocol(StunProtocol):
    """A socket, or a relay's address, of one session, behind the session's gate."""

    def __init__(self, receiver: Connection, gate: DatagramGate) -> None:
        super().__init__(receiver)
        self._gate = gate
        self._name = f"{receiver.local_username}:".encode()  # begins the user name of a check

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)
        address = (addr[0], addr[1])  # of IPv6 addresses without flow and scope, as aioice has it
        if data and data[0] < _STUN_TYPES:
            self._receive_stun(data, address)
        elif self._gate.takes_data(len(data), address, time.monotonic()):
            self.receiver.data_received(data, 1)

    def _receive_stun(self, data: bytes, address: Address) -> None:
        gate = self._gate
        try:
            if data[8:20] in self.transactions:
                message = parse_message(data)
                if message.message_class in (Class.RESPONSE, Class.ERROR):
                    if gate.takes_response(message):
                        self.transactions[message.transaction_id].response_received(
                            message, address
                        )
            elif data[:2] != _BINDING_REQUEST or self._name not in data:
                gate.counters.stun_refused += 1
            elif gate.takes_check(address, time.monotonic()):
                message = parse_message(data)
                # aioice needs the attribute; some senders, ffmpeg's among them, leave it out.
                message.attributes.setdefault("PRIORITY", candidate_priority(1, "prflx"))
                self.receiver.request_received(message, address, self)
        except Exception:  # such as struct.error about an attribute's length
            gate.counters.stun_refused += 1

    def send_stun(self, message: Message, addr: Address) -> None:
        """Send it. A response to a check says that the check was authentic: the address is
        validated. Errors about the password or the form are not sent: strangers get nothing."""
        if message.message_class == Class.RESPONSE:
            self._gate.validate(addr)
        elif message.message_class == Class.ERROR and message.error_code in (400, 401):
            self._gate.counters.stun_refused += 1
            return
        super().send_stun(message, addr)

    async def request(
        self,
        request: Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[Message, Address]:
        """Send a check and await its response, which is authentic if there is a key."""
        response, source = await super().request(request, addr, integrity_key, retransmissions)
        if integrity_key is not None:
            self._gate.validate(source)
        return response, source


def guard_sockets(connection: Connection, gate: DatagramGate, settings: SocketSettings) -> None:
    """Let an ICE connection that has gathered nothing yet gather with guarded sockets."""
    gather = partial(_gather, connection, gate, settings)
    connection.get_component_candidates = gather  # type: ignore[method-assign]


async def _gather(
    connection: Connection,
    gate: DatagramGate,
    settings: SocketSettings,
    component: int,
    addresses: list[str],
) -> list[Candidate]:
    """Open a socket for each address, ask the STUN server and the TURN server; the candidates.

    In place of aioice's, which opens unguarded sockets on ports that the system chooses. The
    connection closes what is opened here, whatever happens.

    Raises:
        OfferError: 503, every port is taken.
    """
    # An announced address reaches this machine from outside, by whichever interface.
    named = [("::" if ":" in name else "0.0.0.0", name) for name in settings.announced]
    hosts: list[GuardedProtocol] = []
    for address, name in named or [(address, address) for address in addresses]:
        host = await _open(connection, gate, settings.ports, component, address, name)
        if host is not None:
            hosts.append(host)

    async def relayed(turn_server: Address) -> Candidate:
        candidate, protocol = await relayed_candidate(
            component=component,
            hide_related_address=False,
            protocol_factory=lambda: GuardedProtocol(connection, gate),
            turn_server=turn_server,
            turn_username=connection.turn_username,
            turn_password=connection.turn_password,
            turn_ssl=connection.turn_ssl,
            turn_transport=connection.turn_transport,
        )
        connection._protocols.append(protocol)
        return candidate

    async def reflexive(host: GuardedProtocol, stun_server: Address) -> Candidate:
        return (await server_reflexive_candidate(host, stun_server))[0]

    asked: list[Coroutine[Any, Any, Candidate]] = []
    if (server := connection.stun_server) is not None:  # by IPv4 alone, as aioice does
        ipv4 = [host for host in hosts if ":" not in host.local_candidate.host]
        asked += [reflexive(host, server) for host in ipv4]
    if connection.turn_server is not None:
        asked.append(relayed(connection.turn_server))
    return [host.local_candidate for host in hosts] + await _in_time(asked)


async def _in_time(asked: Sequence[Coroutine[Any, Any, Candidate]]) -> list[Candidate]:
    """What the coroutines return; those that fail or take longer than `_GATHER_S` are left out."""
    tasks = [asyncio.create_task(one) for one in asked]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=_GATHER_S)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    return [result for result in results if not isinstance(result, BaseException)]


async def _open(
    connection: Connection,
    gate: DatagramGate,
    ports: Sequence[int],
    component: int,
    address: str,
    name: str,
) -> GuardedProtocol | None:
    """A socket at `address` whose candidate names `name`; None: this machine has no such address.

    Raises:
        OfferError: 503, every port is taken.
    """
    try:
        bound = _bind(address, ports)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return None
        raise OfferError(503, "Every UDP port for video is taken; try again soon.") from error
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: GuardedProtocol(connection, gate), sock=bound
    )
    connection._protocols.append(protocol)
    protocol.local_candidate = Candidate(
        foundation=candidate_foundation("host", "udp", name),
        component=component,
        transport="udp",
        priority=candidate_priority(component, "host"),
        host=name,
        port=transport.get_extra_info("sockname")[1],
        type="host",
    )
    return protocol


def _bind(address: str, ports: Sequence[int]) -> socket.socket:
    """A UDP socket on one of the ports, tried from a random one on.

    Raises:
        OSError: with EADDRINUSE, all are taken; otherwise the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_SOCKET_BUFFER_SIZE)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        first = random.randrange(len(ports))
        for number in range(len(ports)):
            try:
                bound.bind((address, ports[(first + number) % len(ports)]))
                return bound
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "all ports are taken")
    except BaseException:
        bound.close()
        raise
