"""What strangers and peers send to a session's sockets: what goes on, and what it may not end."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import aioice
import pytest
from aioice import stun
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import SRTP_PROFILES, generate_certificate
from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from streaming.webrtc import peer
from streaming.webrtc.datagrams import DatagramGate, DatagramQueue, SocketSettings
from streaming.webrtc.ice import CandidateRules
from streaming.webrtc.jitter_buffer import ReceiveCounters
from streaming.webrtc.offer import Fragment, OfferError, parse_trickle
from streaming.webrtc.peer import BoundedPeerConnection, Certificate
from tests.streaming.webrtc.test_peer import LOOPBACK, Loopback, connected


def stun_message(kind: int, *attributes: tuple[int, bytes]) -> bytes:
    """A STUN message whose attributes may be malformed: (type, value), padded."""
    body = b"".join(
        struct.pack("!HH", type, len(value)) + value + bytes(-len(value) % 4)
        for type, value in attributes
    )
    return struct.pack("!HHI12s", kind, len(body), stun.COOKIE, b"from outside") + body


def client_hello() -> bytes:
    """The first flight of a DTLS client."""
    context = RTCCertificate.generateCertificate()._create_ssl_context(SRTP_PROFILES)
    connection = SSL.Connection(context)
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(1500)


# Each ended a session, kept one from connecting, or wrote a traceback, from any socket.
ATTACKS = {
    "empty": b"",
    "rtp": b"\x80\x60" + bytes(1598),
    "rtcp": b"\x80\xc8" + bytes(1598),
    "dtls-alert": bytes.fromhex("15fefd 0000 000000000000 0002 0228"),
    "client-hello": client_hello(),
    "stun-priority": stun_message(0x0001, (0x0024, b"\0\0")),
    "stun-error-code": stun_message(0x0111, (0x0009, b"\0\0\xff\xff\xff\xff")),
    "stun-address": stun_message(0x0001, (0x0020, b"")),
    "stun-no-name": stun_message(0x0001, (0x0006, b"\xff\xfe")),
    # Of somebody who knows the session's name, but not its password.
    "stun-name": stun_message(0x0001, (0x0006, b"NAME:\xff\xfe")),
    "stun-name-priority": stun_message(0x0001, (0x0006, b"NAME:abcd"), (0x0024, b"\0\0")),
    "stun-password": stun_message(0x0001, (0x0006, b"NAME:abcd"), (0x0008, bytes(20))),
    "stun-bare": stun_message(0x0001, (0x0006, b"NAME:abcd")),
}


END = "a=end-of-candidates\r\n"


def port_of(sdp: str) -> int:
    """The port of an SDP's first candidate."""
    match = re.search(r"a=candidate:\S+ 1 udp \d+ \S+ (\d+) ", sdp)
    assert match is not None
    return int(match[1])


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """A socket that belongs to no peer."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.setblocking(False)
        yield stranger


async def until_live(loopback: Loopback, frames: int = 5) -> None:
    """Wait until so many more frames have come."""
    count = len(loopback.frames) + frames
    await loopback.until(lambda: len(loopback.frames) >= count)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_stranger_s_datagram_neither_ends_nor_prevents_a_session(
    attack: str, stranger: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """Sent before ICE, before DTLS, and while video flows."""
    data, where = ATTACKS[attack], ("", 0)
    caplog.set_level(logging.WARNING)
    sent = 0

    def send() -> None:
        nonlocal sent
        stranger.sendto(data, where)
        sent += 1

    async def before_ice(server: BoundedPeerConnection, answer: str) -> None:
        nonlocal where, data
        where = ("127.0.0.1", port_of(answer))
        name = re.search("a=ice-ufrag:(.{4})\r\n", answer)
        assert name is not None
        data = data.replace(b"NAME", name[1].encode())
        send()
        ice = server.getTransceivers()[0].receiver.transport.transport
        ice.on("statechange", lambda: send() if ice.state == "completed" else None)

    async with connected(answered=before_ice) as loopback:
        await until_live(loopback)
        send()
        await until_live(loopback)
        assert loopback.server.connectionState == "connected"
        counts = loopback.server.counters
        assert sent == 3
        assert counts.stranger_datagrams + counts.stun_refused == 3
        assert counts.datagram_faults == 0
    with pytest.raises(BlockingIOError):
        stranger.recv(2000)  # nothing comes back: a server that answers can be made to flood others
    assert caplog.records == []


async def test_authentic_packets_that_can_not_be_parsed_are_counted_until_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Header extensions that are too short for what they say they are."""
    monkeypatch.setattr(peer, "_FAULTS", 100)
    caplog.set_level(logging.WARNING)
    async with connected() as loopback:
        await until_live(loopback)
        transport: Any = loopback.sender.getSenders()[0].transport
        sent = 0
        while loopback.server.connectionState == "connected":
            for id in range(1, 15):
                await transport._send_rtp(
                    struct.pack("!BBHLLHH", 0x90, 96, sent, sent, 7, 0xBEDE, 1)
                    + bytes([id << 4, 0, 0, 0])
                )
                sent += 1
            if sent == 14 * 5:
                await until_live(loopback)
                assert loopback.server.counters.datagram_faults >= 5
            await asyncio.sleep(0)
        assert loopback.server.counters.datagram_faults == 101
    assert caplog.records == []


