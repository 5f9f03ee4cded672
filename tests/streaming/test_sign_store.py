"""Taught signs as requests bring them, and in the folder that keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.few_shot import MAX_SIGNS, EmbeddingSpace, FewShotError, FewShotFull, SpaceMismatch
from streaming.takes import pack
from streaming.taught_signs import SignChanged, SignStore, most_takes, parse_takes

SPACE = EmbeddingSpace(id="here", dim=3, background=np.zeros((0, 3), np.float32))
TAKES = np.array([[1, 0, 0]], np.float32)
TAKE = pack(TAKES[0])


def body(**fields: object) -> bytes:
    return json.dumps({"space": "here", "takes": [TAKE], **fields}).encode()


def test_takes_come_as_rows() -> None:
    takes = parse_takes(body(takes=[TAKE, TAKE]), SPACE)
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
        body(takes=[TAKE] * 9),
        body(takes=[1]),
        body(takes=["AAAA"]),
        body(takes={"0": TAKE}),
        body(takes=[TAKE, pack(np.array([1, np.nan, 0], np.float32))]),
        body(takes=[pack(np.array([np.inf, 0, 0], np.float32))]),
        body(takes=[pack(np.zeros(3, np.float32))]),
    ],
)
def test_anything_else_is_refused(hostile: bytes) -> None:
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
    await store.put("my <b>name</b>", TAKES)
    await store.put("other", TAKES)
    await store.delete("other")
    again = SignStore(tmp_path / "signs", SPACE)
    (sign,) = again.all()["signs"]
    assert (sign["gloss"], sign["takes"]) == ("my <b>name</b>", [TAKE])
    assert [file.name for file in (tmp_path / "signs").iterdir()] == ["here.json"]
    with pytest.raises(KeyError):
        await store.delete("other")


async def test_who_saw_an_older_sign_changes_nothing(tmp_path: Path) -> None:
    store = SignStore(tmp_path, SPACE)
    first = await store.put("mine", TAKES, "")
    assert store.all()["signs"][0]["etag"] == first
    second = await store.put("mine", np.repeat(TAKES, 2, 0), first)
    assert second != first
    for seen in ("", first):
        with pytest.raises(SignChanged):
            await store.put("mine", TAKES, seen)
        with pytest.raises(SignChanged):
            await store.delete("mine", seen)
    with pytest.raises(SignChanged):
        await store.put("other", TAKES, first)
    assert [sign["takes"] for sign in store.all()["signs"]] == [[TAKE, TAKE]]
    await store.delete("mine", second)
    assert store.all()["signs"] == []


async def test_the_folder_is_bounded(tmp_path: Path) -> None:
    store = SignStore(tmp_path, SPACE)
    for n in range(MAX_SIGNS):
        await store.put(str(n), TAKES)
    with pytest.raises(FewShotFull):
        await store.put("one more", TAKES)
    await store.put("0", np.repeat(TAKES, 2, 0))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"signs": 1}', '{"space": "here", "signs": {"a": []}}']
)
def test_a_broken_file_is_named_and_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "here.json").write_text(text)
    with pytest.raises(ValueError, match=r"here\.json"):
        SignStore(tmp_path, SPACE)
    assert (tmp_path / "here.json").read_text() == text
