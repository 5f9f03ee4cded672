"""The other end of a benchmark in a real Chromium: pages that send what a camera would.

Takes the place of `streaming.bench.peers`: same task, same lines to the parent. Each page, in a tab
of its own, writes the numbers into its pictures and notes when: Chromium's encoder, pacing and
retransmission are part of the latency, a camera driver is not.
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
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import Page, async_playwright

from streaming.bench import barcode
from streaming.bench.peers import CONNECT_S, SETTLE_S, PeerLog, PeerTask, parent_input, send_line

_NUMBERS = 4096  # then they start again: after four minutes at 15 frames a second
_BROWSER_FLAGS = (  # no network but this machine
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
_TAB_FLAGS = (  # tabs in the background work at full speed
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
_CALL = (Path(__file__).parent / "chromium.js").read_text(encoding="utf-8")


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
    except Exception:  # no driver or no browser: either way there is none to use
        return None
    return path if os.path.exists(path) else None


@asynccontextmanager
async def browser_page(
    folder: Path,
    flags: Sequence[str],
    *,
    size: tuple[int, int] = (1280, 860),
    scale: float = 1,
) -> AsyncIterator[Page]:
    """A page of a new, headless Chromium with an empty profile in `folder`; closed at the end."""
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=find(),
            headless=True,
            args=[*_BROWSER_FLAGS, *flags],
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=scale,
        )
        try:
            yield context.pages[0] if context.pages else await context.new_page()
        finally:
            await context.close()


async def _run_pages(task: PeerTask) -> None:
    """Let the pages of a task call, send for its duration, and report their logs."""
    with tempfile.TemporaryDirectory() as folder:
        parent = await parent_input()
        async with browser_page(Path(folder), _TAB_FLAGS) as first:
            more = [await first.context.new_page() for _ in range(task.peers - 1)]
            pages = [first, *more]
            errors = await asyncio.gather(*(_call(page, task) for page in pages))
            send_line({"connected": errors.count(None)})
            await parent.readline()
            await asyncio.sleep(task.duration_s)
            await asyncio.gather(*(page.evaluate("window.stopCamera()") for page in pages))
            await asyncio.sleep(SETTLE_S)
            logs = [await page.evaluate("window.log") for page in pages]
            send_line({"logs": [_log_of(*pair) for pair in zip(logs, errors, strict=True)]})
            await parent.read()


async def _call(page: Page, task: PeerTask) -> str | None:
    """Connect, and wait for the first prediction; returns the error, if any."""
    width, height = task.size
    codes = [barcode.code(number) for number in range(_NUMBERS)]
    await page.goto(f"{task.url}/healthz")  # same origin as /whip, and nothing else on it
    camera = {"fps": task.fps, "width": width, "height": height, "codes": codes}
    try:
        async with asyncio.timeout(CONNECT_S):
            error: str | None = await page.evaluate(_CALL, camera)
    except TimeoutError:
        return f"no prediction within {CONNECT_S:g} s"
    return error


def _log_of(log: dict[str, Any], error: str | None) -> PeerLog:
    """A page's log, with times converted from the wall clock to the monotonic one."""
    ahead_s = time.time() - time.monotonic()
    return PeerLog(
        session=log["session"],
        made_s=[ms / 1000 - ahead_s for ms in log["made_ms"]],
        numbers=_NUMBERS,
        predictions=[(rtp, ms / 1000 - ahead_s, stages) for rtp, ms, stages in log["predictions"]],
        error=error,
    )


if __name__ == "__main__":
    asyncio.run(_run_pages(msgspec.json.decode(sys.argv[1], type=PeerTask)))
