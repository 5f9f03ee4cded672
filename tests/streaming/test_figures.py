"""`GET /api/figures/{gloss}`: who gets a figure, and how often it is sent."""

from __future__ import annotations

from dataclasses import replace

import aiohttp

from models.drawn_figure import pack_figure
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import ServerSettings, Settings
from tests.models.drawn_figures import waving

SETTINGS = Settings(server=ServerSettings(port=0, token="secret"))
TOKEN = {"Authorization": "Bearer secret"}
FIGURE = pack_figure(waving())


async def test_a_figure_is_sent_once_to_who_has_the_token() -> None:
    standin = StandIn()
    standin.bundle = replace(standin.bundle, glosses=("dark", "né"), figures={"né": FIGURE})
    async with serve(SETTINGS, standin) as server, aiohttp.ClientSession(server.url) as http:
        async with http.get("/api/figures/né") as refused:
            assert refused.status == 401
        async with http.get("/api/model", headers=TOKEN) as model:
            assert (await model.json())["figures"] == ["né"]
        async with http.get("/api/figures/ne%CC%81", headers=TOKEN) as got:
            assert got.status == 200 and await got.read() == FIGURE
            assert got.content_type == "application/octet-stream"
            assert got.headers["Cache-Control"] == "private, max-age=3600"
            assert int(got.headers["Content-Length"]) < len(FIGURE), "it is compressed"
            known = {**TOKEN, "If-None-Match": got.headers["ETag"]}
        async with http.get("/api/figures/né", headers=known) as same:
            assert same.status == 304 and await same.read() == b""
        plain = {**TOKEN, "Accept-Encoding": "identity"}
        async with http.get("/api/figures/né", headers=plain) as whole:
            assert await whole.read() == FIGURE
        for none in ("dark", "..%2F..%2Fcard.json", "%00", "x" * 2000):
            async with http.get(f"/api/figures/{none}", headers=TOKEN) as missing:
                assert missing.status == 404
                assert missing.content_type == "application/problem+json"