class OddCertificate(RTCCertificate):
    """A certificate of a version that does not exist: OpenSSL takes it, cryptography does not."""

    def __init__(self) -> None:
        plain = RTCCertificate.generateCertificate()
        super().__init__(plain._key, plain._cert)
        der = plain._cert.public_bytes(Encoding.DER)
        self._odd = crypto.load_certificate(
            crypto.FILETYPE_ASN1, der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07")
        )

    def _create_ssl_context(self, srtp_profiles: list[Any]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.use_certificate(self._odd)
        context.use_privatekey(self._key)
        return context


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509 objects")
async def test_a_certificate_that_can_not_be_read_fails_at_once_and_leaves_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    failed = asyncio.Event()

    async def watch(server: BoundedPeerConnection, answer: str) -> None:
        server.on("connectionstatechange", failed.set)

    async with connected(certificate=OddCertificate(), answered=watch) as loopback:
        async with asyncio.timeout(10):
            while loopback.server.connectionState != "failed":
                failed.clear()
                await failed.wait()
        assert loopback.server.stage == "dtls"
    gc.collect()
    assert caplog.records == []


@pytest.mark.parametrize("rsa", [False, True])
async def test_a_peer_that_names_no_address_and_no_priority_is_found_by_its_checks(
    rsa: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As browsers with `.local` names alone, and ffmpeg 8, do; GStreamer's certificate is RSA."""
    build = aioice.Connection.build_request

    def without_priority(*args: Any, **kwargs: Any) -> stun.Message:
        request = build(*args, **kwargs)
        del request.attributes["PRIORITY"]
        return request

    monkeypatch.setattr(aioice.Connection, "build_request", without_priority)
    certificate = None
    if rsa:
        key: Any = rsa_keys.generate_private_key(65537, 2048)
        certificate = Certificate(key, generate_certificate(key))
    # Loopback addresses are refused in the offer; so none is left, but the end of candidates was.
    async with connected(rules=CandidateRules(), certificate=certificate) as loopback:
        await until_live(loopback)


async def test_the_end_of_candidates_alone_does_not_stop_the_search() -> None:
    """As a page trickles that has refused or `.local` addresses only."""

    async def ended(server: BoundedPeerConnection, answer: str) -> None:
        await server.add_fragment(parse_trickle(END))

    async with connected(rules=CandidateRules(), answered=ended) as loopback:
        await until_live(loopback)


async def test_candidates_are_bounded_and_none_follows_their_end() -> None:
    def fragment(number: int, end: str = "") -> Fragment:
        address = f"127.0.{number // 250}.{number % 250 + 1}"
        line = f"a=candidate:1 1 udp 1 {address} 9 typ host\r\n"
        return parse_trickle(line + end, rules=LOOPBACK)

    async def trickle(server: BoundedPeerConnection, answer: str) -> None:
        for number in range(64):
            await server.add_fragment(fragment(number))
        with pytest.raises(OfferError, match="64 candidates at most") as refused:
            await server.add_fragment(fragment(64, END))
        assert refused.value.status == 429
        await server.add_fragment(parse_trickle(END))
        await server.add_fragment(parse_trickle(END))  # twice does no harm
        with pytest.raises(OfferError, match="the end of candidates") as refused:
            await server.add_fragment(fragment(64))
        assert refused.value.status == 400

    async with connected(rules=CandidateRules(), answered=trickle) as loopback:
        assert len(loopback.server._transports) == 1
        for transport in loopback.server._transports:
            assert len(transport.transport.getRemoteCandidates()) == 64


async def test_sessions_keep_to_the_ports_and_name_the_announced_address() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.bind(("", 0))
        (_, port) = probe.getsockname()
    sockets = SocketSettings(ports=range(port, port + 1), announced=("127.0.0.1",))
    seen: list[str] = []

    async def see(server: BoundedPeerConnection, answer: str) -> None:
        seen.append(answer)

    for _ in range(2):  # the port is free again when its session has ended
        async with connected(sockets=sockets, answered=see) as loopback:
            await until_live(loopback)
            with pytest.raises(OfferError, match="Every UDP port") as refused:
                async with connected(sockets=sockets):
                    raise AssertionError("a second session got a port")
            assert refused.value.status == 503
    for answer in seen:
        assert re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+)", answer) == [
            ("127.0.0.1", str(port))
        ]


