"""Taught signs: in the folder that keeps them, and over the wire, recorded live."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from models.few_shot import MAX_SIGNS, EmbeddingSpace, FewShotError, FewShotFull, SpaceMismatch
from offline import export, predict
from streaming.app import serve
from streaming.bench.standin import StandIn
from streaming.pipeline import pack
from streaming.server import Server
from streaming.settings import RecognizerSettings, ServerSettings, SessionSettings, Settings
from streaming.taught_signs import SignChanged, SignStore, most_takes, parse_takes
from tests.conftest import ROOT
from tests.streaming.caller import Camera, calling, predicted, problem

SPACE = EmbeddingSpace(id="here", dim=3, background=np.zeros((0, 3), np.float32))
ROWS = np.array([[1, 0, 0]], np.float32)
PACKED = pack(ROWS[0])


def body(**fields: object) -> bytes:
    return json.dumps({"space": "here", "takes": [PACKED], **fields}).encode()


def files(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def test_takes_come_as_rows() -> None:
    takes = parse_takes(body(takes=[PACKED, PACKED]), SPACE)
    np.testing.assert_array_equal(takes, [[1, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        b"[]",
        body(more=1),
        body(takes=[]),
        body(takes=[PACKED] * 9),
        body(takes=[1]),
        body(takes=["AAAA"]),
        body(takes={"0": PACKED}),
        body(takes=[PACKED, pack(np.array([1, np.nan, 0], np.float32))]),
        body(takes=[pack(np.array([np.inf, 0, 0], np.float32))]),
        body(takes=[pack(np.zeros(3, np.float32))]),
    ],
)
def test_bodies_of_another_form_are_refused(hostile: bytes) -> None:
    with pytest.raises(FewShotError):
        parse_takes(hostile, SPACE)


def test_takes_of_another_space_are_told_apart() -> None:
    with pytest.raises(SpaceMismatch):
        parse_takes(body(space="there"), SPACE)


def test_as_many_takes_as_fit_a_request_may_come() -> None:
    big = EmbeddingSpace(id="big", dim=2816, background=np.zeros((0, 2816), np.float32))
    limit = 65536
    most = most_takes(big, limit)
    takes = [pack(np.ones(2816, np.float32))] * most
    assert 1 <= most <= 8
    assert len(json.dumps({"space": "0123456789abcdef", "takes": takes})) <= limit


async def test_signs_stay_in_the_folder(tmp_path: Path) -> None:
    store = SignStore(tmp_path / "signs", SPACE)
    await store.put("my <b>name</b>", ROWS)
    await store.put("other", ROWS)
    await store.delete("other")
    again = SignStore(tmp_path / "signs", SPACE)
    (sign,) = (await again.all())["signs"]
    assert (sign["gloss"], sign["takes"]) == ("my <b>name</b>", [PACKED])
    assert set(files(tmp_path / "signs")) <= {"here.json", "here.lock"}
    with pytest.raises(KeyError):
        await store.delete("other")


async def test_who_expects_an_older_version_changes_nothing(tmp_path: Path) -> None:
    store = SignStore(tmp_path, SPACE)
    first = await store.put("mine", ROWS, "")
    assert (await store.all())["signs"][0]["etag"] == first
    second = await store.put("mine", np.repeat(ROWS, 2, 0), first)
    assert second != first
    for expected in ("", first):
        with pytest.raises(SignChanged):
            await store.put("mine", ROWS, expected)
        with pytest.raises(SignChanged):
            await store.delete("mine", expected)
    with pytest.raises(SignChanged):
        await store.put("other", ROWS, first)
    assert [sign["takes"] for sign in (await store.all())["signs"]] == [[PACKED, PACKED]]
    await store.delete("mine", second)
    assert (await store.all())["signs"] == []


async def test_the_folder_is_bounded(tmp_path: Path) -> None:
    store = SignStore(tmp_path, SPACE)
    for n in range(MAX_SIGNS):
        await store.put(str(n), ROWS)
    with pytest.raises(FewShotFull):
        await store.put("one more", ROWS)
    await store.put("0", np.repeat(ROWS, 2, 0))


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"signs": 1}', '{"space": "here", "signs": {"a": []}}', '{"x": ' + "[" * 9999],
)
async def test_a_broken_file_is_put_aside_and_named(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "here.json").write_text(text)
    store = SignStore(tmp_path, SPACE)
    (aside,) = (name for name in files(tmp_path) if name.startswith("here.broken-"))
    assert (tmp_path / aside).read_text() == text
    (line,) = caplog.messages
    assert "here.json" in line and aside in line and "\n" not in line
    await store.put("mine", ROWS)
    assert (await SignStore(tmp_path, SPACE).all())["signs"][0]["gloss"] == "mine"


async def test_a_file_that_breaks_later_is_put_aside_too(tmp_path: Path) -> None:
    store = SignStore(tmp_path, SPACE)
    await store.put("mine", ROWS)
    (tmp_path / "here.json").write_text("{")
    assert (await store.all())["signs"] == []
    assert len([name for name in files(tmp_path) if name.startswith("here.broken-")]) == 1


WRITER = """
import asyncio, sys
from pathlib import Path
import numpy as np
from models.few_shot import EmbeddingSpace
from streaming.taught_signs import SignStore

