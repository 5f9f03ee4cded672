"""The page in a real Chromium: of one server and of a cluster."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from playwright.async_api import expect

from tests import chromium
from tests.browser import browser_page, camera_flags
from tests.service.client import ENDED, Service
from tests.service.serving import TOKEN
from tests.web.page import LIVE_MS, is_live, opened, sign

pytestmark = pytest.mark.skipif(
    chromium.find() is None, reason="no Chromium here: python -m tests.chromium installs one"
)


def address(service: Service, query: str = "") -> str:
    """Of the page, as who runs the service gives it to others."""
    return f"{service.url}/{query}#token={TOKEN}"


async def test_the_page_comes_whole_from_its_own_server(
    service: Service, http: aiohttp.ClientSession, tmp_path: Path, levels_camera: Path
) -> None:
    async with browser_page(tmp_path, camera_flags(levels_camera)) as page:
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(address(service))
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
        assert {urlsplit(url).netloc for url in asked} == {urlsplit(service.url).netloc}
        assert (await service.numbers(http))["livegloss_sessions"] == 0


async def test_signs_appear_are_shared_and_stop_ends_the_session(
    service: Service, http: aiohttp.ClientSession, tmp_path: Path, levels_camera: Path
) -> None:
    before = await service.numbers(http)
    async with opened(tmp_path, camera_flags(levels_camera), address(service)) as page:
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

        await page.get_by_role("button", name="Captions for others").click()
        await expect(page.locator("#share-page")).to_have_value(re.compile("/captions/.*token="))
        reader = await page.context.new_page()
        await reader.goto(await page.locator("#share-page").input_value())
        await expect(reader.locator("#words .word").first).to_be_visible(timeout=LIVE_MS)
        await page.get_by_role("button", name="Stop sharing").click()
        await expect(reader.locator("#state")).to_contain_text("have ended")
        await reader.close()

        await page.get_by_role("button", name="Stop", exact=True).click()
        await service.until_empty(http)
        ended = {name for name in await service.numbers(http) - before if name.startswith(ENDED)}
        assert ended <= {ENDED + "bye", ENDED + "deleted"}
        await expect(page.locator("#status")).to_have_attribute("data-state", "off")
        assert await page.evaluate("document.querySelector('#preview').srcObject") is None
        assert await page.locator("#transcript li").count() >= 2, "the transcript stays"


async def test_late_addresses_trickle_in_and_leaving_the_page_ends_the_session(
    service: Service, http: aiohttp.ClientSession, tmp_path: Path, levels_camera: Path
) -> None:
    async with opened(tmp_path, camera_flags(levels_camera), "about:blank") as page:
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
            await page.goto(address(service, "?autostart=1"))
            await is_live(page)
        assert (await patched.value).status == 204
        assert (await service.numbers(http))["livegloss_sessions"] == 1
        await page.goto("about:blank")
        await service.until_empty(http)


async def test_a_token_comes_with_the_address(
    service: Service, http: aiohttp.ClientSession, tmp_path: Path, levels_camera: Path
) -> None:
    without = f"{service.url}/?autostart=1"
    async with opened(tmp_path, camera_flags(levels_camera), without, faults=["401"]) as page:
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("asks for a token", timeout=LIVE_MS)
        for wrong in ("s3cre", "%E6%9B%B8"):
            await page.goto(f"{service.url}/?autostart=1&wrong={len(wrong)}#token={wrong}")
            await expect(alert).to_contain_text("is not this server's", timeout=LIVE_MS)
            await expect(alert).to_contain_text("#token=")
        await page.goto(f"{service.url}/?autostart=1&again=1#token={TOKEN}")
        await is_live(page)
        await page.get_by_role("button", name="Stop", exact=True).click()
        await service.until_empty(http)
