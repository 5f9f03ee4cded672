"""This machine's addresses, as others in the room reach it: for certificate and invitation."""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

import ifaddr

Address = IPv4Address | IPv6Address

# Addresses kept for documentation (RFC 5737, RFC 3849): on the far side of every default route.
_AFAR = {4: (socket.AF_INET, "198.51.100.1"), 6: (socket.AF_INET6, "2001:db8::1")}


def own_addresses(version: int) -> list[Address]:
    """Addresses of IP `version` (4 or 6) that others in the room can open, the likeliest first.

    That is the one of the default route. Loopback is left out, and so are link-local addresses:
    a browser takes none that needs the name of an interface.
    """
    ips = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    found = [ipaddress.ip_address(ip if isinstance(ip, str) else ip[0]) for ip in ips]
    usable = [ip for ip in found if ip.version == version and not ip.is_loopback | ip.is_link_local]
    first = _of_default_route(version)
    return sorted(dict.fromkeys(usable), key=lambda ip: ip != first)


def _of_default_route(version: int) -> Address | None:
    family, afar = _AFAR[version]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((afar, 9))  # picks a route; a datagram socket sends nothing here
        except OSError:
            return None
        return ipaddress.ip_address(probe.getsockname()[0])
