"""The page, opened by the tests in a real Chromium, and where to look on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import ServerSettings, SessionSettings, Settings
from tests.browser import browser_page

SETTINGS = Settings(
    server=ServerSettings(
        port=0, max_sessions=2, max_sessions_per_address=2, retry_after_s=2, grace_s=0.5
    ),
    session=SessionSettings(loopback_ice=True),
)
LIVE_MS = 20_000  # a whole start on a busy machine


@asynccontextmanager
async def opened(
    folder: Path, flags: Sequence[str], url: str, *, faults: list[str] | None = None
) -> AsyncIterator[Page]:
    """The page at `url`; what it reports to the console as an error must be in `faults`."""
    seen: list[str] = []
    async with browser_page(folder, flags) as page:
        page.on("console", lambda m: seen.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: seen.append(str(error)))
        await page.goto(url)
        yield page
    unexpected = [text for text in seen if not any(known in text for known in faults or [])]
    assert not unexpected, unexpected


@asynccontextmanager
async def served(folder: Path, flags: Sequence[str]) -> AsyncIterator[Page]:
    """The page of a server of its own, with the stand-in recogniser."""
    async with serve(SETTINGS, StandIn()) as server, opened(folder, flags, server.url) as page:
        yield page


async def is_live(page: Page) -> None:
    await expect(page.locator("#status")).to_have_attribute("data-state", "live", timeout=LIVE_MS)


async def barriers(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core finds that is serious or critical: the rule, and where.

    Text that is just fading in has little contrast, so nothing fades meanwhile.
    """
    await page.emulate_media(reduced_motion="reduce")
    found = (await Axe().run(page)).response["violations"]
    await page.emulate_media(reduced_motion="null")
    return [
        (one["id"], [node["html"][:120] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


async def too_wide(page: Page) -> list[str]:
    """What reaches beyond the right edge of the window."""
    wide: list[str] = await page.evaluate(
        "[...document.querySelectorAll('body *')]"
        ".filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    return wide


def sign(gloss: str) -> str:
    return f'#transcript li[data-gloss="{gloss}"][data-final="true"]'
