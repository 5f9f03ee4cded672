"""The page and the server where nothing but a TURN server connects them, as the guide has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import expect

from streaming.app import serve
from streaming.bench.standin import StandIn
from tests import chromium
from tests.browser import browser_page, camera_flags, free_port
from tests.clients.conftest import SETTINGS
from tests.clients.install import missing, program
from tests.clients.servers import guide_file, running
from tests.web.page import LIVE_MS, is_live, sign

pytestmark = [
    pytest.mark.skipif(missing("turnserver") is not None, reason=str(missing("turnserver"))),
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium here: make test installs one"),
]

_SECRET = "a secret for this test"
# Each side uses relayed candidates only. The relays have an address of their own, 127.0.0.2, and
# the page's relay lets nobody in but the addresses that it was told: the server's own stays out.
_RELAY_ONLY = """
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(settings) {
    super({ ...settings, iceTransportPolicy: "relay" });
    window.peer = this;
  }
  setRemoteDescription({ type, sdp }) {
    const relayed = sdp.replace(/a=candidate:.* typ (host|srflx).*\\r\\n/g, "");
    return super.setRemoteDescription({ type, sdp: relayed });
  }
};
"""
_SELECTED = """async () => {
  const reports = await window.peer.getStats();
  const all = [...reports.values()];
  const { selectedCandidatePairId } = all.find((report) => report.type === "transport");
  const pair = reports.get(selectedCandidatePairId);
  return [pair.localCandidateId, pair.remoteCandidateId].map((id) => {
    const { candidateType, address } = reports.get(id);
    return `${candidateType} ${address}`;
  });
}"""


async def test_a_page_connects_by_relays_alone(levels_camera: Path, tmp_path: Path) -> None:
    port = free_port()
    changes = {
        "CHANGE-ME": _SECRET,
        "listening-port=3478": f"listening-port={port}\nlistening-ip=127.0.0.1",
        "#external-ip=203.0.113.7/10.0.0.7": "relay-ip=127.0.0.2\nallow-loopback-peers",
    }
    configuration = tmp_path / "turnserver.conf"
    own = f"\nlog-file=stdout\npidfile={tmp_path}/pid\nuserdb={tmp_path}/users\n"
    configuration.write_text(guide_file("turnserver.conf", changes) + own)
    url = f"turn:127.0.0.1:{port}"
    session = replace(SETTINGS.session, ice_servers=(url,), turn_secret=_SECRET)
    async with (
        running(str(program("turnserver")), "-c", str(configuration), port=port),
        serve(replace(SETTINGS, session=session), StandIn()) as server,
        browser_page(tmp_path, camera_flags(levels_camera)) as page,
    ):
        await page.add_init_script(_RELAY_ONLY)
        await page.goto(f"{server.url}/?autostart=1")
        await is_live(page)
        assert await page.evaluate(_SELECTED) == ["relay 127.0.0.2", "relay 127.0.0.2"]
        for gloss in ("bright", "dark"):
            await expect(page.locator(sign(gloss)).first).to_be_visible(timeout=LIVE_MS)
