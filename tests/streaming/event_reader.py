"""Who shares captions, and who reads a stream of server-sent events: for the tests."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from tests.streaming.caller import Caller

JSON = {"Content-Type": "application/json"}


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
