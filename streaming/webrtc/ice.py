"""Where media may come from and go to: ICE servers, the loopback option, candidate addresses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aioice.ice
from aiortc import RTCIceServer

_URL = re.compile(
    r"(?:stun:[^\s?:]+(?::\d{1,5})?|turns?:[^\s?:]+(?::\d{1,5})?(?:\?transport=(?:udp|tcp))?)"
)
_CREDENTIAL_S = 12 * 3600  # how long a TURN credential holds: longer than any session


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRules:
    """Which remote addresses the server may send to.

    An offer names the addresses that the server then probes, so a public server must not let it
    name machines of the server's own network. Names (`.local`: a second's wait each) never pass;
    a peer behind one is found all the same by the probes that it sends.
    """

    private: bool = True  # 10/8, 192.168/16, fc00::/7 ...
    loopback: bool = False
    link_local: bool = False

    def allows(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:
            address = mapped
        if address.is_loopback:
            return self.loopback
        if address.is_link_local:
            return self.link_local
        if address.is_multicast or address.is_unspecified or address.is_reserved:
            return False
        return address.is_global or self.private


def ice_servers(
    urls: Sequence[str], turn_secret: str | None, *, now_s: float | None = None
) -> list[dict[str, Any]]:
    """STUN and TURN servers as a browser's RTCConfiguration takes them.

    Args:
        urls: stun:, turn: and turns: URLs.
        turn_secret: the TURN servers' shared secret, from which time-limited credentials are made
            (draft-uberti-behave-turn-rest; coturn's `use-auth-secret`).
        now_s: seconds since 1970; None: now.

    Raises:
        ValueError: a URL is malformed, or a TURN server has no secret.
    """
    servers: list[dict[str, Any]] = []
    for url in urls:
        if not _URL.fullmatch(url):
            raise ValueError(
                f"'{url}' is no ICE server: write stun:HOST:PORT, turn:HOST:PORT or turns:HOST:PORT"
            )
        server: dict[str, Any] = {"urls": [url]}
        if url.startswith("turn"):
            if not turn_secret:
                raise ValueError(f"'{url}' needs --turn-secret")
            expires = int(time.time() if now_s is None else now_s) + _CREDENTIAL_S
            username = f"{expires}:livegloss"
            digest = hmac.new(turn_secret.encode(), username.encode(), hashlib.sha1).digest()
            server |= {"username": username, "credential": base64.b64encode(digest).decode()}
        servers.append(server)
    return servers


def rtc_ice_servers(urls: Sequence[str], turn_secret: str | None) -> list[RTCIceServer]:
    """The same servers for aiortc. An empty list contacts none (None would contact Google's)."""
    return [RTCIceServer(**server) for server in ice_servers(urls, turn_secret)]


def gather_loopback() -> None:
    """Make every later session of this process offer 127.0.0.1, and no other address.

    For tests and benchmarks on one machine: aioice leaves the loopback address out.
    """
    aioice.ice.get_host_addresses = _loopback_only


def _loopback_only(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    return ["127.0.0.1"]
