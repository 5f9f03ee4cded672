"""The deployment guide's files for Ray: its own schema reads them, and our options are in them."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from streaming.cluster.application import build
from streaming.cluster.replica import ANNOUNCE
from streaming.settings import Settings
from tests.browser import free_port
from tests.clients.servers import guide_file
from tests.conftest import ROOT
from tests.streaming.caller import calling
from tests.streaming.cluster.two_nodes import HEAD, Node

_TOKEN = "LIVEGLOSS_TOKEN"
_NOBODY = 65534  # Debian's uid, as whom the image runs
_CLIENT_PORT = "ray-client-server-port"
_NODE_PORTS = range(30000, 32768)  # Kubernetes' own


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_TOKEN, "secret")


def _serve_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(guide_file("serve.yaml", {}))
    return config


def _kubernetes() -> dict[str, dict[str, Any]]:
    """The objects of the manifest by their kind."""
    objects = list(yaml.safe_load_all(guide_file("rayservice.yaml", {})))
    kinds = {one["kind"]: one for one in objects}
    assert len(kinds) == len(objects)
    return kinds


def _kuberay_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(_kubernetes()["RayService"]["spec"]["serveConfigV2"])
    return config


def _keys(schema: Any) -> set[str]:
    return set(type(schema).model_fields)


def _deployments(application: Any) -> dict[str, Any]:
    """What `build` makes: its deployments by name."""
    deployment = application._bound_deployment
    inner = [one for one in deployment.init_args if hasattr(one, "_bound_deployment")]
    found = {deployment.name: deployment}
    for one in inner:
        found |= _deployments(one)
    return found


@pytest.mark.parametrize("config", [_serve_config(), _kuberay_config()], ids=["serve", "kuberay"])
def test_ray_and_the_servers_understand_the_config(config: dict[str, Any]) -> None:
    """Ray's schema passes over keys that it does not know: those are looked for here."""
    schema = ServeDeploySchema.model_validate(config)
    (application,) = schema.applications
    (written,) = config["applications"]
    assert set(config) <= _keys(schema) and set(written) <= _keys(application)
    assert set(config["http_options"]) <= _keys(schema.http_options)
    assert set(config["logging_config"]) <= _keys(schema.logging_config)
    for one, read in zip(written["deployments"], application.deployments, strict=True):
        assert set(one) <= _keys(read)
    assert str(schema.proxy_location.value) == "EveryNode"
    assert application.import_path == f"{build.__module__}:{build.__name__}"

    made = _deployments(build(application.args))
    assert {one.name for one in application.deployments} <= set(made)
    settings: Settings = made["servers"].init_args[0]
    assert settings.cluster.bounds == (1, 8)
    scaling = made["servers"]._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 8)
    assert settings.server.token == "secret" and settings.server.signs is not None
    assert settings.session.public and settings.server.trusted_proxy
    # a session of each server of a node has a port, where each has one address
    per_node = {one.name: one.max_replicas_per_node for one in application.deployments}["servers"]
    assert len(settings.session.ports) >= per_node * settings.server.max_sessions


def test_a_gpu_for_each_server_is_one_option() -> None:
    def gpus(options: dict[str, Any]) -> float:
        actor = _deployments(build(options))["servers"].ray_actor_options
        return float(actor["num_gpus"])

    assert gpus({}) == gpus({"device": "cpu"}) == 0
    assert gpus({"device": "cuda"}) == 1


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("nonsense", 3, "--nonsense"),
        ("replicas", "8:1", "--replicas"),
        ("udp-ports", "50000", "--udp-ports"),
        ("threshold", "high", "--threshold"),
        ("max-sessions", 0, "max_sessions"),
        ("token", "other", "--token"),
        ("port", 8000, "port"),
        ("tls-self-signed", True, "tls-self-signed"),
        ("name", "a", "name"),
    ],
)
def test_a_wrong_option_is_named(option: str, value: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"(?s).*{named}") as refused:
        build({**_serve_config()["applications"][0]["args"], option: value})
    assert "\n" not in str(refused.value) and "│" not in str(refused.value)


def test_the_manifest_serves_what_the_config_serves() -> None:
    """But for addresses and folders, which are the cluster's."""
    ours, theirs = _serve_config(), _kuberay_config()
    for config in (ours, theirs):
        for place in ("signs", "trusted-proxy"):
            del config["applications"][0]["args"][place]
    assert ours == theirs


