"""Connections that ask for nothing, never end a request, or never read: each is ended."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp
import pytest

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.callers import CallerRules
from streaming.connections import Connections
from streaming.server import Server
from streaming.settings import ServerSettings, SessionSettings, Settings
from tests.streaming.caller import calling

SETTINGS = Settings(
    server=ServerSettings(
        port=0, grace_s=1.0, connections=400, request_s=1.0, body_s=0.3, stalled_s=0.3
    ),
    session=SessionSettings(loopback_ice=True),
)
WITHIN_S = 10.0  # far more than any limit above, far less than aiohttp's own


def place(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.url)
    return parts.hostname or "", parts.port or 0


async def sent(server: Server, request: bytes) -> tuple[bytes, asyncio.StreamWriter]:
    """What comes back for `request` until the server closes the connection."""
    reader, writer = await asyncio.open_connection(*place(server))
    writer.write(request)
    async with asyncio.timeout(WITHIN_S):
        return await reader.read(), writer


@pytest.mark.parametrize(
    "request_start",
    [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ", b"GET / HTTP/1.1\r\n"],
)
async def test_half_requests_are_closed(server: Server, request_start: bytes) -> None:
    """Three hundred at once, and somebody who asks for a page meanwhile gets it."""
    waiting = [asyncio.create_task(sent(server, request_start)) for _ in range(300)]
    async with aiohttp.ClientSession() as http, http.get(server.url) as response:
        assert response.status == 200
    for received, writer in await asyncio.gather(*waiting):
        assert received == b""
        writer.close()


async def test_a_head_that_comes_byte_by_byte_is_closed(server: Server) -> None:
    reader, writer = await asyncio.open_connection(*place(server))
    writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
    ended = asyncio.create_task(reader.read())
    async with asyncio.timeout(WITHIN_S):
        while not ended.done():
            writer.write(b"x")
            await asyncio.wait([ended], timeout=0.05)
    writer.close()


@pytest.mark.parametrize("method", [b"POST", b"PATCH"])
async def test_a_body_that_does_not_come_is_a_408(server: Server, method: bytes) -> None:
    head = method + b" /whip HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/sdp\r\n"
    received, writer = await sent(server, head + b"Content-Length: 500\r\n\r\nv=0\r\n")
    expected = b"HTTP/1.1 408 " if method == b"POST" else b"HTTP/1.1 405 "
    assert received.startswith(expected), "and the connection is closed, whatever the route"
    writer.close()


async def test_an_idle_connection_is_closed(server: Server) -> None:
    received, writer = await sent(server, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_handshake_that_does_not_come_is_given_up() -> None:
    secure = replace(SETTINGS, server=replace(SETTINGS.server, tls_self_signed=True))
    async with serve(secure, StandIn()) as server:
        received, writer = await sent(server, b"")
        assert received == b""
        writer.close()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as http, http.get(server.url) as page:
            assert page.status == 200


async def ended(unread: socket.socket) -> bool:
    """Whether the server resets the connection in time. What has come is not read."""
    poll = select.poll()
    poll.register(unread, 0)  # for errors and the end of the connection alone
    return bool(await asyncio.to_thread(poll.poll, 1000 * WITHIN_S))


@contextlib.asynccontextmanager
async def unread_connection(server: Server, request: str) -> AsyncIterator[socket.socket]:
    """A connection that sends a request, and reads nothing of what comes back."""
    with socket.socket() as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.setblocking(False)
        await asyncio.get_running_loop().sock_connect(unread, place(server))
        await asyncio.get_running_loop().sock_sendall(unread, request.encode())
        yield unread


async def test_pages_that_are_not_read_are_given_up(server: Server) -> None:
    page = "GET /static/style.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with unread_connection(server, page * 400) as unread:
        assert await ended(unread)


async def test_an_event_stream_that_is_not_read_is_ended(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as caller:
        await caller.wait_for("prediction")
        (session,) = server.sessions
        request = f"GET {caller.location}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        async with unread_connection(server, request) as unread:
            ending = asyncio.create_task(ended(unread))
            while not ending.done():  # more messages than the buffers on the way can hold
                session.warn_stopping(1.0)
                await asyncio.wait([ending], timeout=0.0001)
            assert ending.result()
        await caller.wait_for_more("prediction", 3)
        assert session.buffers()["event_streams"][0] == 1, "only the page is left"


class Strangers(CallerRules):
    """No connection comes from this machine."""

    def is_local(self, host: str) -> bool:
        return False


@contextlib.asynccontextmanager
async def accepting(most: int, each: int) -> AsyncIterator[tuple[Connections, int]]:
    settings = ServerSettings(connections=most, connections_per_address=each)
    connections = Connections(settings, Strangers(settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        running = asyncio.create_task(connections.run(listener, Greeter, None))
        yield connections, listener.getsockname()[1]
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"!")


async def greeted(port: int, source: str) -> asyncio.StreamWriter | None:
    """A connection from `source`; None if the server closes it at once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        async with asyncio.timeout(WITHIN_S):
            if await reader.read(1):
                return writer
    except ConnectionError:
        pass
    writer.close()
    return None


@pytest.mark.parametrize(("most", "each"), [(3, 2), (2, 9)])
async def test_connections_are_bounded_for_one_address_and_in_all(most: int, each: int) -> None:
    async with accepting(most, each) as (connections, port):
        first, second = await greeted(port, "127.0.0.1"), await greeted(port, "127.0.0.1")
        assert first and second
        assert await greeted(port, "127.0.0.1") is None
        other = await greeted(port, "127.0.0.2")
        assert (other is not None) == (most > 2)
        assert len(connections) == most
        first.close()
        async with asyncio.timeout(WITHIN_S):
            while (again := await greeted(port, "127.0.0.1")) is None:
                pass
        assert connections.refused >= (1 if other else 2)
        for writer in filter(None, (second, other, again)):
            writer.close()
