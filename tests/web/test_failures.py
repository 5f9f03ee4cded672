"""What the page says when something is missing or fails, in a real Chromium.

A camera that is denied or missing, a full server, one that went away, a wrong token and an insecure
page are in test_page.py; a browser that stores nothing is in test_taught.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Page, Route, expect

from streaming.app import serve
from streaming.bench.standin import StandIn
from tests.browser import browser_page, camera_flags
from tests.streaming.caller import calling
from tests.web.page import LIVE_MS, SETTINGS, is_live, opened, sign
from tests.web.taught import fits

# Stand in for what a person's own machine does; Chromium's fake camera does none of it.
IN_USE = """
navigator.mediaDevices.getUserMedia = () =>
    Promise.reject(new DOMException("Could not start video source", "NotReadableError"));
"""
BY_SYSTEM = """
navigator.mediaDevices.getUserMedia = () =>
    Promise.reject(new DOMException("Permission denied by system", "NotAllowedError"));
"""
# A camera behind its cover's switch: it is there, and gives no picture.
NO_PICTURE = """
navigator.mediaDevices.getUserMedia = async () =>
    document.createElement("canvas").captureStream(0);
"""
NO_WEBRTC = "delete window.RTCPeerConnection;"
# As with a firewall that lets no video through: neither side learns where the other one is.
NO_WAY = r"""
const { prototype } = RTCPeerConnection;
const none = (sdp) => sdp.replace(/a=candidate.*\r\n/g, "");
const accept = prototype.setRemoteDescription;
prototype.setRemoteDescription = function ({ type, sdp }) {
    return accept.call(this, { type, sdp: none(sdp) });
};
const { get } = Object.getOwnPropertyDescriptor(prototype, "localDescription");
Object.defineProperty(prototype, "localDescription", { get() {
    const { type, sdp } = get.call(this);
    return { type, sdp: none(sdp) };
} });
"""
# As when somebody sits in between: the server has another certificate than its SDP answer says.
OTHER_CERTIFICATE = r"""
const { prototype } = RTCPeerConnection;
const accept = prototype.setRemoteDescription;
prototype.setRemoteDescription = function ({ type, sdp }) {
    const print = "AB:".repeat(31) + "AB";
    const other = sdp.replace(/a=fingerprint:sha-(384|512).*\r\n/g, "")
        .replace(/a=fingerprint:sha-256 .*/g, `a=fingerprint:sha-256 ${print}`);
    return accept.call(this, { type, sdp: other });
};
"""
# It waits twelve seconds for a connection; here less.
HURRY = """() => {
    const usual = window.setTimeout;
    window.setTimeout = (act, ms, ...rest) => usual(act, ms === 12000 ? 1500 : ms, ...rest);
}"""
UNPLUG = """() => {
    const [track] = document.querySelector("#preview").srcObject.getVideoTracks();
    track.stop();
    track.dispatchEvent(new Event("ended"));
}"""


async def told(page: Page, code: str, words: str) -> None:
    """The problem is said in words that fit the screen, a phone's too."""
    await expect(page.locator("#problem")).to_have_attribute("data-code", code, timeout=LIVE_MS)
    alert = page.locator("#problem-text")
    await expect(alert).to_contain_text(words)
    await fits(page, axe=False)
    await alert.scroll_into_view_if_needed()
    await expect(alert).to_be_in_viewport()


async def test_a_camera_that_can_not_be_had_says_what_to_do(
    tmp_path: Path, levels_camera: Path
) -> None:
    missing = [
        (IN_USE, "busy", "close that, then press Start camera"),
        (BY_SYSTEM, "system", "Allow it in the system's privacy settings"),
        (NO_WEBRTC, "unsupported", "Use a current Firefox, Chrome, Edge or Safari"),
    ]
    flags = camera_flags(levels_camera)
    async with serve(SETTINGS, StandIn()) as server, browser_page(tmp_path, flags) as first:
        for script, code, words in missing:
            page = await first.context.new_page()
            await page.add_init_script(script)
            await page.goto(server.url)
            await page.get_by_role("button", name="Start camera").click()
            await told(page, code, words)
            await expect(page.locator("#status")).to_have_attribute("data-state", "failed")
            await expect(page.get_by_role("button", name="Start camera")).to_be_visible()
        assert not server.sessions.counts.admitted


async def test_a_camera_that_goes_away_ends_the_session(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, camera_flags(levels_camera), f"{server.url}/?autostart=1") as page,
    ):
        await is_live(page)
        await page.evaluate(UNPLUG)
        await told(page, "gone", "Connect it again, then press Start camera")
        await page.get_by_role("button", name="Start camera").click()
        await is_live(page)
        await expect(page.locator("#problem")).to_be_hidden()


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (NO_WAY, "ice", "no way for it was found (ICE)"),
        (OTHER_CERTIFICATE, "dtls", "could not be encrypted for it (DTLS)"),
    ],
    ids=["no way", "another certificate"],
)
async def test_video_that_does_not_get_through_is_told_and_tried_again(
    tmp_path: Path, levels_camera: Path, script: str, code: str, words: str
) -> None:
    flags = camera_flags(levels_camera)
    gone = ["404 (Not Found)"]  # the server may have ended the session before the page does
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, flags, "about:blank", faults=gone) as page,
    ):
        await page.add_init_script(script)
        await page.goto(server.url)
        await page.evaluate(HURRY)
        await page.get_by_role("button", name="Start camera").click()
        await told(page, code, words)
        await expect(page.locator("#countdown")).to_contain_text("Trying again in")
        assert server.sessions.counts.admitted == 1
        async with page.expect_request("**/whip"):
            await page.get_by_role("button", name="Try now").click()


