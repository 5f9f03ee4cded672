"""A server of a language model that answers as a test tells it to, well or badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

GOOD = "I | 2\nwant to | 1\nthe | -\nread | 3b\nbook. | 3"


@dataclass(slots=True)
class ModelServer:
    """`answer` is what the next request gets; `asked` and `keys` what came."""

    url: str = ""
    answer: Answer = field(default_factory=lambda: saying(GOOD))
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)  # a caller went before the end

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        self.came.set()
        try:
            return await self.answer(request)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise


@contextlib.asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """It listens on the loopback for as long as the block lasts."""
    server = ModelServer()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def event(text: str | None = None, **more: Any) -> bytes:
    """A chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, **more}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


async def begin(request: web.Request, type: str = "text/event-stream", **headers: str) -> Any:
    """A response of status 200 whose body is written as it comes."""
    response = web.StreamResponse(headers={"Content-Type": type, **headers})
    await response.prepare(request)
    return response


def streaming(*parts: bytes, type: str = "text/event-stream", **headers: str) -> Answer:
    """These bytes, and the end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = await begin(request, type, **headers)
        for part in parts:
            await response.write(part)
        return response

    return answer


def saying(text: str, finish: str = "stop") -> Answer:
    """A well-behaved model: three characters an event, why it stopped, and the mark of the end."""
    parts = [event(text[at : at + 3]) for at in range(0, len(text), 3)]
    return streaming(*parts, event(finish_reason=finish), b"data: [DONE]\n\n")


def status(number: int, body: str, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=number, text=body, headers=headers)

    return answer


def endless(part: bytes) -> Answer:
    """The same, again and again, for as long as somebody reads."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = await begin(request)
        while True:
            await response.write(part)

    return answer


def stalling(*parts: bytes) -> Answer:
    """These bytes, and then nothing. Without bytes it does not even begin."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if parts:
            response = await begin(request)
            for part in parts:
                await response.write(part)
        await asyncio.Event().wait()
        raise AssertionError

    return answer


def cutting(*parts: bytes) -> Answer:
    """These bytes, and the connection is gone."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = await begin(request)
        for part in parts:
            await response.write(part)
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer
