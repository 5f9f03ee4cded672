"""Captions over real HTTP: who may read, what they get, what they can't do, and what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import socket
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import av
import numpy as np
import pytest
from yarl import URL

from models.schema import Sign
from streaming import caption_routes
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.captions import MAX_LINES, MAX_READERS, CaptionFeed
from streaming.server import Server
from streaming.settings import ServerSettings, SessionSettings, Settings
from tests.streaming.caller import Caller, Camera, calling, problem

SETTINGS = Settings(
    server=ServerSettings(
        port=0, max_sessions=3, max_sessions_per_address=3, grace_s=30.0, stalled_s=1.0
    ),
    session=SessionSettings(loopback_ice=True),
)
JSON = {"Content-Type": "application/json"}
HOSTILE = ["", "x", "%00", "%ff%fe", "%C3%A9", "a" * 4000, "*", "%ED%A0%80", "null", "[]"]


def levels(n: int) -> np.ndarray[Any, Any]:
    """Bright, grey and dark by turns: signs with rests between them."""
    return np.full((240, 320, 3), (250, 128, 12, 128)[n // 36 % 4], np.uint8)


async def shared(http: aiohttp.ClientSession, caller: Caller, key: str = "") -> dict[str, str]:
    """The addresses of a caller's captions."""
    body = json.dumps({"key": key}) if key else None
    url = f"{caller.url}{caller.location}/captions"
    async with http.put(url, data=body, headers=JSON) as response:
        assert response.status == (200 if key else 201), await response.text()
        assert response.headers["Cache-Control"] == "no-store"
        addresses: dict[str, str] = await response.json()
        return addresses


class Reader:
    """A plain HTTP client that reads the events; `raw` is all that came."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._content = response.content
        self.raw = b""

    async def next(self) -> dict[str, Any] | None:
        """The next message; None when the stream has ended."""
        async with asyncio.timeout(20):
            while line := await self._content.readline():
                self.raw += line
                if line.startswith(b"data: "):
                    message: dict[str, Any] = json.loads(line[6:])
                    return message
        return None

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next message of a kind with these fields."""
        while message := await self.next():
            if message["type"] == kind and fields.items() <= message.items():
                return message
        raise AssertionError(f"the stream ended before {kind} {fields}")


def feed_of(server: Server) -> CaptionFeed:
    (session,) = server.sessions
    assert session.pipeline.captions
    return session.pipeline.captions


def shown(feed: CaptionFeed, id: int, gloss: str) -> None:
    feed.show(Sign(id=id, gloss=gloss, p=1, alternatives=(), start_s=0, end_s=1, final=True), 0.0)


