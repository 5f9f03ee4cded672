"""The page when the process that receives its video dies, in a real Chromium."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

from playwright.async_api import expect

from streaming.service import serve
from streaming.standin import StandIn
from tests.browser import camera_flags
from tests.web.page import LIVE_MS, SETTINGS, is_live, opened, sign

ROWS = "rows => rows.map((row) => row.dataset.session + row.dataset.id)"


async def test_a_dead_worker_is_got_over_and_the_transcript_kept(
    tmp_path: Path, levels_camera: Path
) -> None:
    settings = replace(SETTINGS, server=replace(SETTINGS.server, workers=1))
    flags, gone = camera_flags(levels_camera), ["404"]  # what its goodbye is answered
    async with (
        serve(settings, StandIn()) as server,
        opened(tmp_path, flags, f"{server.url}/?autostart=1", faults=gone) as page,
    ):
        await page.locator(sign("bright")).first.wait_for(timeout=LIVE_MS)
        before = await page.eval_on_selector_all("#transcript li", ROWS)
        assert server.crew is not None
        (worker,) = server.crew
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        state = page.locator("#status")
        await expect(state).not_to_have_attribute("data-state", "live", timeout=LIVE_MS)
        await is_live(page)
        assert server.crew.deaths == 1
        after = await page.eval_on_selector_all("#transcript li", ROWS)
        assert set(before) <= set(after), "the transcript is kept"
