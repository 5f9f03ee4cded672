"""Bundles with V-JEPA 2, alone and fused with landmarks, behind the server: real encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from models.bundle import open_bundle, write_bundle
from models.card import spec_as_card
from models.landmarks.encoder import landmark_spec
from offline.exporting.bundle_export import write_fused
from offline.predict import main as predict
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.settings import RecognizerSettings, ServerSettings, SessionSettings, Settings
from tests.models.bundles import small_card
from tests.models.heads_onnx import mean_head
from tests.streaming.caller import Camera, calling

SETTINGS = Settings(
    server=ServerSettings(port=0),
    session=SessionSettings(loopback_ice=True, heartbeat_s=1.0),
)


def green(n: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(n)
    noise = random.integers(-20, 20, (240, 320, 3))
    return (np.array((20, 220, 20)) + noise).astype(np.uint8)


async def received(settings: Settings, *standins: StandIn) -> list[dict[str, Any]]:
    """The messages of a call in which each kind of message occurs."""
    async with serve(settings, *standins) as server, aiohttp.ClientSession() as http:
        async with calling(server.url, http, Camera(green)) as caller:
            await caller.wait_for("prediction", 8)
            await caller.wait_for("stats")
            caller.send(type="ping", t=1)
            await caller.wait_for("pong")
            return list(caller.messages)


async def test_the_same_messages_come(way: Path) -> None:
    chosen = RecognizerSettings(model=str(way / "bundle"), device="cpu")
    ours = await received(
        Settings(server=SETTINGS.server, session=SETTINGS.session, recognizer=chosen)
    )
    standin = await received(SETTINGS, StandIn())
    for kind in ("hello", "prediction", "stats", "pong"):
        one = next(message for message in ours if message["type"] == kind)
        other = next(message for message in standin if message["type"] == kind)
        assert one.keys() == other.keys()
    hello = ours[0]
    assert hello["model"]["encoder"] == "vjepa2"
    assert set(hello["model"]["glosses"]) == {"tree", "floor"}
    last = [message for message in ours if message["type"] == "prediction"][-1]
    assert last["top"][0]["gloss"] == "tree"
    assert len(last["attention"]) == 2
    assert sum(last["attention"]) == pytest.approx(1, abs=0.01)
    signs = [message for message in ours if message["type"] == "sign"]
    assert signs and signs[0]["gloss"] == "tree"


@pytest.fixture(scope="module")
def both(way: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colours that V-JEPA 2 has learnt, beside landmarks that make no difference to them."""
    root = tmp_path_factory.mktemp("both")
    colours = open_bundle(way / "bundle")
    spec = landmark_spec(8, 4.0)
    card = small_card(
        encoder=spec_as_card(spec),
        head={"kind": "gloss", "args": {}, "idle": False},
        window_s=spec.window_s,
    )
    head = mean_head(np.zeros((spec.dim, 2), np.float32))
    landmarks = write_bundle(
        root / "landmarks", card=card, glosses=colours.glosses, files={"head.onnx": head}
    )
    return write_fused(root / "both", "both", [landmarks, colours], [1.0, 1.0], {}).path


async def test_a_fused_bundle_is_served_like_any_other(both: Path) -> None:
    settings = Settings(
        server=ServerSettings(port=0),
        session=SessionSettings(loopback_ice=True),
        recognizer=RecognizerSettings(model=str(both), device="cpu"),
    )
    async with serve(settings) as server, aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/api/model") as response:
            card = await response.json()
        async with calling(server.url, http, Camera(green)) as caller:
            await caller.wait_for("prediction", 4)
            messages = list(caller.messages)
    assert [part["encoder"]["kind"] for part in card["fusion"]] == ["landmarks", "vjepa2"]
    assert messages[0]["model"]["encoder"] == "landmarks+vjepa2"
    last = [message for message in messages if message["type"] == "prediction"][-1]
    assert last["top"][0]["gloss"] == "tree"
    assert sum(last["attention"]) == pytest.approx(1, abs=0.02)


def test_a_fused_bundle_reads_files_too(
    both: Path, way: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(way / "videos" / f"{n}.mp4") for n in (8, 9)]
    assert predict(["--model", str(both), "--device", "cpu", *files]) == 0
    glosses = [line.split()[1] for line in capsys.readouterr().out.splitlines() if "  top " in line]
    assert glosses == ["tree", "floor"]