async def main(folder, name):
    rows = np.ones((1, 3), np.float32)
    space = EmbeddingSpace(id="here", dim=3, background=np.zeros((0, 3), np.float32))
    store = SignStore(Path(folder), space)
    print("open", flush=True)
    sys.stdin.readline()  # both have read the folder before either writes
    for n in range(10):
        await store.put(f"{name}{n}", rows)

asyncio.run(main(*sys.argv[1:]))
"""


def test_two_servers_lose_no_sign_of_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    with (
        subprocess.Popen([*command, "a"], **pipes) as first,
        subprocess.Popen([*command, "b"], **pipes) as second,
    ):
        for process in (first, second):
            assert process.stdout and process.stdout.readline() == b"open\n"
        for process in (first, second):
            assert process.stdin
            process.stdin.write(b"\n")
            process.stdin.flush()
    assert (first.returncode, second.returncode) == (0, 0)
    kept = json.loads((tmp_path / "here.json").read_text())["signs"]
    assert set(kept) == {f"{name}{n}" for name in "ab" for n in range(10)}


async def test_a_server_sees_what_another_changed(tmp_path: Path) -> None:
    one, other = SignStore(tmp_path, SPACE), SignStore(tmp_path, SPACE)
    tag = await one.put("mine", ROWS, "")
    with pytest.raises(SignChanged):
        await other.put("mine", ROWS, "")
    await other.delete("mine", tag)
    assert (await one.all())["signs"] == []


async def test_composed_and_decomposed_names_are_one_sign(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    two = {composed: [PACKED], decomposed: [PACKED, PACKED]}  # as servers kept them before
    (tmp_path / "here.json").write_text(json.dumps({"space": "here", "signs": two}))
    store = SignStore(tmp_path, SPACE)
    (sign,) = (await store.all())["signs"]
    assert (sign["gloss"], len(sign["takes"])) == (composed, 3)
    await store.put(decomposed, ROWS, sign["etag"])
    assert [s["gloss"] for s in (await store.all())["signs"]] == [composed]
    await store.delete(decomposed)
    assert (await store.all())["signs"] == []


SETTINGS = Settings(
    server=ServerSettings(port=0),
    session=SessionSettings(loopback_ice=True, heartbeat_s=1.0),
)
TAKE = pack(np.array([0, 1, 0, 0], np.float32))
BODY = {"space": "standin", "takes": [TAKE]}


async def test_a_server_without_a_folder_keeps_no_sign(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{server.url}/api/model") as response:
        signs = (await response.json())["signs"]
        assert signs == {"space": "standin", "dim": 4, "max": 50, "takes": 8, "store": False}
    async with http.get(f"{server.url}/api/signs") as response:
        assert (await problem(response))["status"] == 404


async def test_signs_are_kept_for_clients_with_the_token(
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


async def test_a_full_disk_is_said_and_loses_nothing(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """No file may become larger than 100 bytes, for a while: the system then refuses to write."""
    settings = replace(SETTINGS, server=ServerSettings(port=0, token="secret", signs=str(tmp_path)))
    allowed = {"Authorization": "Bearer secret"}
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with serve(settings, StandIn()) as server:
        signs = f"{server.url}/api/signs"
        async with http.put(f"{signs}/first", json=BODY, headers=allowed) as response:
            assert response.status == 204
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            body = {**BODY, "takes": [TAKE] * 8}
            async with http.put(f"{signs}/second", json=body, headers=allowed) as response:
                refused = await problem(response)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        assert refused["status"] == 507 and "full" in refused["detail"]
        async with http.get(signs, headers=allowed) as response:
            assert [sign["gloss"] for sign in (await response.json())["signs"]] == ["first"]
        async with http.put(f"{signs}/second", json=body, headers=allowed) as response:
            assert response.status == 204
    assert set(files(tmp_path)) <= {"standin.json", "standin.lock"}


def since(media_s: float) -> Callable[[dict[str, Any]], bool]:
    return lambda prediction: bool(prediction["window"]["start_s"] > media_s)


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
            await predicted(caller, since(shown_s))
            caller.send(type="take", id=gloss)
            take = (await caller.wait_for("take", n + 1))[n]
            body = {"space": take["space"], "takes": [take["embedding"]]}
            async with http.put(f"{signs}/{gloss}", json=body) as response:
                assert response.status == 204
        known = await predicted(caller, since(4.5))
        assert [one["gloss"] for one in known["top"]] == ["red", "green"]
