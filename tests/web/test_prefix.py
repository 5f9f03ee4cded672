"""The page behind a reverse proxy that serves it below a path: a real nginx and a real Chromium."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from streaming.app import serve
from streaming.bench.standin import StandIn
from tests.browser import camera_flags
from tests.streaming.caller import calling
from tests.web.page import SETTINGS, is_live, opened
from tests.web.test_page import emptied

CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; location /sign/ {{ proxy_pass {upstream}/; }} }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, upstream: str) -> AsyncIterator[str]:
    """An nginx that serves `upstream` below /sign/; its address there."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/bin")
    if program is None:
        pytest.skip("no nginx here: Debian's nginx-light has it")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, upstream=upstream))
    process = await asyncio.create_subprocess_exec(program, "-c", config, "-p", folder)
    try:
        async with asyncio.timeout(10), aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(f"http://127.0.0.1:{port}/sign/healthz") as response:
                        assert response.status == 200
                        break
                except aiohttp.ClientConnectorError:
                    assert process.returncode is None, (folder / "error.log").read_text()
                    await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}/sign"
    finally:
        process.terminate()
        await process.wait()


async def test_a_page_below_a_path_starts_and_ends_its_session(
    tmp_path: Path, levels_camera: Path
) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        nginx(tmp_path, server.url) as url,
        opened(tmp_path, camera_flags(levels_camera), f"{url}/?autostart=1") as page,
    ):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await is_live(page)
        async with page.expect_request(lambda sent: sent.method == "DELETE") as deleting:
            await page.get_by_role("button", name="Stop").click()
        session = urlsplit((await deleting.value).url).path
        assert session.startswith("/sign/whip/")
        await emptied(server)
        assert server.sessions.counts.ended.total() == 1
        assert all(sent.startswith(f"{url}/") for sent in asked)


async def test_a_sender_below_a_path_finds_its_session(tmp_path: Path) -> None:
    async with (
        serve(SETTINGS, StandIn()) as server,
        nginx(tmp_path, server.url) as url,
        aiohttp.ClientSession() as http,
        calling(url, http) as caller,
    ):
        session = f"{url.removesuffix('/sign')}{caller.location}"
        async with http.get(f"{session}/events") as events, asyncio.timeout(5):
            assert "hello" in (await events.content.readline()).decode()
        async with http.delete(session) as deleted:
            assert deleted.status == 200
