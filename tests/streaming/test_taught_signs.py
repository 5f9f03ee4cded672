"""Teaching a sign over the wire: a take recorded live, the sign known, kept, forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import numpy as np
import pytest

from models.few_shot import MAX_SIGNS
from offline import export, predict
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.server import Server
from streaming.settings import RecognizerSettings, ServerSettings, SessionSettings, Settings
from streaming.takes import pack
from tests.streaming.caller import Caller, Camera, calling, problem

SETTINGS = Settings(
    server=ServerSettings(port=0),
    session=SessionSettings(loopback_ice=True, heartbeat_s=1.0),
)
TAKE = pack(np.array([0, 1, 0, 0], np.float32))
BODY = {"space": "standin", "takes": [TAKE]}


def grey(n: int) -> np.ndarray[Any, Any]:
    return np.full((240, 320, 3), 128, np.uint8)


async def heard(caller: Caller, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first prediction from now on of which `what` is true."""
    place = len(caller.of("prediction"))
    while True:
        newest = (await caller.wait_for("prediction", place + 1))[place]
        if what(newest):
            return newest
        place += 1


async def test_a_recorded_take_teaches_a_sign_to_this_session_alone(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with (
        calling(server.url, http, Camera(grey)) as caller,
        calling(server.url, http, Camera(grey)) as other,
    ):
        (hello,) = await caller.wait_for("hello")
        assert hello["model"]["space"] == "standin"
        await caller.wait_for("prediction")
        caller.say(type="take", id="first")
        (take,) = await caller.wait_for("take")
        assert (take["id"], take["space"]) == ("first", "standin")
        assert take["end_s"] - take["start_s"] >= 32 / 15 - 0.01
        sign = f"{server.url}{caller.location}/signs/{quote('half <light>', safe='')}"
        body = {"space": take["space"], "takes": [take["embedding"]]}
        async with http.put(sign, json=body) as response:
            assert response.status == 204
        known = await heard(caller, lambda said: said["top"][0]["gloss"] == "half <light>")
        assert known["top"][0]["p"] > 0.5
        assert (await caller.wait_for("sign"))[0]["gloss"] == "half <light>"
        async with http.delete(sign) as response:
            assert response.status == 204
        unknown = await heard(caller, lambda said: said["top"][0]["gloss"] != "half <light>")
        assert "half <light>" not in {one["gloss"] for one in unknown["top"]}
        async with http.delete(sign) as response:
            assert (await problem(response))["status"] == 404
        assert {one["gloss"] for said in other.of("prediction") for one in said["top"]} <= {
            "dark",
            "bright",
        }
        assert other.of("take") == []


async def test_what_can_not_be_taught_is_told_and_changes_nothing(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with calling(server.url, http, Camera(grey)) as caller:
        await caller.wait_for("hello")
        signs = f"{server.url}{caller.location}/signs"
        refused: list[tuple[str, Any, int]] = [
            ("new", {"space": "standin", "takes": []}, 400),
            ("new", {"space": "standin", "takes": [pack(np.zeros(4, np.float32))]}, 400),
            ("new", {"space": "standin", "takes": [pack(np.full(4, np.nan, np.float32))]}, 400),
            ("new", {"space": "other", "takes": [TAKE]}, 409),
            ("new", {"space": "standin", "takes": ["A" * 200_000]}, 413),
            ("x" * 61, BODY, 400),
            ("a%00b", BODY, 400),
            ("%20", BODY, 400),
        ]
        for gloss, body, status in refused:
            async with http.put(f"{signs}/{gloss}", json=body) as response:
                assert response.status == status, (gloss, await response.text())
        async with http.put(f"{server.url}/whip/nobody/signs/new", json=BODY) as response:
            assert response.status == 404
        for n in range(MAX_SIGNS):
            async with http.put(f"{signs}/{n}", json=BODY) as response:
                assert response.status == 204
        async with http.put(f"{signs}/more", json=BODY) as response:
            assert (await problem(response))["status"] == 429
        caller.say(type="take", id="")
        assert (await caller.wait_for("error"))[0]["code"] == "bad-field"
        await heard(caller, lambda said: bool(said["top"]))


async def test_a_server_without_a_folder_keeps_no_sign(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{server.url}/api/model") as response:
        signs = (await response.json())["signs"]
        assert signs == {"space": "standin", "dim": 4, "max": 50, "takes": 8, "store": False}
    async with http.get(f"{server.url}/api/signs") as response:
        assert (await problem(response))["status"] == 404


async def test_signs_are_kept_for_those_who_have_the_token(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, server=ServerSettings(port=0, token="secret", signs=str(tmp_path)))
    allowed = {"Authorization": "Bearer secret"}
    async with serve(settings, StandIn()) as server:
        signs = f"{server.url}/api/signs"
        async with http.put(f"{signs}/mine", json=BODY) as response:
            assert response.status == 401
        async with http.get(signs) as response:
            assert response.status == 401
        nan = {"space": "standin", "takes": [pack(np.full(4, np.nan, np.float32))]}
        async with http.put(f"{signs}/mine", json=nan, headers=allowed) as response:
            assert "no number" in (await problem(response))["detail"]
            assert response.status == 400
        new = {**allowed, "If-None-Match": "*"}
        async with http.put(f"{signs}/mine", json=BODY, headers=new) as response:
            assert response.status == 204
            etag = response.headers["ETag"]
        async with http.put(f"{signs}/mine", json=BODY, headers=new) as response:
            assert (await problem(response))["status"] == 412
    async with serve(settings, StandIn()) as server:
        signs = f"{server.url}/api/signs"
        async with http.get(signs, headers=allowed) as response:
            sign = {"gloss": "mine", "takes": [TAKE], "etag": etag}
            assert await response.json() == {"space": "standin", "signs": [sign]}
        older = {**allowed, "If-Match": '"older"'}
        async with http.delete(f"{signs}/mine", headers=older) as response:
            assert (await problem(response))["status"] == 412
        async with http.delete(f"{signs}/mine", headers={**allowed, "If-Match": etag}) as response:
            assert response.status == 204
        async with http.delete(f"{signs}/mine", headers=allowed) as response:
            assert response.status == 404


def since(media_s: float) -> Callable[[dict[str, Any]], bool]:
    return lambda said: bool(said["window"]["start_s"] > media_s)


def coloured(n: int) -> np.ndarray[Any, Any]:
    """Green for four seconds, then red; as noisy as a camera's."""
    noise = np.random.default_rng(n).integers(-20, 20, (240, 320, 3))
    colour = (20, 220, 20) if n < 4 * 30 else (220, 20, 20)
    return (np.array(colour) + noise).clip(0, 255).astype(np.uint8)


async def test_a_model_without_a_trained_head_learns_from_takes_alone(
    way: Path, tmp_path: Path, http: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "untrained"
    encoder = f"vjepa2:{way / 'checkpoint'}"
    assert export.main(["--encoder", encoder, "--hop-s", "0.2", "--out", str(bundle)]) == 0
    assert predict.main(["--model", str(bundle), "--device", "cpu", "any.mp4"]) == 2
    assert "no trained head" in capsys.readouterr().err
    settings = replace(SETTINGS, recognizer=RecognizerSettings(model=str(bundle), device="cpu"))
    async with (
        serve(settings) as server,
        calling(server.url, http, Camera(coloured)) as caller,
    ):
        (hello,) = await caller.wait_for("hello")
        assert hello["model"]["glosses"] == []
        first = (await caller.wait_for("prediction"))[0]
        assert first["top"] == []
        signs = f"{server.url}{caller.location}/signs"
        for n, (gloss, shown_s) in enumerate((("green", 0.5), ("red", 4.5))):
            await heard(caller, since(shown_s))
            caller.say(type="take", id=gloss)
            take = (await caller.wait_for("take", n + 1))[n]
            body = {"space": take["space"], "takes": [take["embedding"]]}
            async with http.put(f"{signs}/{gloss}", json=body) as response:
                assert response.status == 204
        known = await heard(caller, since(4.5))
        assert [one["gloss"] for one in known["top"]] == ["red", "green"]
