"""Models of the hub: found, pinned, kept for when there is no network, and missed in seconds."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from models import hub
from models.encoders import encoder_spec
from models.hub import commit_of, split_id
from models.vjepa2.checkpoint import load_weights, vjepa2_spec
from models.vjepa2.source import locate
from tests.hub_server import FIRST, SECOND, ask, serving
from tests.models.tiny_vjepa2 import make_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("facebook/vjepa2-vitl-fpc64-256", ("facebook/vjepa2-vitl-fpc64-256", "")),
        ("a/b@main", ("a/b", "main")),
        ("a/b@refs/pr/1", ("a/b", "refs/pr/1")),
        ("a", None),
        ("a/b/c", None),
        ("a/b@", None),
        ("a/b@c@d", None),
        ("a b/c", None),
    ],
)
def test_ids(text: str, parts: tuple[str, str] | None) -> None:
    assert split_id(text) == parts


def test_a_checkpoint_of_the_hub_is_pinned_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    with serving() as served:
        ask(served.url, tmp_path / "cache", monkeypatch)
        served.add("me/tiny", checkpoint)
        spec = vjepa2_spec("me/tiny", frames=4)
        assert (spec.source, spec.revision) == ("me/tiny", FIRST)
        # No more than the config was fetched for that.
        assert not any("safetensors" in path for path in served.asked)
        served.models["me/tiny"][SECOND] = {"config.json": b"{}"}
        assert encoder_spec(f"vjepa2:me/tiny@{FIRST}", 4, None) == spec
        model = load_weights(spec, torch.float32)
    # The hub is gone.
    assert torch.equal(load_weights(spec, torch.float32).norm.weight, model.norm.weight)
    assert vjepa2_spec(f"me/tiny@{FIRST}", frames=4) == spec
    # What was last called the newest.
    assert vjepa2_spec("me/tiny", frames=4) == spec
    with pytest.raises(ConnectionError, match="the hub can't be reached"):
        vjepa2_spec("me/other", frames=4)


def test_what_the_hub_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as served:
        ask(served.url, tmp_path / "cache", monkeypatch)
        served.models["me/text"] = {FIRST: {"config.json": b'{"model_type": "bert"}'}}
        with pytest.raises(OSError, match="me/none: no such file or folder here, and no model of"):
            locate("me/none")
        with pytest.raises(OSError, match="me/text: has no revision 'v2'"):
            locate("me/text@v2")
        with pytest.raises(ValueError, match="me/text: a checkpoint of type 'bert'"):
            vjepa2_spec("me/text")
        with pytest.raises(ValueError, match="me/text@v1: not revision v2"):
            locate("me/text@v1", "v2")


def test_a_hub_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes the connection, no more
        ask(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, monkeypatch)
        began = time.monotonic()
        with pytest.raises(ConnectionError, match="the hub can't be reached: no answer"):
            commit_of("me/tiny", "")
        assert time.monotonic() - began < 30  # the client itself: 45
    assert hub._in_time(lambda: 3) == 3


def test_a_typo_is_told_before_torch_loads() -> None:
    sources = ["./models/x", "/none", "~/none/x", "none.pt", "a/b/c", "vitl"]
    code = (
        "import sys\n"
        "from models.encoders import encoder_spec\n"
        "for source in sys.argv[1:]:\n"
        "    try: encoder_spec('vjepa2:' + source, None, None)\n"
        "    except FileNotFoundError as exc: print(exc)\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, *sources]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{source}: no such folder or file, nor a hub id like owner/name" for source in sources
    ]
