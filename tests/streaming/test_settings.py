"""Settings are checked at the door, flags strictly."""

from __future__ import annotations

from typing import Any

import pytest

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
        (SessionSettings, {"connect_s": -1.0}),
        (SessionSettings, {"goal_s": float("nan")}),
        (ServerSettings, {"port": 70_000}),
        (ServerSettings, {"max_sessions": 0}),
        (ServerSettings, {"tls_cert": "cert.pem"}),
        (ServerSettings, {"tls_cert": "a", "tls_key": "b", "tls_self_signed": True}),
        (ServerSettings, {"token": "naïve"}),
    ],
)
def test_nonsense_is_refused(kind: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        kind(**bad)


@pytest.mark.parametrize(
    "flags", [["--nonsense"], ["--port", "x"], ["--port", "-1"], ["--thresh", "0.5"], ["extra"]]
)
def test_a_bad_flag_exits_with_a_usage_line(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from streaming.__main__ import settings_from

    with pytest.raises(SystemExit) as stopped:
        settings_from(flags)
    assert stopped.value.code == 2
    assert "usage: python -m streaming" in capsys.readouterr().err


def test_flags_become_settings() -> None:
    from streaming.__main__ import settings_from

    settings = settings_from(
        "--port 0 --threshold 0.7".split()
        + "--ice-server stun:a --ice-server stun:b --public".split()
    )
    assert settings.server.port == 0
    assert settings.decoder is not None
    assert settings.decoder.threshold == 0.7
    assert settings.session.ice_servers == ("stun:a", "stun:b")
    assert not settings.session.private_ice
    assert settings.server.log_format == "text"
