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


async def test_the_page_comes_whole_from_its_own_server(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        browser_page(tmp_path, camera_flags(levels_camera)) as page,
    ):
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(server.url)
        await expect(page.locator("#glosses li")).to_have_count(2)
        for name in ("Settings", "Start camera"):
            await page.keyboard.press("Tab")
            await expect(page.get_by_role("button", name=name)).to_be_focused()
        await expect(page.locator("#honest")).to_contain_text("not a translation")
        await expect(page.locator("#honest")).to_contain_text("No video is kept")
        await page.set_viewport_size({"width": 320, "height": 640})
        wide = "document.documentElement.scrollWidth > window.innerWidth"
        assert not await page.evaluate(wide), "a small phone must not scroll sideways"
        assert not errors
        assert {urlsplit(url).netloc for url in asked} == {urlsplit(server.url).netloc}
        assert not server.sessions


async def test_signs_appear_and_stop_ends_the_session(tmp_path: Path, levels_camera: Path) -> None:
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
        await expect(page.locator(sign("dark")).first).to_be_visible(timeout=LIVE_MS)
        await expect(page.locator("#current")).to_have_attribute("data-gloss", "dark")
        await expect(page.locator("#announcer")).to_contain_text("dark, ")
        await expect(page.locator('#candidates li[data-gloss="bright"]')).to_be_visible()
        ids = await page.eval_on_selector_all(
            "#transcript li", "rows => rows.map(r => r.dataset.id)"
        )
        assert len(ids) == len(set(ids)), "a sign that is told again must not get a second row"
        assert 0 < float(await page.locator("#latency").get_attribute("data-ms") or 0) < 5000

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

        await page.get_by_role("button", name="Stop").click()
        await emptied(server)
        assert set(server.sessions.counts.ended) <= {"bye", "deleted"}
        await expect(page.locator("#status")).to_have_attribute("data-state", "off")
        assert await page.evaluate("document.querySelector('#preview').srcObject") is None
        assert await page.locator("#transcript li").count() >= 2, "the transcript stays"


async def test_late_addresses_trickle_in(tmp_path: Path, levels_camera: Path) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, camera_flags(levels_camera), "about:blank") as page,
    ):
        # A browser that knows no address yet when the offer goes out.
        await page.add_init_script(
            """
            const { prototype } = RTCPeerConnection;
            const listen = prototype.addEventListener;
            prototype.addEventListener = function (name, act) {
                const late = (event) => setTimeout(() => act(event), 900);
                listen.call(this, name, name === "icecandidate" ? late : act);
            };
            const { get } = Object.getOwnPropertyDescriptor(prototype, "localDescription");
            Object.defineProperty(prototype, "localDescription", { get() {
                const { type, sdp } = get.call(this);
                return { type, sdp: sdp.replace(/a=(candidate|end-of-candidates).*\\r\\n/g, "") };
            } });
            """
        )
        async with page.expect_response(lambda got: got.request.method == "PATCH") as patched:
            await page.goto(f"{server.url}/?autostart=1")
            await is_live(page)
        assert (await patched.value).status == 204


async def test_leaving_the_page_ends_the_session(tmp_path: Path, levels_camera: Path) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, camera_flags(levels_camera), f"{server.url}/?autostart=1") as page,
    ):
        await is_live(page)
        assert len(server.sessions) == 1
        await page.goto("about:blank")
        await emptied(server)


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


async def test_a_token_comes_with_the_address(tmp_path: Path, levels_camera: Path) -> None:
    settings = replace(SETTINGS, server=replace(SETTINGS.server, token="open-sesame"))
    async with (
        serve(settings, StandIn()) as server,
        opened(
            tmp_path, camera_flags(levels_camera), f"{server.url}/?autostart=1", faults=["401"]
        ) as page,
    ):
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("asks for a token", timeout=LIVE_MS)
        for wrong in ("open-sesam", "%E6%9B%B8"):
            await page.goto(f"{server.url}/?autostart=1&wrong={len(wrong)}#token={wrong}")
            await expect(alert).to_contain_text("is not this server's", timeout=LIVE_MS)
            await expect(alert).to_contain_text("#token=")
        await page.goto(f"{server.url}/?autostart=1&again=1#token=open-sesame")
        await is_live(page)
