"""ICE: which STUN and TURN servers to use, and which candidate addresses are allowed.

settings -> [ice servers] -> peer connection, page; offers -> [candidate rules]
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aioice.ice
from aiortc import RTCIceServer

_URL = re.compile(
    r"(?:stun:[^\s?:]+(?::\d{1,5})?|turns?:[^\s?:]+(?::\d{1,5})?(?:\?transport=(?:udp|tcp))?)"
)
_CREDENTIAL_S = 3600  # life of a TURN credential: more than enough to begin a session


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRules:
    """Which remote addresses the server may send to.

    The server sends probes to every address in an offer, so a public server must refuse addresses
    of its own network. Host names are always refused (`.local` ones take a second each): the
    probes of such a peer still find us, and we answer them.
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
    """STUN and TURN servers in the form of a browser's RTCConfiguration.

    Args:
        urls: stun:, turn: and turns: URLs.
        turn_secret: the TURN servers' shared secret, for time-limited credentials
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
            # A name of its own, by which the TURN server tells users apart and limits each.
            username = f"{expires}:{secrets.token_urlsafe(9)}"
            digest = hmac.new(turn_secret.encode(), username.encode(), hashlib.sha1).digest()
            server |= {"username": username, "credential": base64.b64encode(digest).decode()}
        servers.append(server)
    return servers


def rtc_ice_servers(urls: Sequence[str], turn_secret: str | None) -> list[RTCIceServer]:
    """The same servers for aiortc; of an empty list none (None would contact Google's)."""
    return [RTCIceServer(**server) for server in ice_servers(urls, turn_secret)]


def gather_loopback() -> None:
    """Make every later session of this process gather 127.0.0.1 and no other address.

    For tests and benchmarks on one machine: aioice never gathers the loopback address.
    """
    aioice.ice.get_host_addresses = _loopback_only


def _loopback_only(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    return ["127.0.0.1"]
