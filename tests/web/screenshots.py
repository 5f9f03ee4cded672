"""Pictures of the page at work, for the README: the real product, real clips as its camera.

    python -m tests.web.screenshots

Writes docs/page.png, page-phone.png, page-practice.png, page-teach.png, captions.png and demo.png.
The clips may not be published, so the page is asked to hide the camera's picture (`?preview=off`),
and the drawn signer stands in its place; the demo shows none at all (`?pictures=off`).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from playwright.async_api import expect

from models.command_line import read_command_line
from tests.browser import (
    ROOT,
    browser_page,
    camera_flags,
    clip_pictures,
    server_process,
    write_camera,
)
from tests.web.test_demo import demo, start

DATA = ROOT.parent / "shared" / "data"
SHOTS = {"page.png": ((1280, 1040), 1.5), "page-phone.png": ((390, 844), 2.0)}


async def take(url: str, camera: Path, out: Path, signs: int) -> None:
    """Take every picture once `signs` signs stand in the transcript and another one is made."""
    for name, (size, scale) in SHOTS.items():
        with tempfile.TemporaryDirectory() as folder:
            flags = camera_flags(camera)
            async with browser_page(Path(folder), flags, size=size, scale=scale) as page:
                await page.goto(f"{url}/?autostart=1&preview=off")
                row = page.locator(f'#transcript li:nth-last-child({signs})[data-final="false"]')
                await expect(row).to_be_visible(timeout=90_000)
                await expect(page.locator("#candidates")).to_have_attribute("data-resting", "false")
                await page.evaluate(
                    "Promise.allSettled(document.getAnimations().map(a => a.finished))"
                )
                await page.screenshot(path=out / name)
        print(out / name)


async def take_panels(url: str, camera: Path, out: Path) -> None:
    """Pictures of a sign being practised, and of one being taught."""
    size, scale = SHOTS["page.png"]
    with tempfile.TemporaryDirectory() as folder:
        flags = camera_flags(camera)
        async with browser_page(Path(folder), flags, size=size, scale=scale) as page:
            await page.goto(f"{url}/?autostart=1&preview=off")
            await page.get_by_role("tab", name="Practise").click()
            await page.locator("#practice-choice").select_option("hello")
            await page.get_by_role("button", name="Begin").click()
            recognised = page.locator('#practice-now[data-state="recognised"]')
            await expect(recognised).to_be_visible(timeout=90_000)
            await page.screenshot(path=out / "page-practice.png")
            await page.get_by_role("button", name="Stop practising").click()
            await page.get_by_role("tab", name="Teach").click()
            await page.get_by_label("Name of the sign").fill("lantern")
            await page.get_by_role("button", name="Record", exact=True).click()
            await expect(page.locator("#teach-progress")).to_contain_text("2 of", timeout=30_000)
            await expect(page.locator("#teach-big")).to_have_text("Sign now", timeout=30_000)
            await page.screenshot(path=out / "page-teach.png")
    print(out / "page-practice.png", out / "page-teach.png")


async def take_captions(url: str, camera: Path, out: Path, signs: int) -> None:
    """The captions for others over a plain picture, once `signs` signs are final."""
    with tempfile.TemporaryDirectory() as folder:
        flags = camera_flags(camera)
        async with browser_page(Path(folder), flags, size=(1280, 360), scale=1.5) as page:
            await page.goto(f"{url}/?autostart=1&preview=off")
            await expect(page.locator("#status")).to_have_attribute(
                "data-state", "live", timeout=60_000
            )
            await page.get_by_role("button", name="Captions for others").click()
            await expect(page.locator("#share-page")).not_to_have_value("")
            reader = await page.context.new_page()
            await reader.goto(f"{await page.locator('#share-page').input_value()}&hold=0")
            await reader.add_style_tag(content="html { background: #6d8a80 }")
            word = reader.locator('#words .word[data-final="true"]').nth(signs - 1)
            await expect(word).to_be_attached(timeout=120_000)
            await reader.screenshot(path=out / "captions.png")
    print(out / "captions.png")


async def take_demo(model: str, camera: Path, out: Path, signs: int) -> None:
    """The demo, once `signs` signs stand in its list and the first one is made again."""
    with tempfile.TemporaryDirectory() as folder:
        flags = camera_flags(camera)
        async with (
            demo(Path(folder), model) as url,
            browser_page(Path(folder), flags, size=(1280, 900), scale=1.5) as page,
        ):
            await page.goto(f"{url}/?pictures=off")
            await start(page)
            row = page.locator(f'.lg-history tr[data-final="true"]:nth-last-child({signs})')
            await expect(row).to_be_visible(timeout=90_000)
            again = page.locator('.lg-history tr[data-gloss="hello"][data-final="false"]')
            await expect(again).to_be_visible(timeout=60_000)
            await expect(page.locator(".lg-bars")).to_have_attribute("data-resting", "false")
            await page.screenshot(path=out / "demo.png")
    print(out / "demo.png")


async def run(model: str, clips: Sequence[Path], out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shown = (clip_pictures(clip, lead_s=1.0, tail_s=0.5) for clip in clips)
        camera = write_camera(Path(folder) / "camera.mjpeg", chain.from_iterable(shown))
        async with server_process("--model", model) as server:
            await take(server.url, camera, out, len(clips))
            await take_panels(server.url, camera, out)
            await take_captions(server.url, camera, out, len(clips))
        await take_demo(model, camera, out, len(clips))


@dataclass(frozen=True, kw_only=True)
class Settings:
    model: str = "builtin"  # a bundle's folder, or builtin
    out: Path = ROOT / "docs"  # folder of the pictures
    clips: tuple[Path, ...] = ()  # the camera's clips, in order; may be given again


def main(argv: Sequence[str] | None = None) -> None:
    data = Path(os.environ.get("LIVEGLOSS_DATA", DATA))
    settings = read_command_line(Settings, argv, prog="python -m tests.web.screenshots")
    glosses = ("hello", "dance", "good", "home", "water")
    settings.out.mkdir(parents=True, exist_ok=True)
    clips = settings.clips or [sorted((data / "clips").glob(f"{g}-*.mp4"))[0] for g in glosses]
    asyncio.run(run(settings.model, clips, settings.out))


if __name__ == "__main__":
    main()
