"""Sessions that live while strangers and hostile peers send whatever they like to their sockets."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest
from aiortc import RTCSessionDescription
from aiortc.rtcsctptransport import Chunk, DataChunk, serialize_packet

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.server import Server
from streaming.settings import ServerSettings, SessionSettings, Settings
from tests.streaming.caller import Caller, calling, problem
from tests.streaming.test_server import until_empty

SETTINGS = Settings(
    server=ServerSettings(port=0, max_sessions=3, grace_s=2.0),
    session=SessionSettings(loopback_ice=True, connect_s=2.0),
)
SDP = {"Content-Type": "application/sdp"}
DATAGRAMS = 5000
MESSAGES = 300


def connection_of(caller: Caller) -> Any:
    """aioice's connection of a caller."""
    sctp: Any = caller.connection.sctp
    return sctp.transport.transport._connection


def address_of(caller: Caller) -> tuple[str, int]:
    """The server's address for a caller."""
    (pair,) = connection_of(caller)._nominated.values()
    address: tuple[str, int] = pair.remote_addr
    return address


def sender_of(caller: Caller) -> Callable[[bytes], None]:
    """Sends datagrams from the caller's own address."""
    (pair,) = connection_of(caller)._nominated.values()
    return lambda data: pair.protocol.transport.sendto(data, pair.remote_addr)


def datagrams(chance: random.Random, count: int, name: bytes) -> list[bytes]:
    """Datagrams like those of STUN, DTLS, RTP and RTCP, whole, mutated and cut, and random ones."""

    def attribute() -> bytes:
        kind = chance.choice([0x06, 0x08, 0x09, 0x20, 0x24, 0x25, 0x8028, 0x8029, 0x802A, 0xFFFF])
        value = name + b":abcd" if kind == 0x06 else chance.randbytes(chance.choice([0, 2, 4, 20]))
        return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)

    def stun() -> bytes:
        body = b"".join(attribute() for _ in range(chance.randrange(6)))
        kind = chance.choice([0x0001, 0x0001, 0x0011, 0x0101, 0x0111, 0x0003, 0x3FFF])
        return struct.pack("!HHI", kind, len(body), 0x2112A442) + chance.randbytes(12) + body

    def dtls() -> bytes:
        body = chance.randbytes(chance.randrange(200))
        head = bytes([chance.choice([20, 21, 22, 23, 24, 63]), 0xFE, 0xFD])
        return head + chance.randbytes(8) + struct.pack("!H", len(body)) + body

    def media() -> bytes:
        head = bytes([chance.choice([0x80, 0x90, 0xB0, 0xBF]), chance.randrange(256)])
        return head + chance.randbytes(chance.choice([0, 2, 10, 100, 1200, 1600, 9000]))

    def anything() -> bytes:
        return chance.randbytes(chance.choice([0, 1, 2, 12, 20, 60, 1500]))

    made = []
    for _ in range(count):
        data = bytearray(chance.choice([stun, dtls, media, anything])())
        for _ in range(chance.choice([0, 0, 1, 3])):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        made.append(
            bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.1 else data)
        )
    return made


