"""The transcript as files, the search among the glosses, and what the page weighs."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser import camera_flags
from tests.web.page import LIVE_MS, served, sign

MOST_BYTES = 220_000  # unpacked; sent, a third of that


async def saved(page: Page, format: str) -> tuple[str, str]:
    """Name and text of the file that the page offers."""
    async with page.expect_download() as coming:
        await page.locator("#save").select_option(format)
    file = await coming.value
    content = await asyncio.to_thread(Path(await file.path()).read_bytes)
    return file.suggested_filename, content.decode("utf-8")


async def test_signs_are_saved_as_text_captions_and_json(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        await expect(page.locator("#save")).to_be_hidden()
        await page.locator("#toggle").click()
        for gloss in ("bright", "dark"):
            await expect(page.locator(sign(gloss)).first).to_be_attached(timeout=LIVE_MS)
        await page.locator("#toggle").click()

        name, text = await saved(page, "text")
        count = await page.locator("#transcript li").count()
        assert name == "livegloss-transcript.txt"
        assert len(text.splitlines()) == count

        name, text = await saved(page, "json")
        signs = json.loads(text)["signs"]
        assert len(signs) == count and signs[0]["start_s"] == 0
        assert [one["start_s"] for one in signs] == sorted(one["start_s"] for one in signs)
        assert all(one["end_s"] > one["start_s"] and 0 < one["p"] <= 1 for one in signs)
        of_video = await page.eval_on_selector_all(
            "#transcript li", "rows => rows.map((row) => Number(row.dataset.start)).reverse()"
        )
        expected = [start - of_video[0] for start in of_video]
        assert [one["start_s"] for one in signs] == pytest.approx(expected, abs=0.002)

        name, text = await saved(page, "vtt")
        assert text.startswith("WEBVTT\n\n") and "not a translation" in text
        cues = re.findall(
            r"^(\d\d:\d\d:\d\d\.\d{3}) --> (\d\d:\d\d:\d\d\.\d{3})\n(.+)$", text, re.M
        )
        assert [cue[2] for cue in cues] == [one["gloss"] for one in signs]
        assert all(start < end for start, end, _ in cues)


async def test_captions_have_no_markup_of_their_own(tmp_path: Path, levels_camera: Path) -> None:
    hostile = {"gloss": "<b>fish</b> & chips", "p": 1, "start_s": 3661.5, "end_s": 3662, "line": ""}
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        async with page.expect_download() as coming:
            await page.evaluate(
                "async (sign) => (await import('/static/download.js')).download([sign], 'vtt')",
                hostile,
            )
        text = await asyncio.to_thread(Path(await (await coming.value).path()).read_text)
    assert "01:01:01.500 --> 01:01:02.000\n&lt;b&gt;fish&lt;/b&gt; &amp; chips\n" in text


async def test_a_gloss_is_found_or_said_to_be_unknown(tmp_path: Path, levels_camera: Path) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        glosses = [f"word {n}" for n in range(2000)]

        async def card(route):  # type: ignore[no-untyped-def]
            answer = await route.fetch()
            await route.fulfill(response=answer, json={**await answer.json(), "glosses": glosses})

        await page.route("**/api/model", card)
        await page.reload()
        await page.get_by_label("Find a sign").fill("WORD 199")
        await expect(page.locator("#search-count")).to_have_text("11 found")
        await expect(page.locator("#glosses li:visible")).to_have_count(11)
        await page.get_by_label("Find a sign").fill("<b>")
        await expect(page.locator("#search-count")).to_contain_text("does not know “<b>”")


async def test_the_page_is_light(tmp_path: Path, levels_camera: Path) -> None:
    async with served(tmp_path, camera_flags(levels_camera)) as page:
        await expect(page.locator("#glosses li").first).to_be_attached()
        loads = await page.evaluate(
            "[...performance.getEntriesByType('navigation'), "
            "...performance.getEntriesByType('resource')]"
            ".map((e) => [e.name, e.decodedBodySize, e.transferSize])"
        )
        assert all(name.startswith(page.url) for name, _, _ in loads)
        assert 20_000 < sum(size for _, size, _ in loads) < MOST_BYTES
        assert sum(sent for _, _, sent in loads) < MOST_BYTES / 2