@pytest.fixture
async def dashboard(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Where a cluster of one node, started as the guide says, takes configs."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = tempfile.mkdtemp(prefix="ray")  # short: the paths of sockets must be
    await asyncio.to_thread(Path(folder, "ray").mkdir)
    port = free_port()
    own = [f"--dashboard-port={port}", f"--dashboard-host={HEAD}", f"--port={free_port()}"]
    # another cluster of this machine may have Ray's usual ones
    own += [f"--{name}={free_port()}" for name in ("dashboard-agent-listen-port", _CLIENT_PORT)]
    try:
        async with Node(HEAD, "--head", *own, folder=folder):
            yield f"http://{HEAD}:{port}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _until(status: str, dashboard: str) -> str:
    """Wait until the application is so far; what Ray says of it."""
    headers = {"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
    async with aiohttp.ClientSession(headers=headers) as http, asyncio.timeout(120):
        while True:
            async with http.get(f"{dashboard}/api/serve/applications/") as response:
                application = (await response.json())["applications"].get("livegloss", {})
            if application.get("status") == status:
                return str(application["message"])
            assert status != "RUNNING" or application.get("status") != "DEPLOY_FAILED", application
            await asyncio.sleep(0.2)


async def _deploy(file: Path, dashboard: str) -> None:
    command = (sys.executable, "-m", "ray.serve.scripts", "deploy", "-a", dashboard, str(file))
    deploying = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await deploying.communicate()
    assert deploying.returncode == 0, output.decode()


async def test_serve_deploy_serves_the_config(dashboard: str, tmp_path: Path) -> None:
    """A session on what the file deploys; it outlives a config that can't be used."""
    port, file = free_port(), tmp_path / "serve.yaml"
    changes = {
        "host: 0.0.0.0": f"host: {HEAD}",
        "port: 8000": f"port: {port}",
        "/srv/livegloss/signs": str(tmp_path / "signs"),
        "public: true": "public: true\n      loopback-ice: true",
    }
    text = guide_file("serve.yaml", changes)
    file.write_text(text)
    await _deploy(file, dashboard)
    await _until("RUNNING", dashboard)
    url, headers = f"http://{HEAD}:{port}", {"Authorization": "Bearer secret"}
    async with aiohttp.ClientSession(headers=headers) as http, calling(url, http) as caller:
        assert re.fullmatch(r"/whip/[\w-]+~\w+", caller.location)
        await caller.wait_for("prediction", within_s=60)
        async with http.get(f"{url}/api/signs") as response:
            assert response.status == 200, await response.text()
        file.write_text(text.replace("public: true", "publik: true"))
        await _deploy(file, dashboard)
        assert "--publik" in await _until("DEPLOY_FAILED", dashboard)
        await caller.wait_for_more("prediction")
        async with http.delete(f"{url}{caller.location}") as response:
            assert response.status == 200


def _pods() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(head or worker, `ray start`'s parameters, the pod's spec) of each group."""
    cluster = _kubernetes()["RayService"]["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]
    yield "head", head["rayStartParams"], head["template"]["spec"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        yield "worker", group["rayStartParams"], group["template"]["spec"]


def test_each_pod_has_what_the_servers_need() -> None:
    config = _kuberay_config()
    args = config["applications"][0]["args"]
    for kind, parameters, pod in _pods():
        (container,) = pod["containers"]
        variables = {one["name"]: one["valueFrom"] for one in container["env"]}
        # Ray builds the application, which reads the token, on whichever node it likes
        assert variables.pop(_TOKEN) == {"secretKeyRef": {"name": "livegloss", "key": "token"}}
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        assert ports["serve"] == config["http_options"]["port"]
        if kind == "head":
            assert parameters["num-cpus"] == "0" and not variables
            continue
        assert variables == {ANNOUNCE: {"fieldRef": {"fieldPath": "status.hostIP"}}}
        assert pod["hostNetwork"] and pod["dnsPolicy"] == "ClusterFirstWithHostNet"
        (volume,) = pod["volumes"]
        claim = _kubernetes()["PersistentVolumeClaim"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": args["signs"]}]
        assert pod["securityContext"]["fsGroup"] == _NOBODY
        per_node = config["applications"][0]["deployments"][0]["max_replicas_per_node"]
        assert int(container["resources"]["limits"]["cpu"]) >= per_node
    low, high = map(int, args["udp-ports"].split("-"))
    cluster = _kubernetes()["RayService"]["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert high < _NODE_PORTS.start or low >= _NODE_PORTS.stop


def test_the_manifest_runs_our_image() -> None:
    """Built with the extra, with the Ray that is pinned, and found where KubeRay looks for it."""
    service = _kubernetes()["RayService"]
    assert service["apiVersion"] == "ray.io/v1"
    (pinned,) = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert service["spec"]["rayClusterConfig"]["rayVersion"] == pinned
    text = guide_file("rayservice.yaml", {"\\\n#": ""})
    (built,) = re.findall(r"^# +docker build (.*)$", text, re.MULTILINE)
    (tag,) = re.findall(r" -t (\S+) \.$", built)
    assert {pod["containers"][0]["image"] for _, _, pod in _pods()} == {tag}
    assert '--build-arg "EXTRAS=.[cluster]"' in built
    image = guide_file("Dockerfile", {"\\\n": ""})
    assert re.search(r"^ARG EXTRAS=\.$", image, re.MULTILINE)
    assert '-c constraints.txt -e "$EXTRAS"' in image
    assert image.index("ARG EXTRAS") > image.index("FROM ")  # else it would be empty in RUN
    assert "wget" in image and "/usr/local/bin" in image