async def test_sessions_outlive_five_thousand_datagrams(
    server: Server, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of them come from a stranger's address, half from a peer's own."""
    caplog.set_level(logging.WARNING)
    chance = random.Random(15)
    async with calling(server.url, http) as caller, calling(server.url, http) as other:
        await caller.wait_for("prediction")
        await other.wait_for("prediction")
        session = server.sessions.get(caller.location.rpartition("/")[2])
        assert session is not None
        name = re.search("a=ice-ufrag:(.+?)\r\n", caller.connection.remoteDescription.sdp)
        assert name is not None
        where, send = address_of(caller), sender_of(caller)
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stranger:
            for n, data in enumerate(datagrams(chance, DATAGRAMS, name[1].encode())):
                if n % 2:
                    send(data)
                else:
                    stranger.sendto(data, where)
                if n % 50 == 0:  # so that they fit into the socket's buffer
                    await asyncio.sleep(0.01)
        await caller.wait_for_more("prediction", 5)
        await other.wait_for_more("prediction", 5)
        counts = session.numbers()
        async with http.get(f"{server.url}/metrics") as response:
            dropped = counts["stranger_datagrams"]
            assert f'{{what="stranger_datagrams"}} {dropped}.0' in await response.text()
    assert counts["stranger_datagrams"] + counts["stun_refused"] >= DATAGRAMS // 2
    assert counts["datagram_faults"] > 100
    assert not server.sessions.counts.ended.keys() - {"disconnected", "channel closed"}
    assert caplog.records == []


def messages(chance: random.Random) -> list[tuple[int, bytes]]:
    """Messages of data channels: SCTP's protocol number, and the bytes."""
    texts = [
        b'{"type":"\\ud800"}',
        b'{"type":"settings","\\udfff":1}',
        b'{"type":"take","id":"\\ud83d"}',
        b"\xff\xfe",
        b'{"type":"ping","t":1e999}',
        b'{"type":"ping","t":' + b"9" * 400 + b"}",
        b"[" * 3000,
        b'{"type":"settings","threshold":0.5,"top_k":3}',
        b"\x03\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00again",  # DCEP: opens a channel
        b"\x03\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff",
        b"\x02",
    ]
    made = []
    for _ in range(MESSAGES):
        data = bytearray(chance.choice(texts))
        for _ in range(chance.choice([0, 0, 1, 3])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        made.append((chance.choice([50, 51, 51, 51, 53, 56, 57, 0, 99]), bytes(data)))
    return made


async def test_sessions_outlive_whatever_comes_on_a_data_channel(
    server: Server, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    chance = random.Random(15)
    async with calling(server.url, http) as caller:
        await caller.wait_for("prediction")
        sctp: Any = caller.connection.sctp
        for kind, data in messages(chance):
            await sctp._send(caller.channel.id, kind, data)
            ports, tag = (sctp._local_port, sctp._remote_port), sctp._remote_verification_tag
            packet = bytearray(serialize_packet(*ports, tag, odd(chance, sctp._local_tsn)))
            if chance.random() < 0.2:
                packet[chance.randrange(len(packet))] ^= 1
            await sctp.transport._send_data(bytes(packet))
        await caller.wait_for_more("prediction", 5)
        caller.send(type="clear")
        pongs = len(caller.of("pong"))
        async with asyncio.timeout(15):
            while len(caller.of("pong")) == pongs:  # over the rate messages are not read
                caller.send(type="ping", t=1)
                await caller.wait_for_more("prediction")
        (session,) = server.sessions
        assert session.numbers()["channel_faults"] > 0
    assert caplog.records == []


def odd(chance: random.Random, tsn: int) -> Chunk:
    """An SCTP chunk that aiortc does not send; `tsn` is the next one that it would use.

    Chunks of times to come stay in the receiver's memory: more of them would end the session, and
    those further ahead keep it from acknowledging anything.
    """
    chunk = DataChunk(flags=chance.randrange(8))
    coming = chance.random() < 0.1
    distance = chance.randrange(10_000, 60_000) if coming else -chance.randrange(1, 1 << 30)
    chunk.tsn = (tsn + distance) % (1 << 32)
    chunk.stream_id = 40 if coming else chance.choice([1, 2, 3])
    chunk.stream_seq = chance.randrange(1 << 16)
    chunk.protocol = chance.choice([50, 51, 53])
    chunk.user_data = chance.randbytes(chance.choice([0, 1, 4, 16]))
    if chance.random() < 0.3:
        other = Chunk(flags=chance.randrange(256), body=chunk.user_data)
        other.type = chance.choice([4, 5, 9, 11, 64, 130, 255])
        return other
    return chunk


async def test_a_peer_that_leaves_fragments_open_ends_itself_alone(
    server: Server, http: aiohttp.ClientSession
) -> None:
    """Each costs the event loop more than the one before."""
    async with calling(server.url, http) as good, calling(server.url, http) as hostile:
        await good.wait_for("prediction")
        await hostile.wait_for("prediction")
        sctp: Any = hostile.connection.sctp
        first = sctp._local_tsn
        for number in range(200):
            chunk = DataChunk(flags=0x02 if number == 0 else 0x00)
            chunk.tsn = (first + number) % (1 << 32)
            chunk.stream_id, chunk.stream_seq = 1, sctp._outbound_stream_seq.get(1, 0)
            chunk.protocol, chunk.user_data = 51, b"x"
            await sctp._send_chunk(chunk)
        session = server.sessions.get(hostile.location.rpartition("/")[2])
        assert session is not None
        async with asyncio.timeout(10):
            await asyncio.wait([session.ended])
        await good.wait_for_more("prediction", 5)
        assert len(server.sessions) == 1


async def test_a_peer_that_floods_is_told_and_ended(http: aiohttp.ClientSession) -> None:
    strict = replace(SETTINGS, session=replace(SETTINGS.session, peer_datagrams_per_s=200.0))
    async with (
        serve(strict, StandIn()) as server,
        calling(server.url, http) as good,
        calling(server.url, http) as flooder,
    ):
        await good.wait_for("prediction")
        await flooder.wait_for("prediction")
        session = server.sessions.get(flooder.location.rpartition("/")[2])
        assert session is not None
        send = sender_of(flooder)
        while not session.ended.done():
            for _ in range(50):
                send(b"\x80\x60" + bytes(1000))
            await asyncio.sleep(0.01)
        assert server.sessions.counts.ended == {"flood": 1}
        assert [one["code"] for one in flooder.of("error")] == ["flood"]
        await good.wait_for_more("prediction", 5)


async def test_a_caller_without_a_free_port_is_refused_and_may_come_again(
    http: aiohttp.ClientSession,
) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.bind(("127.0.0.1", 0))
        (_, port) = probe.getsockname()
    one = replace(SETTINGS, session=replace(SETTINGS.session, udp_ports=f"{port}-{port}"))
    async with serve(one, StandIn()) as server, calling(server.url, http) as caller:
        await caller.wait_for("prediction")
        assert address_of(caller) == ("127.0.0.1", port)
        other = Caller(server.url)
        sdp = await other.offer()
        await other.close()
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            assert response.status == 503 and int(response.headers["Retry-After"]) > 0
            assert "UDP port" in (await problem(response))["detail"]
        await caller.wait_for_more("prediction")


@pytest.mark.parametrize("reason", ["ice", "dtls"])
async def test_a_connection_that_fails_says_where(
    reason: str, server: Server, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """On the event stream, in the log, in /metrics, and to who asks for the session later."""
    caplog.set_level(logging.INFO)
    caller = Caller(server.url)
    try:
        sdp = await caller.offer()
        if reason == "dtls":  # the offer names another certificate than the peer has
            sdp = re.sub("(a=fingerprint:[^ ]+ )..:..", r"\g<1>00:00", sdp)
        async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
            assert response.status == 201
            answer = await response.text()
            url = urljoin(f"{server.url}/whip", response.headers["Location"])
        ended = asyncio.create_task(until_empty(server))
        async with http.get(f"{url}/events") as events:
            if reason == "dtls":
                await caller.connection.setRemoteDescription(
                    RTCSessionDescription(answer, "answer")
                )
            told = (await events.content.read()).decode()  # until the session ends
    finally:
        await caller.close()
    async with asyncio.timeout(5):
        await ended
    assert f'"code":"{reason}"' in told and f"({reason.upper()})" in told
    assert server.sessions.counts.ended == {reason: 1}
    async with http.get(f"{url}/events") as response:
        assert response.status == 404
        assert f"({reason.upper()})" in (await problem(response))["detail"]
    assert f"ended: {reason}. " in caplog.text
