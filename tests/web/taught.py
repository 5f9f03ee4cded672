"""Taught signs for the page's tests: what to seed, and a stand-in whose takes are short."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from playwright.async_api import FilePayload, Page, expect

from models.few_shot import EmbeddingSpace
from models.schema import Clip, Frame, Prediction
from streaming.bench.standin import StandIn, embedding
from streaming.pipeline import pack
from tests.web.page import barriers, too_wide

KEY = "livegloss.signs.1"
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}

# After this the page's pauses and counts pass quickly, and it waits for a take less long.
HASTE = """() => {
    const usual = window.setTimeout;
    const quick = (ms) => ({ 1000: 50, 2000: 400 })[ms] ?? (ms > 5000 && ms < 8000 ? 2500 : ms);
    window.setTimeout = (act, ms, ...rest) => usual(act, quick(ms), ...rest);
}"""


class QuickStandIn(StandIn):
    """A stand-in of one-second windows; untrained, it has no gloss before it is taught one."""

    def __init__(
        self, *, untrained: bool = False, inspect: Callable[[Frame], None] | None = None
    ) -> None:
        super().__init__(inspect=inspect)
        self._untrained = untrained
        self.bundle = replace(self.bundle, encoder=replace(self.bundle.encoder, frames=15))
        if untrained:
            space = EmbeddingSpace(id="untrained", dim=4, background=np.zeros((0, 4), np.float32))
            self.bundle = replace(self.bundle, glosses=(), space=space)

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        answers = super().recognise(clips)
        if not self._untrained:
            return answers
        return [replace(one, probabilities=np.zeros(0, np.float32), idle=1.0) for one in answers]


def kept(
    gloss: str, *, space: str = "standin", level: float = 128, takes: int = 3
) -> dict[str, Any]:
    """A sign as the browser keeps it; to the stand-in it is a picture of that level."""
    return {
        "gloss": gloss,
        "space": space,
        "takes": [pack(embedding(level))] * takes,
        "date": "2026-11-24",
    }


def exported(*signs: dict[str, Any]) -> str:
    return json.dumps({"format": "livegloss-signs", "version": 1, "signs": signs})


async def seed(page: Page, *signs: dict[str, Any]) -> None:
    """Let the browser keep these signs, as if they had been taught before."""
    await page.evaluate("([key, text]) => localStorage.setItem(key, text)", [KEY, exported(*signs)])
    await page.reload()


async def in_browser(page: Page) -> list[dict[str, Any]]:
    text = await page.evaluate("(key) => localStorage.getItem(key)", KEY)
    signs: list[dict[str, Any]] = json.loads(text)["signs"] if text else []
    return signs


async def read_file(page: Page, text: str) -> None:
    """Let the page read a file of taught signs."""
    await page.locator("#teach-file").set_input_files(
        FilePayload(name="signs.json", mimeType="application/json", buffer=text.encode())
    )


async def open_teach(page: Page) -> None:
    await page.get_by_role("tab", name="Teach").click()
    await expect(page.locator("#panel-teach")).to_be_visible()


async def fits(page: Page, *, axe: bool = True) -> None:
    """Nothing to scroll sideways, nothing that axe-core minds much, on a phone or a desktop."""
    for name, (width, height) in SIZES.items():
        await page.set_viewport_size({"width": width, "height": height})
        assert not await too_wide(page), name
        if axe:
            assert not await barriers(page), name
