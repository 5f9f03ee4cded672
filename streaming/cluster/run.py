"""`python -m streaming --ray`: starts or joins a Ray cluster, and serves on it until it is stopped.

settings -> [run] -> Ray Serve's application and its HTTP proxies -> the address to open
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import serve as ray_serve

from streaming.app import address_of, bind
from streaming.cluster.application import application
from streaming.runner import RecognizerCore
from streaming.settings import Settings

LOCAL = "local"
NAME = "livegloss"  # of the application
# Of this machine alone. Ray would take 127.0.0.1 for the address of the network card.
_LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
# Ray gives up a proxy that takes longer than 5 s to start, as each does on a busy small machine.
PATIENCE = ("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")


@dataclass(frozen=True, slots=True)
class Service:
    """Servers that answer at one address."""

    url: str  # of this node's proxy
    description: str  # which model they serve, and on what


@asynccontextmanager
async def cluster(
    settings: Settings, make: Callable[[], RecognizerCore] | None = None
) -> AsyncIterator[Service]:
    """Serve on Ray until the block is left; then drain.

    `make`: a recogniser instead of the settings' model (tests, benchmarks).

    Raises:
        ValueError: a setting has no meaning on a cluster.
        OSError: there is no such cluster, or the port is taken.
        RuntimeError: the servers do not start; the message says why.
    """
    if settings.server.tls_self_signed:
        raise ValueError("--ray serves HTTPS with --tls-cert and --tls-key alone")
    with bind(settings.server) as listener:  # taken: an error at once. 0: any, for all nodes
        url = address_of(listener, settings.server)
        port = listener.getsockname()[1]
    settings = replace(settings, server=replace(settings.server, port=port))
    try:
        description = await asyncio.to_thread(_start, settings, make)
        yield Service(url, description)
    finally:
        await asyncio.to_thread(_stop)


def _start(settings: Settings, make: Callable[[], RecognizerCore] | None) -> str:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    address, server = settings.cluster.ray, settings.server
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        quiet |= {"include_dashboard": False, "_node_ip_address": _LOOPBACK}
        os.environ.setdefault(*PATIENCE)  # Ray's processes inherit it
    try:
        ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[-1]
        hint = "does it ask for a token? Then set RAY_AUTH_MODE=token"
        raise OSError(f"--ray {address}: no cluster there: {why} ({hint})") from error
    http: dict[str, Any] = {"host": server.host, "port": server.port}
    if server.tls_cert and server.tls_key:  # the proxies of all nodes read them there
        http["ssl_certfile"] = str(Path(server.tls_cert).resolve())
        http["ssl_keyfile"] = str(Path(server.tls_key).resolve())
    ray_serve.start(
        proxy_location="EveryNode",
        http_options=http,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    gpu = settings.recognizer.device != "cpu" and _gpus() > 0
    try:
        ray_serve.run(application(settings, make, gpu=gpu), name=NAME, route_prefix="/")
    except RuntimeError as error:
        raise RuntimeError(_why() or str(error)) from error
    servers = ray_serve.get_deployment_handle("servers", NAME)
    description = servers.describe.remote().result(timeout_s=10)
    # Its router would start a cluster of its own when this one is gone.
    servers.shutdown()  # type: ignore[no-untyped-call]
    return f"{description}, {settings.cluster.replicas} on Ray"


def _why() -> str:
    """What kept the servers from starting, in their own words; empty where Ray does not know."""
    application = ray_serve.status().applications.get(NAME)
    servers = application and application.deployments.get("servers")
    errors = re.findall(r"^\S*(?:Error|Exception): (.+)$", servers.message if servers else "", re.M)
    return errors[-1] if errors else ""


def _gpus() -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("GPU", 0.0)


def _stop() -> None:
    if ray.is_initialized():
        ray_serve.delete(NAME)
        ray.shutdown()
