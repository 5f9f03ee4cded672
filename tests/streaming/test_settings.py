"""Settings are checked when they are made; unknown options are errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from models.command_line import read_command_line
from streaming.settings import (
    ClusterSettings,
    DraftSettings,
    RecognizerSettings,
    ServerSettings,
    SessionSettings,
    Settings,
    read_settings,
)


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
        (SessionSettings, {"peer_datagrams_per_s": 0.0}),
        (SessionSettings, {"udp_ports": "50000"}),
        (SessionSettings, {"udp_ports": "0-50000"}),
        (SessionSettings, {"udp_ports": "50001-50000"}),
        (SessionSettings, {"udp_ports": "65000-65536"}),
        (SessionSettings, {"announce_ip": ("host.example",)}),
        (ServerSettings, {"port": 70_000}),
        (ServerSettings, {"max_sessions": 0}),
        (ServerSettings, {"tls_cert": "cert.pem"}),
        (ServerSettings, {"tls_cert": "a", "tls_key": "b", "tls_self_signed": True}),
        (ServerSettings, {"host": ""}),
        (ServerSettings, {"token": "naïve"}),
        (ServerSettings, {"token": ""}),
        (ServerSettings, {"token": "two\nlines"}),
        (ServerSettings, {"token": "open sesame "}),
        (ServerSettings, {"token": "open sesame", "token_file": "token.txt"}),
        (SessionSettings, {"turn_secret": ""}),
        (SessionSettings, {"turn_secret": "secret", "turn_secret_file": "secret.txt"}),
        (ServerSettings, {"max_sessions_per_address": 0}),
        *(
            (ServerSettings, {"name": name})
            for name in ("A", "a~b", "a.b", "a b", "-a", "é", "a\n", "a" * 33)
        ),
        *(
            (ClusterSettings, {"ray": "local", "replicas": replicas})
            for replicas in ("", "0", "0:2", "3:2", "2:", ":2", "1:2:3", "-1", "two", "1 ", "1001")
        ),
        (ClusterSettings, {"replicas": "2"}),
        (ClusterSettings, {"replicas": "1:2"}),
        (ServerSettings, {"allow_host": ("signs.example:8080",)}),
        (ServerSettings, {"allow_host": ("https://signs.example",)}),
        (ServerSettings, {"allow_origin": ("*",)}),
        (ServerSettings, {"allow_origin": ("signs.example",)}),
        (ServerSettings, {"allow_origin": ("https://signs.example/",)}),
        (ServerSettings, {"trusted_proxy": ("proxy.example",)}),
        (ServerSettings, {"trusted_proxy": ("10.0.0.0/99",)}),
        (ServerSettings, {"connections": 0}),
        (ServerSettings, {"name": "A"}),
        (ServerSettings, {"name": "a~b"}),
        (ServerSettings, {"name": "a.b"}),
        (ClusterSettings, {"ray": "local", "replicas": "8:1"}),
        (ClusterSettings, {"ray": "local", "replicas": "0"}),
        (ClusterSettings, {"ray": "local", "replicas": "1:"}),
        (ClusterSettings, {"replicas": "2"}),
        (ServerSettings, {"request_s": float("nan")}),
        (DraftSettings, {"url": "127.0.0.1:8000", "model": "m"}),
        (DraftSettings, {"url": "ftp://127.0.0.1", "model": "m"}),
        (DraftSettings, {"url": "http://127.0.0.1:99999", "model": "m"}),
        (DraftSettings, {"url": "http://[::1", "model": "m"}),
        (DraftSettings, {"url": "http://me:secret@127.0.0.1", "model": "m"}),
        (DraftSettings, {"url": "http://127.0.0.1/v1?key=secret", "model": "m"}),
        (DraftSettings, {"url": "http://127.0.0.1/a b", "model": "m"}),
        (DraftSettings, {"url": "http://127.0.0.1"}),
        (DraftSettings, {"model": "m"}),
        (DraftSettings, {"key_file": "key.txt"}),
        (DraftSettings, {"url": "http://127.0.0.1", "model": "m\n"}),
        (DraftSettings, {"url": "http://127.0.0.1", "model": "m", "key": "two\nlines"}),
        (DraftSettings, {"url": "http://127.0.0.1", "model": "m", "timeout_s": 0.0}),
        (DraftSettings, {"url": "http://127.0.0.1", "model": "m", "at_once": 0}),
    ],
)
def test_bad_values_are_refused(kind: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        kind(**bad)


@pytest.mark.parametrize(
    "options",
    [
        ["--nonsense"],
        ["--port", "x"],
        ["--port", "-1"],
        ["--port", "99999"],
        ["--token", ""],
        ["--thresh", "0.5"],
        ["--replicas", "2"],
        ["--name", "A"],
        ["extra"],
    ],
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
        "--port 0 --threshold 0.7 --ice-server stun:a --ice-server stun:b --public "
        "--udp-ports 50000-50002 --announce-ip 192.0.2.1 --announce-ip 2001:db8::1".split()
    )
    assert list(settings.session.ports) == [50000, 50001, 50002]
    assert settings.session.announce_ip == ("192.0.2.1", "2001:db8::1")
    assert list(SessionSettings().ports) == [0]
    assert settings.server.port == 0
    assert settings.session.threshold == 0.7
    assert settings.session.ice_servers == ("stun:a", "stun:b")
    assert settings.session.public
    assert settings.server.log_format == "text"


@pytest.mark.parametrize(
    ("replicas", "bounds"),
    [("1", (1, 1)), ("4", (4, 4)), ("1:8", (1, 8)), ("2:2", (2, 2)), ("1000", (1000, 1000))],
)
def test_servers_are_as_many_as_asked_or_between_two_numbers(
    replicas: str, bounds: tuple[int, int]
) -> None:
    settings = read_settings(["--ray", "local", "--replicas", replicas])
    assert (settings.cluster.ray, settings.cluster.bounds) == ("local", bounds)


def test_a_server_may_have_a_name_and_by_default_has_none() -> None:
    assert read_settings(["--name", "node-2"]).server.name == "node-2"
    assert read_settings([]).server.name == ""
    assert read_settings([]).cluster.ray is None


OPTIONS = """host port model device hop-s longest-hop-s top-k threshold max-sessions
    max-sessions-per-address token token-file signs allow-host allow-origin trusted-proxy
    tls-cert tls-key tls-self-signed public ice-server turn-secret turn-secret-file
    udp-ports announce-ip loopback-ice log-format name ray replicas
    draft-url draft-model draft-key-file draft-timeout-s drafts"""


def test_the_options_are_those_of_the_contract(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # no two groups of options side by side
    with pytest.raises(SystemExit):
        read_settings(["--help"])
    shown = re.findall(r"^\W*--([a-z][a-z0-9-]+)", capsys.readouterr().out, re.MULTILINE)
    assert set(shown) == set(OPTIONS.split())


def secrets(*options: str, **environ: str) -> tuple[str | None, str | None]:
    settings = read_command_line(Settings, options, prog="test").with_secrets(environ)
    assert "sesame" not in repr(settings), "a secret is never shown"
    return settings.server.token, settings.session.turn_secret


def test_secrets_come_from_options_files_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    assert secrets() == (None, None)
    assert secrets("--token", "sesame", "--turn-secret", "t") == ("sesame", "t")
    assert secrets(LIVEGLOSS_TOKEN="sesame", LIVEGLOSS_TURN_SECRET="t") == ("sesame", "t")
    for newline in ("", "\n", "\r\n"):
        file.write_bytes(f"open sesame{newline}".encode())
        assert secrets("--token-file", str(file), "--signs", "x") == ("open sesame", None)
        assert secrets("--turn-secret-file", str(file)) == (None, "open sesame")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"two\nlines\n", b"x" * 5000])
def test_a_file_without_a_usable_secret_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(file))):
        secrets("--token-file", str(file))


@pytest.mark.parametrize("options", [("--token", "t"), ("--token-file", "file")])
def test_a_secret_is_given_once(options: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="LIVEGLOSS_TOKEN and --token are two ways"):
        secrets(*options, LIVEGLOSS_TOKEN="u")


def test_an_empty_variable_is_no_missing_token() -> None:
    with pytest.raises(ValueError, match="LIVEGLOSS_TOKEN: --token is empty"):
        secrets(LIVEGLOSS_TOKEN="")


def test_the_key_of_the_language_model_is_no_option(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sesame\n")
    options = ["--draft-url", "http://127.0.0.1:8000", "--draft-model", "m"]
    for more, environ in (
        (["--draft-key-file", str(file)], {}),
        ([], {"LIVEGLOSS_DRAFT_KEY": "sesame"}),
    ):
        settings = read_command_line(Settings, [*options, *more], prog="test")
        settings = settings.with_secrets(environ)
        assert settings.draft.key == "sesame" and "sesame" not in repr(settings)
    with pytest.raises(SystemExit):
        read_settings([*options, "--draft-key", "sesame"])
    assert read_settings([]).draft.key is None


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://[::1]:8000/", "http://[::1]:8000/v1/chat/completions"),
        ("https://models.example/v1", "https://models.example/v1/chat/completions"),
        ("https://models.example/api/v1/", "https://models.example/api/v1/chat/completions"),
        ("http://127.0.0.1/v1/chat/completions", "http://127.0.0.1/v1/chat/completions"),
    ],
)
def test_an_address_of_a_language_model_may_be_short(url: str, endpoint: str) -> None:
    assert DraftSettings(url=url, model="m").endpoint == endpoint
