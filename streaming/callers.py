"""Who calls, by which name, from which page, and with which token: checked before any route runs.

request -> [callers] -> server's routes
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from aiohttp import HttpVersion11, web

from streaming.problems import Problem
from streaming.settings import ServerSettings

_log = logging.getLogger(__name__)

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]]{1,253})(?::\d{0,5})?")
_OPEN = {"/healthz", "/readyz"}  # for programs that know the server by any name
_IPV6_SITE = 64  # bits: one customer has at least such a network
_PREFLIGHT_S = 600  # how long a browser remembers that it may call
_METHODS = "GET, POST, PUT, PATCH, DELETE"
_SENT = "Authorization, Content-Type, If-Match, If-None-Match"
PROXIED = ("Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP")
_EXPOSED = "Location, ETag, Link, Retry-After"


class CallerRules:
    """The rules by which callers are told apart, and let in or refused."""

    def __init__(self, settings: ServerSettings) -> None:
        self._token = settings.token
        self._proxies = settings.proxies
        self._nodes: frozenset[str] = frozenset()
        self._origins = {origin.lower() for origin in settings.allow_origin}
        # A browser holds the name against the certificate: no page can lead it here by another.
        self._any_name = bool(settings.tls_cert or settings.tls_self_signed)
        self._names = set(_own_names(settings.host)) | {n.lower() for n in settings.allow_host}
        self._told_of_proxy = False

    # The address

    def trust_nodes(self, addresses: Iterable[str]) -> None:
        """Believe these, too, as proxies: the machines of the cluster that this server is in."""
        self._nodes = frozenset(addresses)

    def address(self, request: web.Request) -> str:
        """What counts as the caller's address: behind a trusted proxy what that proxy says.

        All callers behind a proxy of this machine that is not trusted count as one.
        """
        peer = request.remote or ""
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        if forwarded and not self._is_proxy(peer):
            self._tell_of_proxy(peer)
            if is_loopback(peer):
                return f"behind {peer}"
        for part in reversed(forwarded.split(",")):  # the nearest proxy wrote the last one
            if not self._is_proxy(peer) or _parsed(part) is None:
                break
            peer = part
        return self.share_of(peer)

    @staticmethod
    def share_of(host: str) -> str:
        """The address, or network, that shares its limits: IPv6 hosts have 64 bits to choose from.

        Text that is no address is its own share.
        """
        address = _parsed(host)
        if isinstance(address, IPv6Address) and not address.is_loopback:
            return str(IPv6Network((int(address), _IPV6_SITE), strict=False))
        return host.strip() if address is None else str(address)

    def is_local(self, host: str) -> bool:
        """Whether a connection comes from this machine or from a trusted proxy."""
        return is_loopback(host) or self._is_proxy(host)

    @staticmethod
    def is_proxied(request: web.Request) -> bool:
        """Whether a reverse proxy seems to have passed the request on.

        It may say so in a header; nginx speaks HTTP/1.0 unless it is told otherwise.
        """
        return request.version < HttpVersion11 or any(name in request.headers for name in PROXIED)

    def _is_proxy(self, host: str) -> bool:
        address = _parsed(host)
        if address is None:
            return False
        return str(address) in self._nodes or any(address in each for each in self._proxies)

    def _tell_of_proxy(self, peer: str) -> None:
        if not self._told_of_proxy:
            self._told_of_proxy = True
            _log.warning(
                "%s sends X-Forwarded-For, which is not believed: if it is your reverse proxy, "
                "start the server with --trusted-proxy %s",
                *(peer, peer),
            )

    # The name

    def check_host(self, request: web.Request) -> None:
        """Check that the request names this server.

        A page elsewhere can make its own name lead to this machine (DNS rebinding): its browser
        then takes the server for a part of that page.

        Raises:
            Problem: 421, or 400 when the header is malformed.
        """
        host = request.headers.get("Host")
        if self._any_name or not host or request.path in _OPEN:
            return  # HTTP/1.0 clients name nobody; no browser is among them
        match = _HOST.fullmatch(host)
        if match is None:
            raise Problem(400, "The Host header is malformed.")
        name = match[1].strip("[]").lower().rstrip(".")
        if _parsed(name) is None and name not in self._names:
            raise Problem(
                421,
                f"This server does not know the name '{name}' as its own. If it is, start the "
                f"server with --allow-host {name}.",
            )

    # The page that calls

    def cors(self, request: web.Request) -> dict[str, str]:
        """The headers by which a browser lets pages of named origins use the server."""
        if not self._origins:
            return {}
        headers = {"Vary": "Origin"}
        origin = request.headers.get("Origin", "")
        if origin.lower() in self._origins:
            headers |= {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Expose-Headers": _EXPOSED,
            }
            if "Access-Control-Request-Method" in request.headers:
                headers |= {
                    "Access-Control-Allow-Methods": _METHODS,
                    "Access-Control-Allow-Headers": _SENT,
                    "Access-Control-Max-Age": str(_PREFLIGHT_S),
                }
        return headers

    # The token

    def authorise(self, request: web.Request) -> None:
        """Check the token, if the server has one.

        Raises:
            Problem: 401.
        """
        if self._token is None:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        sent = given.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() != "bearer" or not hmac.compare_digest(sent, self._token.encode()):
            # RFC 6750: whoever sent a token learns that it is the wrong one
            challenge = 'Bearer error="invalid_token"' if sent else "Bearer"
            raise Problem(401, "Send 'Authorization: Bearer TOKEN'.", WWW_Authenticate=challenge)


def is_loopback(host: str) -> bool:
    """Whether text is an address of this machine alone."""
    address = _parsed(host)
    return address is not None and address.is_loopback


def _parsed(host: str) -> IPv4Address | IPv6Address | None:
    """An address; an IPv4 one where it is written as IPv6 (::ffff:192.0.2.1)."""
    try:
        address = ipaddress.ip_address(host.strip().partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _own_names(host: str) -> Iterator[str]:
    """The names under which a machine is known in its own network, in small letters."""
    name = socket.gethostname().lower()
    first = name.partition(".")[0]
    yield from ("localhost", host.lower(), name, first, f"{first}.local")
