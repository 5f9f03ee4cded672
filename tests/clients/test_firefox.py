"""The page in Firefox ESR."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

import pytest

from streaming.https import own_addresses
from streaming.server import Server
from tests.browser import server_process
from tests.clients.install import FOLDER, missing, program

pytestmark = pytest.mark.skipif(
    missing("node", "firefox-esr", "puppeteer-core") is not None,
    reason=str(missing("node", "firefox-esr", "puppeteer-core")),
)


async def signs_on_page(url: str, **preferences: Any) -> list[str]:
    """Glosses of the final signs on the page at `url`, newest first."""
    command = ["node", str(FOLDER / "firefox.mjs"), str(program("firefox-esr")), url]
    done = await asyncio.to_thread(
        subprocess.run, [*command, json.dumps(preferences)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    signs: list[str] = json.loads(done.stdout)
    return signs


async def test_the_page_reads_signs(server: Server) -> None:
    hides = {"media.peerconnection.ice.obfuscate_host_addresses": False}
    signs = await signs_on_page(server.url, **hides)
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
