"""Settings are checked when they are made; unknown options are errors."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streaming.__main__ import read_settings
from streaming.settings import RecognizerSettings, ServerSettings, SessionSettings


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (RecognizerSettings, {"device": "gpu"}),
        (RecognizerSettings, {"device": "cuda:x"}),
        (RecognizerSettings, {"max_batch": 0}),
        (SessionSettings, {"hop_s": 0.0}),
        (SessionSettings, {"hop_s": float("nan")}),
        (SessionSettings, {"top_k": 0}),
        (SessionSettings, {"top_k": 51}),
        (SessionSettings, {"threshold": 0.0}),
        (SessionSettings, {"threshold": 1.5}),
        (SessionSettings, {"connect_s": -1.0}),
        (SessionSettings, {"goal_s": float("nan")}),
        (ServerSettings, {"port": 70_000}),
        (ServerSettings, {"max_sessions": 0}),
        (ServerSettings, {"tls_cert": "cert.pem"}),
        (ServerSettings, {"tls_cert": "a", "tls_key": "b", "tls_self_signed": True}),
        (ServerSettings, {"token": "naïve"}),
    ],
)
def test_bad_values_are_refused(kind: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        kind(**bad)


@pytest.mark.parametrize(
    "options", [["--nonsense"], ["--port", "x"], ["--port", "-1"], ["--thresh", "0.5"], ["extra"]]
)
def test_a_bad_option_exits_and_names_what_is_wrong(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        read_settings(options)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "python -m streaming --help" in message
    assert options[0].removeprefix("--") in message


def test_options_become_settings() -> None:
    settings = read_settings(
        "--port 0 --threshold 0.7 --ice-server stun:a --ice-server stun:b --public".split()
    )
    assert settings.server.port == 0
    assert settings.session.threshold == 0.7
    assert settings.session.ice_servers == ("stun:a", "stun:b")
    assert settings.session.public
    assert settings.server.log_format == "text"


OPTIONS = """host port model device hop-s longest-hop-s top-k threshold max-sessions token signs
    tls-cert tls-key tls-self-signed public ice-server turn-secret loopback-ice log-format"""


def test_the_options_are_those_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_settings(["--help"])
    shown = re.findall(r"^\W*--([a-z][a-z0-9-]+)", capsys.readouterr().out, re.MULTILINE)
    assert set(shown) == set(OPTIONS.split())