def test_a_peer_within_the_rate_passes_and_one_far_above_it_floods() -> None:
    counters = ReceiveCounters()
    gate = DatagramGate(counters, datagrams_per_s=100)
    caller, stranger = ("10.0.0.1", 1), ("10.0.0.1", 2)
    gate.validate(caller)
    for number in range(1000):
        assert gate.takes_data(1000, caller, number / 100)
        assert not gate.takes_data(1000, stranger, number / 100)
    assert (counters.datagrams_over_rate, counters.stranger_datagrams) == (0, 1000)
    passed = [gate.takes_data(1000, caller, 20 + number / 180) for number in range(1800)]
    assert 1100 <= sum(passed) <= 1250 and not gate.flooding  # the rest is dropped
    for number in range(3600):
        gate.takes_data(1000, caller, 40 + number / 600)
        if gate.flooding:
            break
    assert gate.flooding and 1 < number / 600 < 5


def test_a_gate_has_bounds_for_addresses_checks_and_sizes() -> None:
    counters = ReceiveCounters()
    gate = DatagramGate(counters, datagrams_per_s=100)
    assert not gate.validated
    for number in range(100):
        gate.validate(("10.0.0.1", number))
    assert [gate.takes_data(9, ("10.0.0.1", number), 1) for number in range(100)].count(True) == 32
    assert not gate.takes_check(("10.0.0.1", 99), 1)  # no more addresses
    assert not gate.takes_data(0, ("10.0.0.1", 1), 1)
    assert not gate.takes_data(1501, ("10.0.0.1", 1), 1)
    assert counters.datagram_faults == 2
    fresh = DatagramGate(ReceiveCounters(), datagrams_per_s=100)
    taken = [fresh.takes_check(("10.0.0.1", number), 0.0) for number in range(500)]
    assert taken.count(True) == 100
    assert fresh.takes_check(("10.0.0.1", 1), 1.0)


async def test_the_datagram_queue_drops_the_oldest_but_never_the_end_mark() -> None:
    counters = ReceiveCounters()
    queue = DatagramQueue(3, 60, counters)
    before_s = time.monotonic()
    for number in range(5):
        queue.put_nowait(number)
    assert counters.datagrams_dropped == 2 and queue.qsize() == 3
    assert [await queue.get() for _ in range(3)] == [2, 3, 4]
    assert before_s <= queue.read_s <= time.monotonic()
    for item in (None, 1, 2, 3, 4):
        queue.put_nowait(item)
    assert await queue.get() is None
    with pytest.raises(asyncio.QueueEmpty):
        [queue.get_nowait() for _ in range(9)]


async def test_the_datagram_queue_drops_datagrams_that_waited_too_long() -> None:
    counters = ReceiveCounters()
    queue = DatagramQueue(100, 0.02, counters)
    queue.put_nowait("old")
    await asyncio.sleep(0.05)  # the bound itself, not a wait for something
    queue.put_nowait("new")
    assert await queue.get() == "new"
    assert counters.datagrams_dropped == 1


async def test_get_waits_for_a_datagram() -> None:
    queue = DatagramQueue(3, 60, ReceiveCounters())
    taking = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put_nowait(b"x")
    assert await taking == b"x"
