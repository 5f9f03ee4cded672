"""The server behind nginx, under a path of its own and over HTTPS, as the guide has it."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect
from yarl import URL

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.server import Server
from streaming.settings import read_settings
from tests import chromium
from tests.browser import camera_flags
from tests.clients.install import missing
from tests.clients.senders import session_of
from tests.clients.servers import guide_file, nginx
from tests.streaming.caller import Caller
from tests.web.page import LIVE_MS, is_live, opened, sign

pytestmark = pytest.mark.skipif(missing("nginx") is not None, reason=str(missing("nginx")))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """With the options that stand at the head of the guide's file."""
    (options,) = re.findall(r"^# +(--host .*)$", guide_file("nginx.conf", {}), re.MULTILINE)
    settings = read_settings([*shlex.split(options), "--port", "0", "--loopback-ice"])
    async with serve(settings, StandIn()) as server:
        yield server


@pytest.fixture
async def address(server: Server, tmp_path: Path) -> AsyncIterator[str]:
    """The page's address at nginx."""
    changes = {"127.0.0.1:8080": f"127.0.0.1:{URL(server.url).port}"}
    async with nginx("nginx.conf", changes, tmp_path) as address:
        yield address


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium here: make test installs one")
async def test_the_page_works_and_ends_its_session(
    server: Server, address: str, levels_camera: Path, tmp_path: Path
) -> None:
    flags = (*camera_flags(levels_camera), "--ignore-certificate-errors")
    async with opened(tmp_path, flags, address.removesuffix("/")) as page:
        await page.get_by_role("button", name="Start camera").click()
        await is_live(page)
        for gloss in ("bright", "dark"):
            await expect(page.locator(sign(gloss)).first).to_be_visible(timeout=LIVE_MS)
        await page.get_by_role("button", name="Captions for others").click()
        await expect(page.locator("#share-page")).to_have_value(re.compile(f"^{address}captions/"))
        reader = await page.context.new_page()
        await reader.goto(await page.locator("#share-page").input_value())
        await expect(reader.locator("#words .word").first).to_be_visible(timeout=LIVE_MS)
        session = await session_of(server)
        await page.get_by_role("button", name="Stop", exact=True).click()
        async with asyncio.timeout(10):
            await asyncio.wait([session.ended])
        assert session.end_reason == "deleted"


async def test_a_sender_reads_and_ends_its_session(server: Server, address: str) -> None:
    """Its own address counts, whatever it writes; the Location is one that OBS can use; messages
    come while the session lasts; DELETE reaches it."""
    caller = Caller(server.url)
    connector = aiohttp.TCPConnector(
        local_addr=("127.0.0.2", 0), ssl=ssl._create_unverified_context()
    )
    try:
        async with aiohttp.ClientSession(connector=connector) as http:
            headers = {"Content-Type": "application/sdp", "X-Forwarded-For": "203.0.113.9"}
            named = {**headers, "Host": "signs.example"}
            offer = await caller.offer()
            async with http.post(f"{address}whip", data=offer, headers=named) as response:
                assert response.status == 201, await response.text()
                location = response.headers["Location"]
            session = await session_of(server)
            assert location == f"/sign/whip/{session.id}"
            assert session.address == "127.0.0.2"
            whole = URL(address).join(URL(location))
            async with http.get(f"{whole}/events") as events:
                first = json.loads((await events.content.readline()).removeprefix(b"data: "))
                assert first["session"] == session.id and not session.ended.done()
                async with http.delete(whole) as response:
                    assert response.status == 200
            assert session.end_reason == "deleted"
    finally:
        await caller.close()
