"""What Ray Serve is asked to run, for options as a Serve config gives them."""

from __future__ import annotations

from typing import Any

import pytest

from streaming.cluster.application import build
from streaming.settings import Settings


def servers_of(application: Any) -> Any:
    """The deployment of the servers that the ingresses are bound to."""
    servers, *_ = application._bound_deployment.init_args
    return servers._bound_deployment


def settings_of(**options: Any) -> Settings:
    settings, make = servers_of(build(options)).init_args
    assert make is None
    assert isinstance(settings, Settings)
    return settings


def test_a_config_names_the_options_of_the_command() -> None:
    settings = settings_of(**{"model": "bundles/mine", "max-sessions": 12, "threshold": 0.7})
    assert settings.recognizer.model == "bundles/mine"
    assert settings.server.max_sessions == 12
    assert settings.session.threshold == 0.7


def test_lists_and_flags() -> None:
    options = {"ice-server": ["stun:a", "stun:b"], "public": True, "loopback-ice": False}
    settings = settings_of(**options)
    assert settings.session.ice_servers == ("stun:a", "stun:b")
    assert settings.session.public and not settings.session.loopback_ice


def test_as_many_servers_or_between_two_numbers() -> None:
    fixed = servers_of(build({"replicas": 3}))
    assert fixed.num_replicas == 3 and fixed._deployment_config.autoscaling_config is None
    scaled = servers_of(build({"replicas": "2:5"}))._deployment_config
    assert scaled.autoscaling_config.min_replicas == 2
    assert scaled.autoscaling_config.max_replicas == 5


@pytest.mark.parametrize(
    "wrong",
    [{"modle": "x"}, {"max-sessions": "many"}, {"replicas": "5:2"}, {"signs": "folder"}],
)
def test_options_that_can_not_be_used_are_refused(
    wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIVEGLOSS_TOKEN", raising=False)
    with pytest.raises(ValueError):
        build(wrong)


@pytest.mark.parametrize(("replicas", "ingresses"), [(1, 2), ("1:20", 2), ("1:21", 3), (160, 16)])
def test_so_many_ingresses_as_the_most_servers_need(replicas: Any, ingresses: int) -> None:
    built = build({"replicas": replicas})
    assert built._bound_deployment.num_replicas == ingresses
