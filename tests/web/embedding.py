"""Somebody's site that embeds the recogniser: the page of docs/guides/embed, served by a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.browser import ROOT

_PAGE = ROOT / "docs" / "guides" / "embed" / "index.html"
_SERVER = "http://127.0.0.1:8080"  # in the guide's page


@asynccontextmanager
async def embedding_site(port: int, livegloss: str) -> AsyncIterator[str]:
    """The site at `port` of 127.0.0.1, as it would be with livegloss at another address."""

    async def page(request: web.Request) -> web.Response:
        text = _PAGE.read_text(encoding="utf-8")
        assert _SERVER in text
        return web.Response(text=text.replace(_SERVER, livegloss), content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
