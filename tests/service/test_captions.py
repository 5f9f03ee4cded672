"""Captions: shared by a caller, read by others, and what nobody learns from them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import av
import numpy as np
from yarl import URL

from tests.service.client import Service, server_in
from tests.streaming.caller import Caller, Camera, calling, problem
from tests.streaming.event_reader import JSON, Reader, shared

HOSTILE = ["", "x", "%00", "%ff%fe", "%C3%A9", "a" * 4000, "*", "%ED%A0%80", "null", "[]"]


def levels(n: int) -> np.ndarray[Any, Any]:
    """Bright, grey and dark by turns: signs with rests between them."""
    return np.full((240, 320, 3), (250, 128, 12, 128)[n // 36 % 4], np.uint8)


class Signing:
    """Rests in front of the camera until it may begin, then as `levels`."""

    def __init__(self) -> None:
        self.may_begin = False
        self._first: int | None = None

    def __call__(self, n: int) -> np.ndarray[Any, Any]:
        if not self.may_begin:
            return np.full((240, 320, 3), 128, np.uint8)
        if self._first is None:
            self._first = n
        return levels(n - self._first)


@contextlib.asynccontextmanager
async def calling_where(
    service: Service, http: aiohttp.ClientSession, suits: Callable[[str], bool]
) -> AsyncIterator[Caller]:
    """A caller who comes to a server whose name suits. Others take the places elsewhere."""
    async with contextlib.AsyncExitStack() as stack:
        while True:
            caller = await stack.enter_async_context(calling(service.url, http, Camera(levels)))
            if suits(server_in(caller.location)):
                yield caller
                return


async def shared_again(http: aiohttp.ClientSession, caller: Caller) -> dict[str, str]:
    async with http.put(f"{caller.url}{caller.location}/captions") as response:
        assert response.status == 200
        addresses: dict[str, str] = await response.json()
        return addresses


async def test_readers_see_signs_while_they_last_and_over_a_reconnect(
    service: Service, http: aiohttp.ClientSession, stranger: aiohttp.ClientSession
) -> None:
    signing = Signing()
    async with contextlib.AsyncExitStack() as stack:
        caller = await stack.enter_async_context(calling(service.url, http, Camera(signing)))
        await caller.wait_for("hello")
        addresses = await shared(http, caller)
        assert await shared_again(http, caller) == addresses, "asking twice changes nothing"
        async with stranger.get(f"{service.url}/{addresses['page']}") as page:
            assert page.status == 200 and page.content_type == "text/html"
        vtt = await stack.enter_async_context(stranger.get(f"{service.url}/{addresses['vtt']}"))
        assert (vtt.status, vtt.content_type, vtt.charset) == (200, "text/vtt", "utf-8")
        events = await stack.enter_async_context(
            stranger.get(f"{service.url}/{addresses['events']}")
        )
        assert (events.status, events.content_type) == (200, "text/event-stream")
        assert events.headers["X-Accel-Buffering"] == vtt.headers["X-Accel-Buffering"] == "no"
        reader = Reader(events)
        greeting = await reader.until("captions")
        assert (greeting["state"], greeting["lines"]) == ("live", [])
        signing.may_begin = True
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

        async with http.delete(f"{service.url}{caller.location}") as response:
            assert response.status == 200
        paused = await reader.until("captions", state="paused")
        assert all(one["final"] for one in paused["lines"])

        there = server_in(caller.location)
        again = calling_where(service, http, lambda server: server == there)
        other = await stack.enter_async_context(again)
        await other.wait_for("hello")
        assert await shared(http, other, addresses["key"]) == addresses
        live = await reader.until("captions", state="live")
        last = live["lines"][-1]["n"]
        assert (await reader.until("line", final=True))["n"] == last + 1, "numbers go on"

        async with http.delete(f"{service.url}{other.location}/captions") as response:
            assert response.status == 204
        assert await reader.until("captions", state="ended")
        assert await reader.next() is None
        async with asyncio.timeout(10):
            text += await vtt.content.read()  # to its end
        with av.open(io.BytesIO(text), "r", format="webvtt") as file:
            cues = [packet.size for packet in file.demux() if packet.size]
        assert len(cues) == text.count(b" --> ") >= 2, "FFmpeg reads each cue"
        for kind in ("page", "events", "vtt"):
            async with stranger.get(f"{service.url}/{addresses[kind]}") as response:
                assert response.status == 404
        async with http.delete(f"{service.url}{other.location}/captions") as response:
            assert response.status == 404
        await other.wait_for_more("prediction", 3)  # the session goes on without captions
        seen = reader.raw + text
        for secret in (caller.location[6:], other.location[6:], addresses["key"]):
            assert secret.encode() not in seen, "readers learn nothing to control a session by"


async def test_strangers_learn_nothing_and_can_do_nothing(
    service: Service, http: aiohttp.ClientSession, stranger: aiohttp.ClientSession
) -> None:
    async with calling(service.url, http) as caller, calling(service.url, http) as other:
        addresses, others = await shared(http, caller), await shared(http, other)
        page, events, vtt = (
            addresses[name].partition("?")[0] for name in ("page", "events", "vtt")
        )
        token = addresses["page"].partition("token=")[2]
        others_token = others["page"].partition("token=")[2]
        guesses = [f"?token={guess}" for guess in (*HOSTILE, token[:-1], token + "x", others_token)]
        answers = set()
        for query in ("", "?", f"?Token={token}", f"?token=x&token={token}", *guesses):
            for path in (events, vtt, f"captions/nobody/events{query}", "captions/nobody~x.vtt"):
                url = URL(f"{service.url}/{path.partition('?')[0]}{query}", encoded=True)
                async with stranger.get(url) as response:
                    assert response.status == 404
                    answers.add(json.dumps(await problem(response)))
            for path in (page, "captions/nobody", "captions/nobody~x"):
                url = URL(f"{service.url}/{path}{query}", encoded=True)
                async with stranger.get(url) as response:
                    assert response.status == 404 and response.content_type == "text/html"
                    answers.add((await response.text())[:15])
        assert len(answers) == 2, "one problem and one page, whether there are captions or not"
        public = page.removeprefix("captions/")
        for secret in (public, token, addresses["key"]):
            for method, suffix in (("DELETE", ""), ("PUT", "/captions"), ("GET", "/events")):
                whip = f"{service.url}/whip/{secret}{suffix}"
                async with http.request(method, whip, data=b"") as response:
                    assert response.status == 404, "what a reader has is no session's id"
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            async with http.request(method, f"{service.url}/{addresses['events']}") as response:
                assert response.status == 405
        await caller.wait_for_more("prediction", 3)
        assert (await service.numbers(http))["livegloss_sessions"] == 2


async def test_odd_requests_for_captions_are_refused(
    service: Service, http: aiohttp.ClientSession, stranger: aiohttp.ClientSession
) -> None:
    async with calling(service.url, http) as caller:
        await caller.wait_for("hello")
        url = f"{service.url}{caller.location}/captions"
        async with stranger.put(url) as response:
            assert response.status == 401, "making an address takes the server's token"
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
        assert (await service.numbers(http))["livegloss_sessions"] == 1


async def test_captions_follow_their_signer_to_another_server(
    service: Service, http: aiohttp.ClientSession, stranger: aiohttp.ClientSession
) -> None:
    """As when a page leaves a server that is about to stop; where there is one it stays there."""
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(calling(service.url, http, Camera(levels)))
        await first.wait_for("hello")
        addresses = await shared(http, first)
        events = f"{service.url}/{addresses['events']}"
        assert await reads_a_line(events, stranger)
        there = server_in(first.location)
        elsewhere = calling_where(service, http, lambda server: not server or server != there)
        other = await stack.enter_async_context(elsewhere)
        await other.wait_for("hello")
        assert await shared(http, other, addresses["key"]) == addresses
        async with http.delete(f"{service.url}{first.location}") as response:
            assert response.status == 200
        async with asyncio.timeout(20):
            while not await reads_a_line(events, stranger):
                pass  # ingresses know a second later where the signer is


async def reads_a_line(url: str, http: aiohttp.ClientSession) -> bool:
    """Whether the signer of these captions is there: then a line comes."""
    async with http.get(url) as events:
        if events.status != 200:
            return False
        reader = Reader(events)
        if (await reader.until("captions"))["state"] != "live":
            return False
        assert (await reader.until("line"))["gloss"] in ("bright", "dark")
        return True