async def test_readers_see_signs_while_they_last_and_over_a_reconnect(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        caller = await stack.enter_async_context(calling(server.url, http, Camera(levels)))
        await caller.wait_for("hello")
        addresses = await shared(http, caller)
        assert await shared_again(http, caller) == addresses, "asking twice changes nothing"
        async with http.get(f"{server.url}/{addresses['page']}") as page:
            assert page.status == 200 and page.content_type == "text/html"
        vtt = await stack.enter_async_context(http.get(f"{server.url}/{addresses['vtt']}"))
        assert (vtt.status, vtt.content_type, vtt.charset) == (200, "text/vtt", "utf-8")
        events = await stack.enter_async_context(http.get(f"{server.url}/{addresses['events']}"))
        assert (events.status, events.content_type) == (200, "text/event-stream")
        assert events.headers["X-Accel-Buffering"] == vtt.headers["X-Accel-Buffering"] == "no"
        reader = Reader(events)
        greeting = await reader.until("captions")
        assert (greeting["state"], greeting["lines"]) == ("live", [])
        first = await reader.until("line")
        assert first["gloss"] in ("bright", "dark") and first["final"] is False
        line = await reader.until("line", n=first["n"], final=True)
        assert 0 <= line["start_s"] < line["end_s"]

        text = b""
        async with asyncio.timeout(10):
            while text.count(b"\n\n") < 3:
                text += await vtt.content.readany()
        head, note, cue = text.decode().split("\n\n")[:3]
        assert head == "WEBVTT" and "not a translation" in note
        number, times, gloss = cue.split("\n")
        assert (number, gloss) == (str(line["n"]), line["gloss"])
        assert re.fullmatch(r"00:00:\d\d\.\d{3} --> 00:00:\d\d\.\d{3}", times)

        async with http.delete(f"{server.url}{caller.location}") as response:
            assert response.status == 200
        paused = await reader.until("captions", state="paused")
        assert all(one["final"] for one in paused["lines"])

        other = await stack.enter_async_context(calling(server.url, http, Camera(levels)))
        await other.wait_for("hello")
        assert await shared(http, other, addresses["key"]) == addresses
        live = await reader.until("captions", state="live")
        last = live["lines"][-1]["n"]
        assert (await reader.until("line", final=True))["n"] == last + 1, "numbers go on"

        async with http.delete(f"{server.url}{other.location}/captions") as response:
            assert response.status == 204
        assert await reader.until("captions", state="ended")
        assert await reader.next() is None
        async with asyncio.timeout(10):
            text += await vtt.content.read()  # to its end
        with av.open(io.BytesIO(text), "r", format="webvtt") as file:
            cues = [packet.size for packet in file.demux() if packet.size]
        assert len(cues) == text.count(b" --> ") >= 2, "FFmpeg reads each cue"
        for kind in ("page", "events", "vtt"):
            async with http.get(f"{server.url}/{addresses[kind]}") as response:
                assert response.status == 404
        async with http.delete(f"{server.url}{other.location}/captions") as response:
            assert response.status == 404
        assert len(server.sessions) == 1, "the session goes on without captions"
        seen = reader.raw + text
        for secret in (caller.location[6:], other.location[6:], addresses["key"]):
            assert secret.encode() not in seen, "readers learn nothing to control a session by"


async def shared_again(http: aiohttp.ClientSession, caller: Caller) -> dict[str, str]:
    async with http.put(f"{caller.url}{caller.location}/captions") as response:
        assert response.status == 200
        addresses: dict[str, str] = await response.json()
        return addresses


async def test_strangers_learn_nothing_and_can_do_nothing(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as caller, calling(server.url, http) as other:
        addresses, others = await shared(http, caller), await shared(http, other)
        page, events, vtt = (
            addresses[name].partition("?")[0] for name in ("page", "events", "vtt")
        )
        token = addresses["page"].partition("token=")[2]
        others_token = others["page"].partition("token=")[2]
        guesses = [f"?token={guess}" for guess in (*HOSTILE, token[:-1], token + "x", others_token)]
        answers = set()
        for query in ("", "?", f"?Token={token}", f"?token=x&token={token}", *guesses):
            for path in (events, vtt, f"captions/nobody/events{query}", "captions/nobody.vtt"):
                url = URL(f"{server.url}/{path.partition('?')[0]}{query}", encoded=True)
                async with http.get(url) as response:
                    assert response.status == 404
                    answers.add(json.dumps(await problem(response)))
            async with http.get(URL(f"{server.url}/{page}{query}", encoded=True)) as response:
                assert response.status == 404 and response.content_type == "text/html"
                answers.add((await response.text())[:15])
        assert len(answers) == 2, "one problem and one page, whether there are captions or not"
        public = page.removeprefix("captions/")
        for secret in (public, token, addresses["key"]):
            for method, suffix in (("DELETE", ""), ("PUT", "/captions"), ("GET", "/events")):
                whip = f"{server.url}/whip/{secret}{suffix}"
                async with http.request(method, whip, data=b"") as response:
                    assert response.status == 404, "what a reader has is no session's id"
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            async with http.request(method, f"{server.url}/{addresses['events']}") as response:
                assert response.status == 405
        await caller.wait_for_more("prediction", 3)
        assert len(server.sessions) == 2


async def test_odd_requests_for_captions_are_refused(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http) as caller:
        await caller.wait_for("hello")
        url = f"{server.url}{caller.location}/captions"
        for body in (b"{", b"[]", b'{"key": 1}', b'{"kay": ""}', b"\xff", b"[" * 60_000):
            async with http.put(url, data=body, headers=JSON) as response:
                assert response.status == 400, body[:20]
                await problem(response)
        async with http.put(url, data=b"{}", headers={"Content-Type": "text/plain"}) as response:
            assert response.status == 415
        for key in ("unknown", "é" * 9, "x" * 9000):
            async with http.put(url, json={"key": key}) as response:
                assert response.status in (200, 201), (
                    "an old key is no error: there is a new address"
                )
                assert (await response.json())["key"] != key
        assert len(server.sessions) == 1


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
