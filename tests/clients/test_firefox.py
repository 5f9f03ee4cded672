"""The page, captions for others and another site that embeds it, in Firefox ESR."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.https import own_addresses
from streaming.server import Server
from tests.browser import free_port, server_process
from tests.clients.conftest import SETTINGS
from tests.clients.install import FOLDER, missing, program
from tests.web.embedding import embedding_site

pytestmark = pytest.mark.skipif(
    missing("node", "firefox-esr", "puppeteer-core") is not None,
    reason=str(missing("node", "firefox-esr", "puppeteer-core")),
)


HIDES_NOTHING = {"media.peerconnection.ice.obfuscate_host_addresses": False}


async def visit(script: str, url: str, preferences: dict[str, Any], *more: str) -> Any:
    """What a visit of Firefox to `url` printed."""
    command = ["node", str(FOLDER / script), str(program("firefox-esr")), url]
    command += [json.dumps(preferences), *more]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


async def signs_on_page(url: str, **preferences: Any) -> list[str]:
    """Glosses of the final signs on the page at `url`, newest first."""
    signs: list[str] = await visit("firefox.mjs", url, preferences)
    return signs


async def test_the_page_reads_signs(server: Server) -> None:
    signs = await signs_on_page(server.url, **HIDES_NOTHING)
    assert set(signs) == {"bright", "dark"}
    assert server.sessions.counts.ended == {"deleted": 1}


async def test_a_browser_that_hides_its_addresses_connects() -> None:
    """Firefox names itself by a random `.local` name until a page may use the camera, and then
    never uses the loopback interface: the server listens on this machine's own address."""
    if not own_addresses(4):
        pytest.skip("this machine has no address but loopback")
    async with server_process(module="tests.web.standin", loopback=False) as server:
        signs = await signs_on_page(server.url)
        assert set(signs) == {"bright", "dark"}


async def test_others_read_captions_and_another_site_embeds_it() -> None:
    port = free_port()
    allowing = replace(SETTINGS.server, allow_origin=(f"http://127.0.0.1:{port}",))
    async with (
        serve(replace(SETTINGS, server=allowing), StandIn()) as server,
        embedding_site(port, server.url) as site,
    ):
        seen = await visit("firefox_others.mjs", server.url, HIDES_NOTHING, site)
    assert {"bright", "dark"} <= set(seen["captions"])
    assert seen["state"] == "The signer has stopped."
    assert set(seen["embedded"]) == {"bright", "dark"}
    assert server.sessions.counts.ended == {"deleted": 2}
