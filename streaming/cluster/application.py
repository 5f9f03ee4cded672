"""What Ray Serve runs: servers, and ingresses in front of them.

options -> [application] -> Ray's application; `serve deploy` finds it as
`streaming.cluster.application:build`
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from dataclasses import replace
from typing import Any

from ray import serve as ray_serve

from streaming.cluster.ingress import Ingress
from streaming.cluster.replica import Replica
from streaming.runner import RecognizerCore
from streaming.settings import Settings, read_settings

_INGRESSES = 2  # at least: one may be on a node that is lost
_SERVERS_OF_INGRESS = 10  # at most: their callers take 0.7 of a core there, docs/reports/cluster.md
_TELL_S = 1.0  # between two times that a server tells its room
# From the warning to the end of its sessions, where a server goes: time for another one to start,
# and for pages to move there one after another (streaming.admission.AdmissionGate).
_GRACE_S = 20.0
_STOP_S = 10.0  # for the server to end after that
_REQUESTS = 1000  # of one ingress at a time; an event stream or a reader of captions is one
_SCALING = {
    "policy": {"policy_function": "streaming.cluster.scaling:by_room"},
    "upscale_delay_s": 2.0,
    "downscale_delay_s": 60.0,
    "look_back_period_s": 15.0,
}
# of one server at one address; on a cluster the proxies' (`http_options`), or Ray's to say
_NOT_OF_A_CLUSTER = {"host", "port", "tls-cert", "tls-key", "tls-self-signed", "name", "ray"}
_PUSH = "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S"


def build(options: Mapping[str, Any]) -> Any:
    """The application of a Serve config: `args` are options of `python -m streaming`, without `--`.

    A list gives an option several times; `true` stands for a flag. `device: cuda` asks Ray for a
    GPU for each server.

    Raises:
        ValueError: an option can't be used; the message names it.
    """
    for name in sorted(_NOT_OF_A_CLUSTER & set(options)):
        raise ValueError(f"args: {name} is not a server's on a cluster; see http_options")
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):  # the one who asked sees the error that this function raises
            settings = read_settings(["--ray", "auto", *_arguments(options)])
    except SystemExit as error:
        text = re.sub("[─-╿]", " ", printed.getvalue())  # without the box around it
        raise ValueError(f"args: {' '.join(text.split())}") from error
    return application(settings, gpu=settings.recognizer.device.startswith("cuda"))


def application(
    settings: Settings, make: Callable[[], RecognizerCore] | None = None, *, gpu: bool = False
) -> Any:
    """Servers with these settings behind ingresses. `make`: see `Replica`.

    `gpu`: each server gets a GPU of its own from Ray.
    """
    low, high = settings.cluster.bounds
    draining = replace(settings, server=replace(settings.server, grace_s=_GRACE_S))
    number: dict[str, Any] = {"num_replicas": low}
    if low < high:
        number = {"autoscaling_config": {**_SCALING, "min_replicas": low, "max_replicas": high}}
    servers: Any = ray_serve.deployment(
        Replica,
        name="servers",
        ray_actor_options={
            "num_cpus": 1,
            "num_gpus": int(gpu),
            "runtime_env": {"env_vars": {_PUSH: str(_TELL_S)}},
        },
        max_ongoing_requests=_REQUESTS,
        request_router_config={
            "request_router_class": "streaming.cluster.placement:RoomRouter",
            "request_routing_stats_period_s": _TELL_S,
        },
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=_GRACE_S + _STOP_S,
        health_check_period_s=2.0,
        **number,
    )
    ingress: Any = ray_serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=max(_INGRESSES, math.ceil(high / _SERVERS_OF_INGRESS)),
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_REQUESTS,
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=2.0,
    )
    bounds = settings.server.body_bytes, settings.server.body_s
    return ingress.bind(servers.bind(draining, make), *bounds)


def _arguments(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if one is False:
                continue
            yield f"--{name}"
            if one is not True:
                yield str(one)
