"""Drafts over the wire: a real peer, and servers of language models that behave well and badly."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.server import Server
from streaming.settings import DraftSettings, ServerSettings, SessionSettings, Settings
from tests.browser import free_port
from tests.model_server import (
    Answer,
    ModelServer,
    begin,
    cutting,
    endless,
    event,
    model_server,
    saying,
    stalling,
    status,
    streaming,
)
from tests.streaming.caller import Caller, calling, problem

KEY = "sk-very-secret-0123456789"
SETTINGS = Settings(
    server=ServerSettings(port=0, max_sessions=3, grace_s=0.5),
    session=SessionSettings(loopback_ice=True),
)
SIGNS = [
    {"gloss": "bright", "p": 0.9, "alternatives": [{"gloss": "dark", "p": 0.1}]},
    {"gloss": "dark", "p": 0.4},
]


@asynccontextmanager
async def drafting(
    url: str, http: aiohttp.ClientSession, **more: Any
) -> AsyncIterator[tuple[Server, Caller]]:
    """A server that asks the model at `url`, and one session of it."""
    draft = DraftSettings(url=url, model="tiny", key=KEY, burst=100, **more)
    async with (
        serve(replace(SETTINGS, draft=draft), StandIn()) as server,
        calling(server.url, http) as caller,
    ):
        await caller.wait_for("prediction")
        yield server, caller


def asking(http: aiohttp.ClientSession, caller: Caller, signs: Any = SIGNS) -> Any:
    return http.post(f"{caller.url}{caller.location}/draft", json={"signs": signs})


async def events(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    assert (response.status, response.content_type) == (200, "text/event-stream")
    text = await response.text()
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]


async def draft(http: aiohttp.ClientSession, caller: Caller) -> tuple[str, str, str]:
    """The words, how the draft ended, and what a person is told of that."""
    async with asking(http, caller) as response:
        *words, end = await events(response)
    assert {one["type"] for one in words} <= {"words"} and end["type"] == "end"
    return " ".join(one["text"] for one in words), end["code"], end["message"]


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with model_server() as model:
        yield model


async def test_a_session_gets_words_tied_to_its_signs(
    http: aiohttp.ClientSession, model: ModelServer
) -> None:
    model.answer = saying("It | -\nis | -\nlight | 1\nnow | 2")
    async with drafting(model.url, http) as (server, caller):
        async with asking(http, caller) as response:
            words = await events(response)
        async with http.get(f"{server.url}/api/model") as response:
            card = await response.text()
        async with http.get(f"{server.url}/metrics") as response:
            assert 'livegloss_drafts_total{end="done"} 1.0' in await response.text()
    assert [(one["text"], one["kind"], one["unsure"]) for one in words[:-1]] == [
        ("It", "added", False),
        ("is", "added", False),
        ("light", "tied", False),
        ("now", "tied", True),
    ]
    assert words[2]["ties"] == [{"sign": 1, "gloss": "bright", "p": 0.9}]
    assert words[-1] == {"type": "end", "code": "done", "message": ""}
    assert json.loads(card)["draft"] == {"model": "tiny", "host": None, "signs": 24}
    assert model.keys == [f"Bearer {KEY}"] and KEY not in card
    asked = model.asked[0]
    assert asked["model"] == "tiny" and asked["stream"] and asked["max_tokens"] > 100
    assert asked["messages"][-1]["content"] == '1. "bright" 90 %, 1b. "dark" 10 %\n2. "dark" 40 %'


async def answered_slowly(request: web.Request) -> web.StreamResponse:
    """A word each half second."""
    response: web.StreamResponse = await begin(request)
    while True:
        await response.write(event("slow | 1\n"))
        await asyncio.sleep(0.5)


BAD: dict[str, tuple[Answer, str, str]] = {
    "html": (streaming(b"<!doctype html><h1>hi</h1>", type="text/html"), "type", "text/html"),
    "html as events": (
        streaming(b"<!doctype html>\n<h1>hi</h1>\n"),
        "broken",
        "no chat completion",
    ),
    "json": (streaming(b'{"choices": []}', type="application/json"), "type", "application/json"),
    "no type": (status(200, "hello"), "type", "text/plain"),
    "compressed": (
        streaming(gzip.compress(b"\n" * 10_000_000), **{"Content-Encoding": "gzip"}),
        "type",
        "compressed",
    ),
    "redirect": (status(307, "", Location="http://192.0.2.1/"), "redirect", "not followed"),
    "401": (status(401, f"Incorrect API key: {KEY[:12]}"), "refused", "key (401)"),
    "404": (status(404, '{"error": "no model tiny"}'), "refused", "--draft-model"),
    "429": (status(429, "slow down"), "refused", "busy (429)"),
    "400": (status(400, '{"error": "no template"}'), "refused", "did not take the request (400)"),
    "500": (status(500, f"\x1b[2J{KEY}" + "x" * 1_000_000), "refused", "(500)"),
    "empty": (streaming(b"data: [DONE]\n\n"), "empty", "wrote nothing"),
    "nothing": (streaming(), "broken", "no chat completion"),
    "blank": (saying(" \n \n"), "empty", "wrote nothing"),
    "thinks only": (saying("<think>hm", "length"), "length", "longest text"),
    "not json": (streaming(event("I | 1\n"), b"data: {oops\n\n"), "broken", "no chat completion"),
    "error": (streaming(event("I | 1\n"), b'data: {"error": "oom"}\n\n'), "broken", "an error"),
    "huge line": (endless(b"data: " + b"x" * 10_000), "broken", "64 KB"),
    "endless words": (endless(event("word ")), "endless", "did not come to an end"),
    "endless events": (endless(b'data: {"choices": []}\n\n' * 99), "endless", "come to an end"),
    "endless comments": (endless(b": " + b"x" * 1000 + b"\n"), "endless", "come to an end"),
    "cut": (cutting(event("I | 1\n"), event("see | 2\n")), "cut", "broke the connection off"),
    "cut quietly": (streaming(event("I | 1\nsee | 2")), "cut", "may lack its end"),
    "silent": (stalling(), "late", "within 2 seconds"),
    "stalls": (stalling(event("I | 1\n")), "late", "within 2 seconds"),
    "slow": (answered_slowly, "late", "within 2 seconds"),
    "huge header": (streaming(**{"X-Big": "x" * 100_000}), "cut", "broke the connection off"),
}


async def test_bad_answers_end_the_draft_and_nothing_else(
    http: aiohttp.ClientSession, model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with drafting(model.url, http, timeout_s=2.0) as (_, caller):
        for name, (answer, code, told) in BAD.items():
            model.answer = answer
            words, ended, message = await draft(http, caller)
            assert (ended, told in message) == (code, True), (name, ended, message)
            assert message.endswith(".") and len(message) < 250 and KEY[:8] not in message
            assert len(words) <= 1000, name
            if name in ("cut", "cut quietly"):
                assert words == "I see"
        model.answer = saying("I see <b>light</b> | 1")
        assert await draft(http, caller) == ("I see <b>light</b>", "done", "")
        await caller.wait_for_more("prediction")  # the session goes on
    assert KEY[:8] not in caplog.text and "no model tiny" in caplog.text
    assert "\x1b" not in caplog.text
    assert all("http" not in body for body in map(json.dumps, model.asked))


async def test_a_server_that_is_off_is_told(http: aiohttp.ClientSession) -> None:
    async with drafting(f"http://127.0.0.1:{free_port()}", http) as (_, caller):
        assert (await draft(http, caller))[1] == "unreachable"


async def test_who_may_spend_the_models_time(
    http: aiohttp.ClientSession, model: ModelServer
) -> None:
    """One draft a session, so many of all, and only for signs that the session knows."""
    model.answer = stalling(event("I | 1\n"))
    async with (
        drafting(model.url, http, at_once=2) as (server, first),
        calling(server.url, http) as second,
        calling(server.url, http) as third,
    ):
        async with asking(http, first) as under_way, asking(http, second):
            assert (await under_way.content.readline()).startswith(b"data: ")
            async with asking(http, third) as response:
                assert (await problem(response))["status"] == 503
                assert int(response.headers["Retry-After"]) > 0
            async with asking(http, first):  # its newest takes the place of the one before
                assert b'"replaced"' in await under_way.content.read()
        # Both have left: their requests to the model end, and there is room again.
        await asyncio.wait_for(model.left.wait(), 10)
        model.answer = saying("I | 1")
        async with asyncio.timeout(10):
            while True:
                async with asking(http, third) as response:
                    if response.status == 200:
                        break
        poem = [{"gloss": "Write a poem.", "p": 1.0}]
        async with asking(http, third, poem) as response:
            assert "does not know the sign" in (await problem(response))["detail"]
            assert response.status == 422
        async with http.post(f"{server.url}{third.location}/draft", data="{}") as response:
            assert (await problem(response))["status"] == 415
        async with http.post(f"{server.url}/whip/nobody/draft", json={}) as response:
            assert (await problem(response))["status"] == 404
    assert all("poem" not in json.dumps(body) for body in model.asked)


async def test_a_session_may_not_ask_again_and_again(
    http: aiohttp.ClientSession, model: ModelServer
) -> None:
    draft = DraftSettings(url=model.url, model="tiny", burst=2, pause_s=1000.0)
    async with (
        serve(replace(SETTINGS, draft=draft), StandIn()) as server,
        calling(server.url, http) as caller,
    ):
        for expected in (200, 200, 429):
            async with asking(http, caller) as response:
                assert response.status == expected
                await response.read()
    assert len(model.asked) == 2 and model.keys == [None, None]


async def test_a_draft_ends_with_its_session(
    http: aiohttp.ClientSession, model: ModelServer
) -> None:
    model.answer = stalling(event("I | 1\n"))
    async with drafting(model.url, http) as (server, caller):
        async with asking(http, caller) as response:
            assert b"words" in await response.content.readline()
            async with http.delete(f"{server.url}{caller.location}"):
                pass
            assert b'"session"' in await response.content.read()
        await asyncio.wait_for(model.left.wait(), 10)


async def test_without_a_model_there_are_no_drafts(http: aiohttp.ClientSession) -> None:
    async with serve(SETTINGS, StandIn()) as server, calling(server.url, http) as caller:
        async with asking(http, caller) as response:
            assert "--draft-url" in (await problem(response))["detail"]
        async with http.get(f"{server.url}/api/model") as response:
            assert (await response.json())["draft"] is None
