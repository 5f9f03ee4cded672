"""The other end of a benchmark in a real Chromium: pages that send what a camera would.

Stands where `streaming.bench.peers` does: told the same task, says the same lines. Each page has a
tab of its own, draws the bar code itself and notes when, so that Chromium's encoder, pacing and
retransmission are in the figures, and a camera driver is not.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright

from streaming.bench import barcode
from streaming.bench.children import parent, say
from streaming.bench.peers import CONNECT_S, SETTLE_S, PeerLog, PeerTask, task_from

_PICTURES = 4096  # numbers begin again then: after four minutes at 15 a second
_FLAGS = (  # tabs that nobody looks at work on all the same
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
_CALL = (Path(__file__).parent / "chromium.js").read_text(encoding="utf-8")


async def work(task: PeerTask) -> None:
    """Let the pages of a task call, talk for its time, and report."""
    with tempfile.TemporaryDirectory() as folder:
        async with browser_page(Path(folder), _FLAGS) as first, parent() as told_by:
            more = [await first.context.new_page() for _ in range(task.peers - 1)]
            pages = [first, *more]
            errors = await asyncio.gather(*(_call(page, task) for page in pages))
            say({"connected": errors.count(None)})
            await told_by.readline()
            await asyncio.sleep(task.duration_s)
            await asyncio.gather(*(page.evaluate("window.stopCamera()") for page in pages))
            await asyncio.sleep(SETTLE_S)
            told = [await page.evaluate("window.heard") for page in pages]
            heard = [_heard(one, error) for one, error in zip(told, errors, strict=True)]
            say({"heard": [asdict(one) for one in heard]})
            await told_by.read()


async def _call(page: Page, task: PeerTask) -> str | None:
    """Connect, and wait for the first prediction; what went wrong."""
    width, height = task.size
    codes = [barcode.code(number) for number in range(_PICTURES)]
    await page.goto(f"{task.url}/healthz")  # same origin as /whip, and nothing else on it
    asked = {"fps": task.fps, "width": width, "height": height, "codes": codes}
    try:
        async with asyncio.timeout(CONNECT_S):
            error: str | None = await page.evaluate(_CALL, asked)
    except TimeoutError:
        return f"no prediction within {CONNECT_S:g} s"
    return error


def _heard(told: dict[str, Any], error: str | None) -> PeerLog:
    """A page's clock is the machine's wall clock; ours is its monotonic one."""
    ahead_s = time.time() - time.monotonic()
    return PeerLog(
        session=told["session"],
        made_s=[ms / 1000 - ahead_s for ms in told["made_ms"]],
        pictures=_PICTURES,
        results=[(rtp, ms / 1000 - ahead_s, stages) for rtp, ms, stages in told["results"]],
        error=error,
    )


if __name__ == "__main__":
    asyncio.run(work(task_from(sys.argv)))

# MERGED from streaming.bench.browser: A real Chromium, headless and alone: no network but this
# machine, a new profile each time.

_BROWSER_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-loopback-in-peer-connection",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def find() -> str | None:
    """Path of a Chromium on this machine, Debian's or Playwright's; None when there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    except Exception:  # no driver, no browser: whatever the reason, there is none to be had
        return None
    return path if os.path.exists(path) else None


@asynccontextmanager
async def browser_page(
    folder: Path,
    flags: Sequence[str],
    *,
    size: tuple[int, int] = (1280, 860),
    dark: bool = False,
    scale: float = 1,
) -> AsyncIterator[Page]:
    """A page of a new Chromium with an empty profile in `folder`; closed at the end."""
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=find(),
            headless=True,
            args=[*_BROWSER_FLAGS, *flags],
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            device_scale_factor=scale,
        )
        try:
            yield context.pages[0] if context.pages else await context.new_page()
        finally:
            await context.close()
