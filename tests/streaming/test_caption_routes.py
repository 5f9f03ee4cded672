"""Captions over real HTTP: who may read, what they get, what they can't do, and what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

from models.schema import Sign
from streaming import caption_routes
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.captions import MAX_LINES, MAX_READERS, CaptionFeed
from streaming.ids import new_id
from streaming.server import Server
from streaming.settings import ClusterSettings, ServerSettings, SessionSettings, Settings
from tests.streaming.caller import Caller, calling, problem
from tests.streaming.event_reader import Reader, shared

SETTINGS = Settings(
    server=ServerSettings(
        port=0, max_sessions=3, max_sessions_per_address=3, grace_s=30.0, stalled_s=1.0
    ),
    session=SessionSettings(loopback_ice=True),
)


def feed_of(server: Server) -> CaptionFeed:
    (session,) = server.sessions
    assert session.pipeline.captions
    return session.pipeline.captions


def shown(feed: CaptionFeed, id: int, gloss: str) -> None:
    feed.show(Sign(id=id, gloss=gloss, p=1, alternatives=(), start_s=0, end_s=1, final=True), 0.0)


async def test_a_reader_that_does_not_read_is_dropped_alone(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as caller:
        await caller.wait_for("hello")
        addresses = await shared(http, caller)
        feed = feed_of(server)
        where = urlsplit(server.url)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, (where.hostname, where.port))
            head = f"GET /{addresses['events']} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n"
            await loop.sock_sendall(slow, head.encode())
            async with http.get(f"{server.url}/{addresses['events']}") as events:
                reader = Reader(events)
                await reader.until("captions")
                first = await loop.sock_recv(slow, 12)
                assert first == b"HTTP/1.1 200"
                id = 0
                async with asyncio.timeout(60):
                    while len(feed.captions) == 2:
                        id += 1
                        shown(feed, id, "long " * 40)
                        await reader.until("line", n=id)
                shown(feed, id + 1, "after")
                assert (await reader.until("line", n=id + 1))["gloss"] == "after"
        async with http.get(f"{server.url}/{addresses['events']}") as events:
            lines = (await Reader(events).until("captions"))["lines"]
            assert len(lines) == MAX_LINES and lines[-1]["gloss"] == "after"
        await caller.wait_for_more("prediction", 3)


async def test_readers_have_a_bound_of_their_session_and_of_the_server(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with (
        calling(server.url, http) as caller,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as readers,
        contextlib.AsyncExitStack() as stack,
    ):
        await caller.wait_for("hello")
        addresses = await shared(http, caller)
        url = f"{server.url}/{addresses['vtt']}"
        for _ in range(MAX_READERS):
            response = await stack.enter_async_context(readers.get(url))
            assert response.status == 200
        async with http.get(url) as response:
            assert response.status == 429 and response.headers["Retry-After"]
            await problem(response)
        async with http.get(f"{server.url}/metrics") as response:
            text = await response.text()
        assert f'livegloss_buffer{{buffer="caption_readers"}} {MAX_READERS}.0' in text
        await stack.aclose()
        server._captions.most_readers = 0
        async with http.get(url) as response:
            assert response.status == 429
        await caller.wait_for_more("prediction", 3)


async def test_captions_without_a_session_end_after_a_while(
    server: Server, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(server.url, http) as caller:
        await caller.wait_for("hello")
        addresses = await shared(http, caller)
        monkeypatch.setattr(caption_routes, "_BEAT_S", 0.05)
        async with http.get(f"{server.url}/{addresses['events']}") as events:
            reader = Reader(events)
            await reader.until("captions", state="live")
            async with http.delete(f"{server.url}{caller.location}") as response:
                assert response.status == 200
            await reader.until("captions", state="paused")
            monkeypatch.setattr(caption_routes, "KEPT_S", 0.0)
            await reader.until("captions", state="ended")
            assert await reader.next() is None
            assert b":\n\n" in reader.raw, "a stream without news is kept alive"
        assert len(server._captions._kept) == 0


async def test_a_server_that_stops_waits_for_no_reader(http: aiohttp.ClientSession) -> None:
    """`grace_s` is longer than the test's patience: streams end at once."""
    locked = replace(SETTINGS, server=replace(SETTINGS.server, token="s3cret"))
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(locked, StandIn()))
        caller = Caller(server.url)
        right = {"Authorization": "Bearer s3cret"}
        headers = {**right, "Content-Type": "application/sdp"}
        sdp = await caller.offer()
        async with http.post(f"{server.url}/whip", data=sdp, headers=headers) as response:
            location = response.headers["Location"]
        async with http.put(f"{server.url}{location}/captions") as response:
            assert response.status == 401, "making an address takes the server's token"
        async with http.put(f"{server.url}{location}/captions", headers=right) as response:
            addresses = await response.json()
        events = await http.get(f"{server.url}/{addresses['events']}")  # without that token
        await Reader(events).until("captions", state="live")
        await caller.close()
        for session in server.sessions:
            session.end("bye")
        async with asyncio.timeout(15):
            await stack.aclose()
        events.close()


async def test_captions_keep_their_address_where_the_server_is_started_anew(
    http: aiohttp.ClientSession,
) -> None:
    addresses: dict[str, str] = {}
    for _ in range(2):
        async with serve(SETTINGS, StandIn()) as server, calling(server.url, http) as caller:
            await caller.wait_for("hello")
            now = await shared(http, caller, addresses.get("key", ""))
            assert addresses in ({}, now)
            addresses = now


@pytest.mark.parametrize("cluster", [None, "local"])
async def test_captions_of_another_server_keep_their_address_on_a_cluster_alone(
    cluster: str | None, http: aiohttp.ClientSession
) -> None:
    key = new_id("a")
    named = replace(
        SETTINGS,
        server=replace(SETTINGS.server, name="b"),
        cluster=ClusterSettings(ray=cluster),
    )
    async with serve(named, StandIn()) as server, calling(server.url, http) as caller:
        await caller.wait_for("hello")
        url = f"{server.url}{caller.location}/captions"
        async with http.put(url, json={"key": key}) as response:
            addresses = await response.json()
        id = URL(addresses["events"]).parts[1]
        if cluster is None:  # nobody would send the readers here
            assert response.status == 201 and addresses["key"] != key and id.endswith("~b")
            assert server.guests() == []
        else:
            assert response.status == 200 and addresses["key"] == key and id.endswith("~a")
            assert server.guests() == [id]
