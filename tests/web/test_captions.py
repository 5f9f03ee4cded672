"""Captions for others: the page shares an address, and a second page reads there, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Page, expect

from models.schema import Sign
from streaming.app import serve
from streaming.bench.standin import StandIn
from tests.browser import camera_flags
from tests.web.page import LIVE_MS, SETTINGS, barriers, is_live, opened, too_wide

SIZES = ((1280, 800), (390, 844), (844, 390))
EARLIER = "hello name what thank-you book water please mother father girl boy school".split()


def word(gloss: str, final: bool) -> str:
    return f'#words .word[data-final="{str(final).lower()}"]:text-is("{gloss}")'


async def looked_at(page: Page, sizes: Sequence[tuple[int, int]] = SIZES[:1]) -> None:
    """It can be read by everyone."""
    for width, height in sizes:
        await page.set_viewport_size({"width": width, "height": height})
        assert not await barriers(page) and not await too_wide(page), (width, height)


async def test_others_read_along_through_reconnects_until_the_end(
    tmp_path: Path, levels_camera: Path
) -> None:
    flags = camera_flags(levels_camera)
    async with (
        serve(SETTINGS, StandIn()) as server,
        opened(tmp_path, flags, server.url, faults=["404"]) as page,
    ):
        await page.get_by_role("button", name="Captions for others").click()
        await expect(page.locator("#share [role=alert]")).to_have_text("Start the camera first.")
        await page.locator("#toggle").click()
        await is_live(page)
        await page.get_by_role("button", name="Captions for others").click()
        await expect(page.locator("#share-page")).to_have_value(re.compile("/captions/.*token="))
        await looked_at(page, SIZES)
        url = await page.locator("#share-page").input_value()
        assert await page.get_by_role("link", name="Open").get_attribute("href") == url

        # As they are sent, revised, and final; the last words only.
        reader = await page.context.new_page()
        await reader.goto(url)
        for gloss in ("bright", "dark"):
            await expect(reader.locator(word(gloss, True)).first).to_be_visible(timeout=LIVE_MS)
        await expect(reader.locator("#log")).to_contain_text("bright")
        assert await reader.get_by_text("not a translation").count() == 1
        (session,) = server.sessions
        feed = session.pipeline.captions
        assert feed

        def show(id: int, gloss: str, *, final: bool) -> None:
            sign = Sign(id=id, gloss=gloss, p=1, alternatives=(), start_s=0, end_s=1, final=final)
            feed.show(sign, 0.0)

        for id, gloss in enumerate(EARLIER, start=1000):
            show(id, gloss, final=True)
        show(2000, "<b>grey</b>", final=False)
        await expect(reader.locator(word("<b>grey</b>", False))).to_be_visible()
        show(2000, "blue", final=False)
        show(2000, "blue", final=True)
        await expect(reader.locator(word("blue", True))).to_be_visible()
        await expect(reader.locator("#words")).not_to_contain_text("grey")
        assert await reader.locator("#words .word").count() == 12
        assert "grey" not in await reader.locator("#log").inner_text()

        # On nothing, or on black.
        transparent = "getComputedStyle(document.documentElement).backgroundColor"
        behind = "getComputedStyle(document.querySelector('.word')).backgroundColor"
        assert (
            await reader.evaluate(transparent)
            == await reader.evaluate(behind)
            == "rgba(0, 0, 0, 0)"
        )
        await looked_at(reader, SIZES)
        await reader.add_style_tag(content=".word { color: gold }")  # as OBS adds its user's
        colour = "getComputedStyle(document.querySelector('.word[data-final=true]')).color"
        assert await reader.evaluate(colour) == "rgb(255, 215, 0)"
        await reader.keyboard.press("c")
        assert await reader.evaluate(behind) == "rgb(0, 0, 0)"
        await looked_at(reader)
        await reader.goto(f"{url}&contrast=high&hold=0.01")
        assert await reader.evaluate(behind) == "rgb(0, 0, 0)"
        await expect(reader.locator("#words")).to_have_attribute("data-old", "true")
        await reader.goto(url)
        await expect(reader.locator("#words")).to_have_attribute("data-old", "false")

        # The reader's stream breaks off: the browser comes again. The signer stops and goes on.
        for name in list(feed.captions._readers._outboxes):
            feed.captions._readers.leave(name)
        show(2001, "again", final=True)
        await expect(reader.locator(word("again", True))).to_be_visible(timeout=LIVE_MS)
        await page.locator("#toggle").click()
        await expect(reader.locator("#state")).to_have_text("The signer has stopped.")
        await page.reload()
        await page.locator("#toggle").click()
        await expect(page.locator("#share-page")).to_have_value(url, timeout=LIVE_MS)
        await expect(reader.locator("#state")).to_be_empty()

        await page.get_by_role("button", name="Stop sharing").click()
        await expect(reader.locator("#state")).to_contain_text("have ended")
        await looked_at(reader)
        await expect(page.get_by_role("button", name="Captions for others")).to_be_focused()
        await reader.goto(f"{url}x")
        await expect(reader.locator("#state")).to_contain_text("or the address is wrong")
