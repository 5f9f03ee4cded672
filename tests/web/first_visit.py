"""A first visit to the page, timed: from opening it to the first sign that it reads right.

    python -m tests.web.first_visit --out shots

Somebody who has never seen the page opens it, reads what it says, presses a sign that it offers and
makes it; then looks another one up by a word of their own. The camera plays a clip of a signer whom
the model (`tests/bundles/heldout`) never met. Prints a JSON line: for each size of window the
seconds to the first right sign, and what the cold load took. The pictures show the clip's signer:
keep them to yourself.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from playwright.async_api import Page, expect

from models.command_line import read_command_line
from tests import clips
from tests.browser import (
    ROOT,
    browser_page,
    camera_flags,
    clip_pictures,
    server_process,
    write_camera,
)

DATA = ROOT.parent / "shared" / "data"
SIZES = {"laptop": (1280, 800), "phone": (390, 844), "sideways": (844, 390)}
GLOSS = "please"  # one of the surest of the bundle; there is a clip of it
REST_S = 3.0  # from the start of the camera, and after the sign: hands come up and go down
WORD, FOUND = "mum", "mother"
WAIT_MS = 60_000

# Milliseconds to the last of the page's own requests, and bytes as sent and as unpacked.
LOAD = """() => {
    const all = ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type));
    const sum = (name) => all.reduce((total, one) => total + one[name], 0);
    return {
        load_ms: Math.round(Math.max(...all.map((one) => one.responseEnd))),
        sent_bytes: sum("transferSize"),
        bytes: sum("decodedBodySize"),
    };
}"""


@dataclass(frozen=True, slots=True)
class Visit:
    seconds: float  # from opening the page to the first right sign, `reading_s` included
    load_ms: int  # of the page with all that it asks for at first
    sent_bytes: int
    bytes: int


def camera_of_a_newcomer(data: Path, folder: Path) -> Path:
    """A camera before which a signer, unknown to the model, makes the sign again and again."""
    [clip] = [one for one in clips.one_a_gloss(clips.held_out(data)) if one.gloss == GLOSS]
    pictures = clip_pictures(clip.path, lead_s=REST_S, tail_s=REST_S)
    return write_camera(folder / "camera.mjpeg", pictures)


async def first_visit(
    page: Page, url: str, *, reading_s: float = 0.0, shots: Path | None = None
) -> Visit:
    """Visit the page at `url` with an empty browser. `reading_s`: before the first press.

    Raises:
        AssertionError: what a newcomer needs is not there, or no right sign came.
    """

    async def look(name: str) -> None:
        if shots is not None:
            await page.screenshot(path=f"{shots}-{name}.png")

    began_s = time.monotonic()
    await page.goto(url)
    starter = page.locator("#starters").get_by_role("button", name=GLOSS, exact=True)
    await expect(starter).to_be_in_viewport(ratio=1)
    load = await page.evaluate(LOAD)
    await look("1-opened")
    await asyncio.sleep(reading_s)
    await starter.click()
    await expect(page.locator("#practice-word")).to_have_text(GLOSS)
    now = page.locator("#practice-now")
    await expect(now).to_have_attribute("data-state", "asking", timeout=WAIT_MS)
    for part in ("#stage", "#practice-word", "#practice-answer"):
        await expect(page.locator(part)).to_be_in_viewport(ratio=0.99)
    await look("2-asked")
    await expect(now).to_have_attribute("data-state", "recognised", timeout=WAIT_MS)
    seconds = time.monotonic() - began_s
    await look("3-recognised")

    # The sign stands in the transcript, too.
    await page.get_by_role("button", name="Stop practising").click()
    await page.get_by_role("tab", name="Read").click()
    await expect(page.locator(f'#transcript [data-gloss="{GLOSS}"]').first).to_be_visible()
    await look("4-read")

    # Another sign, by a word that is not its name.
    await page.get_by_label("Find a sign").fill(WORD)
    found = page.locator(f'#glosses li[data-gloss="{FOUND}"]').get_by_role("button").first
    await expect(found).to_be_visible()
    await found.scroll_into_view_if_needed()
    await look("5-found")
    await found.click()
    await expect(page.locator("#practice-word")).to_have_text(FOUND)
    await expect(page.locator("#practice-word")).to_be_in_viewport(ratio=1)
    await expect(page.locator("#stage")).to_be_in_viewport(ratio=0.99)
    await look("6-next")
    await page.get_by_role("button", name="Stop", exact=True).click()
    return Visit(round(seconds, 1), **load)


async def run(out: Path | None, reading_s: float) -> dict[str, Visit]:
    visits = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = Path(os.environ.get("LIVEGLOSS_DATA", DATA))
        camera = camera_of_a_newcomer(data, folder)
        async with server_process("--model", str(clips.HELD_OUT)) as server:
            for size, pixels in SIZES.items():
                flags = camera_flags(camera)
                async with browser_page(folder / size, flags, size=pixels) as page:
                    shots = None if out is None else out / size
                    visit = await first_visit(page, server.url, reading_s=reading_s, shots=shots)
                    visits[size] = visit
    return visits


@dataclass(frozen=True, kw_only=True)
class Settings:
    out: Path | None = None  # folder for pictures of each step
    reading_s: float = 8.0  # how long the visitor reads before the first press


def main(argv: Sequence[str] | None = None) -> None:
    settings = read_command_line(Settings, argv, prog="python -m tests.web.first_visit")
    if settings.out is not None:
        settings.out.mkdir(parents=True, exist_ok=True)
    visits = asyncio.run(run(settings.out, settings.reading_s))
    print(json.dumps({size: asdict(visit) for size, visit in visits.items()}))


if __name__ == "__main__":
    main()
