"""Another site adds the recogniser: the guide's page, from another origin, in a real Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from playwright.async_api import Page, expect
from yarl import URL

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.server import Server
from streaming.settings import LoadSettings
from tests.browser import camera_flags, free_port
from tests.web.embedding import embedding_site
from tests.web.page import LIVE_MS, SETTINGS, barriers, opened, too_wide

SIZES = ((1280, 800), (390, 844), (844, 390))
START = """async (options) => {
  const { Livegloss } = await import(options.module);
  const all = (window.all ??= []);
  const one = new Livegloss({ token: options.token });
  all.push(one);
  window.seen ??= [];
  one.on("state", (state) => seen.push(state));
  const told = ({ code, message }) => `${code}: ${message}`;
  return one.start().then(({ glosses }) => glosses.join(" "), told);
}"""

FAULTY = """() => new Promise((resolve) => {
  addEventListener("error", () => resolve(), { once: true });
  all[1].on("prediction", () => { throw new Error("mine"); });
})"""


@asynccontextmanager
async def embedding(
    folder: Path, camera: Path, *, faults: list[str] | None = None, **settings: Any
) -> AsyncIterator[tuple[Server, Page]]:
    """A server that allows the site, unless `settings` say otherwise, and the site's page."""
    port = free_port()
    settings = {"allow_origin": (f"http://127.0.0.1:{port}",), **settings}
    named = replace(
        SETTINGS,
        server=replace(SETTINGS.server, **settings),
        load=LoadSettings(decode_share=1000.0, loop_lag_s=1000.0),  # let everybody in
    )
    async with (
        serve(named, StandIn()) as server,
        embedding_site(port, server.url) as url,
        opened(
            folder, camera_flags(camera), url, faults=["favicon", "404", *(faults or ())]
        ) as page,
    ):
        yield server, page


async def until_empty(server: Server) -> None:
    async with asyncio.timeout(10):
        while len(server.sessions):
            await asyncio.wait([session.ended for session in server.sessions])
            await asyncio.sleep(0)


async def test_the_guides_page_reads_signs_from_another_origin(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with embedding(tmp_path, levels_camera) as (server, page):
        assert URL(page.url).port != URL(server.url).port
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#signs")).to_have_attribute(
            "title", "now perhaps bright", timeout=LIVE_MS
        )
        await expect(page.locator("#state")).to_have_text("live")
        for gloss in ("bright", "dark"):
            await expect(page.locator("#signs")).to_contain_text(gloss, timeout=LIVE_MS)
        assert await page.evaluate("document.querySelector('video').videoWidth") > 0
        for width, height in SIZES:
            await page.set_viewport_size({"width": width, "height": height})
            assert not await barriers(page) and not await too_wide(page), (width, height)
        await page.evaluate(
            "window.track = document.querySelector('video').srcObject.getTracks()[0]"
        )
        await page.get_by_role("button", name="Stop").click()
        assert await page.evaluate("track.readyState") == "ended", "the camera is free"
        assert await page.evaluate("document.querySelector('video').srcObject") is None
        await until_empty(server)
        assert server.sessions.counts.ended == {"deleted": 1}
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#state")).to_have_text("live", timeout=LIVE_MS)
        await page.goto("about:blank")
        await until_empty(server)


async def test_a_second_start_begins_nothing_and_two_instances_stand_side_by_side(
    tmp_path: Path, levels_camera: Path
) -> None:
    faults = ["401", "mine"]
    async with embedding(tmp_path, levels_camera, faults=faults, token="s3cret") as (server, page):
        given = {"module": f"{server.url}/livegloss.js", "token": "s3cret"}
        refused = await page.evaluate(START, {**given, "token": "wrong"})
        assert refused == "token: This server asks for a token, or for another one."
        assert await page.evaluate("seen") == ["camera", "failed"]
        await page.evaluate("all.pop()")

        assert await page.evaluate(START, given) == "dark bright"
        assert await page.evaluate("all[0].start() === all[0].start()")
        assert len(server.sessions) == 1
        assert await page.evaluate(START, given) == "dark bright"
        assert len(server.sessions) == 2
        ends = [session.ended for session in server.sessions]
        await page.evaluate("all[0].stop()")
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert await page.evaluate("all.map((one) => one.state)") == ["off", "live"]
        await page.evaluate("new Promise((resolve) => all[1].on('prediction', resolve))")
        stopped = "(({ code }) => code)"
        started = (
            f"(() => {{ const on = all[0].start().catch{stopped}; all[0].stop(); return on; }})()"
        )
        assert await page.evaluate(started) == "stopped"
        await page.evaluate(FAULTY)
        await page.evaluate("new Promise((resolve) => all[1].on('prediction', resolve))")
        assert await page.evaluate("all[1].state") == "live", "a callback's fault is its own"


async def test_a_site_that_is_not_allowed_is_told_so(tmp_path: Path, levels_camera: Path) -> None:
    faults = ["CORS", "ERR_FAILED"]
    async with embedding(tmp_path, levels_camera, faults=faults, allow_origin=()) as (server, page):
        await page.get_by_role("button", name="Start").click()
        origin = page.url.rstrip("/")
        expected = (
            f"does not let pages of {origin} use it. Its operator can: --allow-origin {origin}"
        )
        await expect(page.locator("#state")).to_contain_text(expected)
        assert len(server.sessions) == 0
        await expect(page.locator("#toggle")).to_have_text("Start")
