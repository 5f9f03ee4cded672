"""The page in a real Chromium, against a real server with the stand-in recogniser."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from playwright.async_api import expect

from models.schema import Frame
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.server import Server
from tests.browser import (
    CAMERA_DENIED,
    NO_CAMERA,
    browser_page,
    camera_flags,
    server_process,
)
from tests.streaming.caller import calling
from tests.web.page import LIVE_MS, SETTINGS, is_live, opened, sign


async def emptied(server: Server, within_s: float = 5) -> None:
    """Wait until no session is left."""
    async with asyncio.timeout(within_s):
        while server.sessions:
            await asyncio.wait([session.ended for session in server.sessions])
            await asyncio.sleep(0)


async def test_what_is_sent_is_what_the_model_uses_and_no_mirror(
    tmp_path: Path, levels_camera: Path
) -> None:
    newest: list[Frame] = []

    def look(frame: Frame) -> None:
        if frame.image.mean() > 60:  # in the dark the tile is as black as the rest
            newest[:] = [frame]

    async with (
        serve(SETTINGS, StandIn(inspect=look)) as server,
        opened(tmp_path, camera_flags(levels_camera), server.url) as page,
    ):
        await page.get_by_role("button", name="Start camera").press("Enter")
        await is_live(page)
        await expect(page.locator(sign("bright")).first).to_be_visible(timeout=LIVE_MS)

        video = await page.evaluate(
            """async () => {
                const { srcObject: stream } = document.querySelector("#preview");
                const { width, height, frameRate } = stream.getVideoTracks()[0].getSettings();
                const { camera: wanted } = await (await fetch("/api/model")).json();
                return { got: [width, height], wanted: [wanted.width, wanted.height],
                         tooMany: frameRate - wanted.frame_rate,
                         sound: stream.getAudioTracks().length,
                         mirror: getComputedStyle(document.querySelector("#preview")).transform };
            }"""
        )
        assert video["sound"] == 0
        assert video["got"] == video["wanted"], "no larger pictures than the model uses"
        assert video["tooMany"] < 0.1, "and no more of them"
        assert video["mirror"].startswith("matrix(-1"), "the preview is a mirror"
        picture = newest[0].image.mean(axis=2)
        width = picture.shape[1]
        left, right = picture[:, : width // 4].mean(), picture[:, -(width // 4) :].mean()
        assert left < right - 3, "what is sent is no mirror: the tile stays at the left"


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [(CAMERA_DENIED, "denied", "Allow it"), (NO_CAMERA, "missing", "Connect one")],
    ids=["denied", "missing"],
)
async def test_without_a_camera_it_says_what_to_do(
    tmp_path: Path, flags: Sequence[str], code: str, words: str
) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, flags, server.url) as page,
    ):
        await page.get_by_role("button", name="Start camera").click()
        await expect(page.locator("#problem")).to_have_attribute("data-code", code)
        await expect(page.get_by_role("alert")).to_contain_text(words)
        await expect(page.get_by_role("button", name="Start camera")).to_be_visible()
        assert not server.sessions.counts.admitted


async def test_an_insecure_page_says_how_to_open_it(tmp_path: Path, levels_camera: Path) -> None:
    phone = "--host-resolver-rules=MAP phone.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    settings = replace(SETTINGS, server=replace(SETTINGS.server, allow_host=("phone.test",)))
    async with (
        serve(settings, StandIn()) as server,
        browser_page(tmp_path, [*camera_flags(levels_camera), phone]) as page,
    ):
        await page.goto(f"http://phone.test:{urlsplit(server.url).port}/?autostart=1")
        await expect(page.locator("#problem")).to_have_attribute("data-code", "insecure")
        await expect(page.get_by_role("alert")).to_contain_text("https://")
        assert not await page.evaluate("isSecureContext")


async def test_a_full_server_is_tried_again(tmp_path: Path, levels_camera: Path) -> None:
    settings = replace(SETTINGS, server=replace(SETTINGS.server, max_sessions=1))
    async with (
        serve(settings, StandIn()) as server,
        aiohttp.ClientSession() as http,
        opened(tmp_path, camera_flags(levels_camera), server.url, faults=["503"]) as page,
    ):
        async with calling(server.url, http) as caller:
            await caller.wait_for("hello")
            await page.get_by_role("button", name="Start camera").click()
            await expect(page.get_by_role("alert")).to_contain_text(
                "places are taken", timeout=LIVE_MS
            )
            await expect(page.locator("#countdown")).to_contain_text("Trying again in")
            await expect(page.locator("#status")).to_have_attribute("data-state", "waiting")
            caller.send(type="bye")
            await emptied(server)
        await is_live(page)
        await expect(page.locator("#problem")).to_be_hidden()


async def test_a_lost_server_is_found_again(tmp_path: Path, levels_camera: Path) -> None:
    flags = camera_flags(levels_camera)
    lost = ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"]
    async with server_process(module="tests.web.standin") as first:
        url = first.url
        async with opened(tmp_path, flags, f"{url}/?autostart=1", faults=lost) as page:
            await page.locator(sign("bright")).first.wait_for(timeout=LIVE_MS)
            before = await page.eval_on_selector_all(
                "#transcript li", "rows => rows.map(r => r.dataset.session + r.dataset.id)"
            )
            await first.kill()
            await expect(page.locator("#problem")).to_have_attribute(
                "data-code", "unreachable", timeout=LIVE_MS
            )
            await expect(page.locator("#countdown")).to_contain_text("Trying again in")
            port = urlsplit(url).port
            assert port
            async with server_process(port=port, module="tests.web.standin"):
                await is_live(page)
                await expect(page.locator("#problem")).to_be_hidden()
                await page.locator("#clear").wait_for()
                after = await page.eval_on_selector_all(
                    "#transcript li", "rows => rows.map(r => r.dataset.session + r.dataset.id)"
                )
                assert set(before) <= set(after), "the transcript is kept"
                await page.get_by_role("button", name="Stop").click()
