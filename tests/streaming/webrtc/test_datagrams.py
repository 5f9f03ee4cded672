"""What strangers and peers send to a session's sockets: what goes on, and what it may not end."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from aioice import stun
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import SRTP_PROFILES
from OpenSSL import SSL

from streaming.webrtc.datagrams import DatagramQueue
from streaming.webrtc.jitter_buffer import ReceiveCounters
from streaming.webrtc.peer import BoundedPeerConnection
from tests.streaming.webrtc.test_peer import Loopback, connected


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
    "stun-name": stun_message(0x0001, (0x0006, b"\xff\xfe")),
}


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
    data = ATTACKS[attack]
    caplog.set_level(logging.WARNING)
    sent = 0

    def send() -> None:
        nonlocal sent
        stranger.sendto(data, where)
        sent += 1

    def before_ice(server: BoundedPeerConnection, answer: str) -> None:
        nonlocal where
        where = ("127.0.0.1", port_of(answer))
        send()
        ice = server.getTransceivers()[0].receiver.transport.transport
        ice.on("statechange", lambda: send() if ice.state == "completed" else None)

    where = ("", 0)
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
