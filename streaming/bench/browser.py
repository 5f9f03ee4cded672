"""A real Chromium, headless and alone: no network but this machine, a new profile each time."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, async_playwright

_FLAGS = (
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
            args=[*_FLAGS, *flags],
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            device_scale_factor=scale,
        )
        try:
            yield context.pages[0] if context.pages else await context.new_page()
        finally:
            await context.close()