async def test_a_camera_that_sends_no_picture_is_told(tmp_path: Path, levels_camera: Path) -> None:
    settings = replace(SETTINGS, session=replace(SETTINGS.session, connect_s=3.0))
    async with (
        serve(settings, StandIn()) as server,
        opened(tmp_path, camera_flags(levels_camera), "about:blank") as page,
    ):
        await page.add_init_script(NO_PICTURE)
        await page.goto(f"{server.url}/?autostart=1")
        await told(page, "no video", "Is it covered or switched off?")
        await expect(page.locator("#countdown")).to_contain_text("Trying again in")
        assert set(server.sessions.counts.ended) == {"no video"}


async def test_too_many_from_one_address_are_told_to_close_one(
    tmp_path: Path, levels_camera: Path
) -> None:
    settings = replace(SETTINGS, server=replace(SETTINGS.server, max_sessions_per_address=1))
    async with (
        serve(settings, StandIn()) as server,
        aiohttp.ClientSession() as http,
        opened(tmp_path, camera_flags(levels_camera), server.url, faults=["429"]) as page,
    ):
        async with calling(server.url, http) as caller:
            await caller.wait_for("hello")
            await page.get_by_role("button", name="Start camera").click()
            await told(page, "full", "as many pages live as it may (1). Close one.")
            await expect(page.locator("#countdown")).to_contain_text("Trying again in")
            caller.send(type="bye")
        await page.get_by_role("button", name="Try now").click()
        await is_live(page)
        await expect(page.locator("#problem")).to_be_hidden()


async def test_a_server_that_stops_says_so_first(tmp_path: Path, levels_camera: Path) -> None:
    settings = replace(SETTINGS, server=replace(SETTINGS.server, grace_s=1.5))
    async with (
        serve(settings, StandIn()) as server,
        opened(
            tmp_path, camera_flags(levels_camera), f"{server.url}/?autostart=1", faults=["503"]
        ) as page,
    ):
        await is_live(page)
        draining = asyncio.create_task(server.sessions.drain())
        await expect(page.locator("#hint")).to_contain_text("The server stops in 1.5 seconds")
        await draining
        await told(page, "full", "The server is stopping. It may be back soon.")
        server.sessions.draining = False  # another server has taken its place
        await page.get_by_role("button", name="Try now").click()
        await is_live(page)


async def answer_with(page: Page, path: str, status: int, body: str) -> None:
    async def answer(route: Route) -> None:
        await route.fulfill(status=status, body=body, content_type="application/json")

    await page.route(path, answer)


async def test_a_server_that_fails_is_tried_again(tmp_path: Path, levels_camera: Path) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, camera_flags(levels_camera), server.url, faults=["500"]) as page,
    ):
        await answer_with(page, "**/whip", 500, '{"detail": "The fault is logged."}')
        await page.get_by_role("button", name="Start camera").click()
        await told(page, "server", "The server had a problem (500). The fault is logged.")
        await page.unroute("**/whip")
        await page.get_by_role("button", name="Try now").click()
        await is_live(page)


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [(200, "{}", "page", "Reload it"), (400, "{}", "refused", "did not accept")],
    ids=["a fault of the page", "refused"],
)
async def test_what_trying_again_can_not_help_ends_with_words(
    tmp_path: Path, levels_camera: Path, status: int, body: str, code: str, words: str
) -> None:
    faults = ["400", "undefined", "not iterable"]
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, camera_flags(levels_camera), server.url, faults=faults) as page,
    ):
        path = "**/api/model" if code == "page" else "**/whip"
        await answer_with(page, path, status, body)
        await page.goto(f"{server.url}/?autostart=1")
        await told(page, code, words)
        await expect(page.locator("#status")).to_have_attribute("data-state", "failed")
        await expect(page.locator("#countdown")).to_be_empty()


async def test_a_copy_that_the_browser_refuses_is_told(tmp_path: Path, levels_camera: Path) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, camera_flags(levels_camera), f"{server.url}/?autostart=1") as page,
    ):
        await page.locator(sign("bright")).first.wait_for(timeout=LIVE_MS)
        browser = await page.context.new_cdp_session(page)

        async def allow(setting: str) -> None:
            permission = {"name": "clipboard-write", "allowWithoutGesture": True}
            for one in (permission, {"name": "clipboard-write"}):
                await browser.send("Browser.setPermission", {"permission": one, "setting": setting})

        await allow("denied")
        await page.get_by_role("button", name="Copy").click()
        fault = page.locator("#copy-fault")
        await expect(fault).to_have_text(
            "The browser did not allow copying. Select the text and copy it yourself."
        )
        await fits(page)
        await allow("granted")
        await page.get_by_role("button", name="Copy").click()
        await expect(fault).to_be_empty()
