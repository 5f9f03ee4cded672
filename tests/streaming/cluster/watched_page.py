"""The page in Chromium, with a note of each message that comes to it: when it reads, and whose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from tests.browser import (
    browser_page,
    camera_flags,
    clip_pictures,
    write_camera,
)
from tests.web.conftest import levels
from tests.web.page import is_live

_NOTES = """
window.notes = {predictions: [], hellos: [], stopping: []};
const make = RTCPeerConnection.prototype.createDataChannel;
RTCPeerConnection.prototype.createDataChannel = function (...rest) {
    const channel = make.apply(this, rest);
    let session = "";
    channel.addEventListener("message", ({ data }) => {
        const message = JSON.parse(data);
        const s = Date.now() / 1000;
        if (message.type === "hello") {
            session = message.session;
            notes.hellos.push([s, session, message.model.name]);
        }
        if (message.type === "prediction") notes.predictions.push([s, session]);
        if (message.type === "error" && message.code === "stopping") notes.stopping.push(s);
    });
    return channel;
};
"""
_SIGNS = "document.querySelectorAll('#transcript li[data-final=true]').length"


@dataclass(frozen=True)
class WatchedPage:
    """Times are of the system's clock, in seconds."""

    page: Page

    async def notes(self) -> dict[str, Any]:
        """`predictions` [time, session], `hellos` [time, session, model], `stopping` [time]."""
        notes: dict[str, Any] = await self.page.evaluate("window.notes")
        return notes

    async def session(self) -> str:
        return str((await self.notes())["hellos"][-1][1])

    async def signs(self) -> int:
        """Final signs in the transcript."""
        return int(await self.page.evaluate(_SIGNS))

    async def until_signs(self, count: int, within_s: float = 20.0) -> None:
        async with asyncio.timeout(within_s):
            while await self.signs() < count:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def until_reads_elsewhere(self, session: str, within_s: float = 40.0) -> float:
        """When the first prediction of a session that came after this one came."""
        async with asyncio.timeout(within_s):
            while True:
                notes = await self.notes()
                sessions = [name for _, name, _ in notes["hellos"]]
                later = sessions[sessions.index(session) + 1 :]
                for time_s, whose in notes["predictions"]:
                    if whose in later:
                        return float(time_s)
                await asyncio.sleep(0.1)


@asynccontextmanager
async def watched_page(
    folder: Path, url: str, clip: Path | None = None
) -> AsyncIterator[WatchedPage]:
    """A page that has started its camera, and is live. The camera plays the clip, or `levels`."""
    pictures = levels() if clip is None else clip_pictures(clip, lead_s=1.0, tail_s=1.5)
    camera = write_camera(folder / "camera.mjpeg", pictures)
    async with browser_page(folder, camera_flags(camera)) as page:
        await page.add_init_script(_NOTES)
        await page.goto(f"{url}/?autostart=1")
        await is_live(page)
        yield WatchedPage(page)
        await page.goto("about:blank")  # so that it ends its session
