"""Who calls, by which name, from which page, with which token: the rules and their routes."""

from __future__ import annotations

import logging
import socket

import aiohttp
import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from streaming.callers import CallerRules, is_loopback
from streaming.problems import Problem
from streaming.server import Server
from streaming.settings import ServerSettings, SessionSettings, Settings

SETTINGS = Settings(
    server=ServerSettings(port=0, grace_s=1.0), session=SessionSettings(loopback_ice=True)
)
OWN_NAME = socket.gethostname().partition(".")[0]


def address(peer: str, *forwarded: str, proxies: tuple[str, ...] = ()) -> str:
    """What counts as the address of a caller whose connection comes from `peer`."""
    rules = CallerRules(ServerSettings(trusted_proxy=proxies))
    headers = CIMultiDict([("X-Forwarded-For", line) for line in forwarded])
    request = make_mocked_request("GET", "/", headers).clone(remote=peer)
    return rules.address(request)


@pytest.mark.parametrize(
    ("version", "headers", "proxied"),
    [
        (HttpVersion11, {"Host": "127.0.0.1:8080"}, False),
        (HttpVersion10, {"Host": "127.0.0.1:8080"}, True),  # as nginx does, unless told otherwise
        (HttpVersion11, {"X-Forwarded-For": "192.0.2.1"}, True),
        (HttpVersion11, {"Via": "1.1 proxy"}, True),
    ],
)
def test_a_proxied_request_is_known(
    version: HttpVersion, headers: dict[str, str], proxied: bool
) -> None:
    request = make_mocked_request("POST", "/whip", headers, version=version)
    assert CallerRules.is_proxied(request) is proxied


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "expected"),
    [
        ("192.0.2.1", (), (), "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), (), "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), ("192.0.2.9",), "192.0.2.1"),
        ("127.0.0.1", (), (), "127.0.0.1"),
        ("127.0.0.1", ("198.51.100.7",), (), "behind 127.0.0.1"),
        ("127.0.0.1", ("127.0.0.1",), (), "behind 127.0.0.1"),
        ("192.0.2.1", ("198.51.100.7",), ("192.0.2.1",), "198.51.100.7"),
        ("192.0.2.1", ("127.0.0.1, 198.51.100.7",), ("192.0.2.0/24",), "198.51.100.7"),
        ("192.0.2.1", ("127.0.0.1", "198.51.100.7"), ("192.0.2.0/24",), "198.51.100.7"),
        ("192.0.2.1", ("198.51.100.7, 192.0.2.2",), ("192.0.2.0/24",), "198.51.100.7"),
        ("192.0.2.1", ("unknown",), ("192.0.2.1",), "192.0.2.1"),
        ("192.0.2.1", ("",), ("192.0.2.1",), "192.0.2.1"),
        ("::ffff:192.0.2.1", (), (), "192.0.2.1"),
        ("::ffff:192.0.2.1", ("198.51.100.7",), ("192.0.2.1",), "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", (), (), "2001:db8:1:2::/64"),
        ("::1", (), (), "::1"),
        ("fe80::1%eth0", (), (), "fe80::/64"),
    ],
)
def test_only_a_trusted_proxy_says_for_whom_it_calls(
    peer: str, forwarded: tuple[str, ...], proxies: tuple[str, ...], expected: str
) -> None:
    assert address(peer, *forwarded, proxies=proxies) == expected


def test_a_proxy_that_is_not_trusted_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    rules = CallerRules(ServerSettings())
    request = make_mocked_request("GET", "/", {"X-Forwarded-For": "192.0.2.1"})
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            rules.address(request.clone(remote="127.0.0.1"))
    (record,) = caplog.records
    assert "--trusted-proxy 127.0.0.1" in record.getMessage()


@pytest.mark.parametrize(
    ("text", "local"),
    [("127.0.0.9", True), ("::1", True), ("::ffff:127.0.0.1", True)]
    + [
        (text, False)
        for text in ("192.0.2.1", "2001:db8::/64", "localhost", "behind 127.0.0.1", "")
    ],
)
def test_what_is_this_machine(text: str, local: bool) -> None:
    assert is_loopback(text) is local


def status_of(host: str, settings: ServerSettings = SETTINGS.server, path: str = "/") -> int:
    """The status with which a request for `host` is refused; 200 if it is not."""
    rules = CallerRules(settings)
    try:
        rules.check_host(make_mocked_request("GET", path, {"Host": host}))
    except Problem as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8080", "192.0.2.7:8080", "[::1]:8080", "[2001:db8::1]"),
        *("localhost", "LocalHost:8080", "localhost.", "signs.lan", "Signs.Example:443"),
        *(socket.gethostname(), f"{socket.gethostname()}:80", f"{OWN_NAME}.local:8080"),
    ],
)
def test_a_server_knows_its_addresses_and_names(host: str) -> None:
    settings = ServerSettings(host="signs.lan", allow_host=("signs.example",))
    assert status_of(host, settings) == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((name, 421) for name in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example")),
        *((name, 421) for name in ("localhost.evil", "2130706433")),
        *((name, 400) for name in ("a b", "a/b", "user@localhost", "localhost:80:80", "[::1")),
        *((name, 400) for name in ("x" * 300, "[::1].evil")),
    ],
)
def test_another_name_is_refused(host: str, status: int) -> None:
    assert status_of(host) == status
    assert status_of(host, path="/healthz") == 200, "probes know the server by any name"


def test_with_tls_the_browser_checks_the_name() -> None:
    assert status_of("evil.example", ServerSettings(tls_self_signed=True)) == 200


async def test_without_named_origins_no_page_elsewhere_may(
    server: Server, http: aiohttp.ClientSession
) -> None:
    """But load the modules, which can then say so."""
    ask = {"Origin": server.url, "Access-Control-Request-Method": "POST"}
    async with http.options(f"{server.url}/whip", headers=ask) as response:
        assert not [name for name in response.headers if name.startswith("Access-Control")]
    for path, allowed in (
        *(("/livegloss.js", "*"), ("/static/livegloss.js", "*"), ("/static/session.js", "*")),
        *(("/", None), ("/static/themes.json", None), ("/healthz", None)),
    ):
        async with http.get(f"{server.url}{path}", headers={"Origin": server.url}) as response:
            assert response.status == 200
            assert response.headers.get("Access-Control-Allow-Origin") == allowed
            assert allowed is None or response.content_type == "text/javascript"
