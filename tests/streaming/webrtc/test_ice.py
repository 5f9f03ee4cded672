"""ICE servers, TURN credentials, and the loopback option."""

from __future__ import annotations

import base64
import hashlib
import hmac

import aioice.ice
import pytest

from streaming.webrtc.ice import gather_loopback, ice_servers, rtc_ice_servers


def test_no_server_means_none_is_contacted() -> None:
    assert ice_servers((), None) == []
    assert rtc_ice_servers((), None) == []


def test_turn_servers_get_time_limited_credentials() -> None:
    stun, turn = ice_servers(["stun:a.example:3478", "turns:b.example"], "secret", now_s=1000.0)
    assert stun == {"urls": ["stun:a.example:3478"]}
    until_s, _, name = turn["username"].partition(":")
    assert int(until_s) == 1000 + 3600, "an hour"
    (again,) = ice_servers(["turns:b.example"], "secret", now_s=1000.0)
    assert len(name) >= 12 and again["username"] != turn["username"], "a name for each caller"
    digest = hmac.new(b"secret", turn["username"].encode(), hashlib.sha1).digest()
    assert turn["credential"] == base64.b64encode(digest).decode()
    (server,) = rtc_ice_servers(["turn:b.example:3478?transport=udp"], "secret")
    assert server.urls == ["turn:b.example:3478?transport=udp"] and server.credential


@pytest.mark.parametrize(
    "url", ["", "http://a", "stun:", "stun:a:port", "stun:a?transport=udp", "turn:a?transport=x"]
)
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no ICE server: write"):
        ice_servers([url], "secret")


def test_a_turn_server_needs_a_secret() -> None:
    with pytest.raises(ValueError, match="--turn-secret"):
        ice_servers(["turn:a.example"], None)


def test_loopback_is_all_that_is_gathered_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    gather_loopback()
    assert aioice.ice.get_host_addresses(True, True) == ["127.0.0.1"]
