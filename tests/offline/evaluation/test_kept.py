"""Predictions, kept: a video is read once in the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.bundle import open_bundle
from models.schema import Prediction
from offline.evaluation.time_to_decision import folder_of, kept


def said() -> Iterator[Prediction]:
    for n, resting in enumerate([None, False, True]):
        yield Prediction(
            stream="a",
            probabilities=np.array([0.1 * n, 0.5], np.float32),
            idle=0.5 - 0.1 * n,
            attention=np.ones(1, np.float32),
            start_s=n - 2.0,
            end_s=float(n),
            resting=resting,
            stages_s={"encode": 0.25, "classify": 0.5},
        )


def unread() -> Iterator[Prediction]:
    raise AssertionError("read again")


def test_what_was_said_comes_back_as_it_was_without_reading(tmp_path: Path) -> None:
    first = kept(tmp_path / "new", "book", said)
    again = kept(tmp_path / "new", "book", unread)
    assert [one.probabilities.tolist() for one in again] == [
        one.probabilities.tolist() for one in first
    ]
    for name in ("idle", "start_s", "end_s", "resting"):
        assert [getattr(one, name) for one in again] == [getattr(one, name) for one in first]
    assert [sum(one.stages_s.values()) for one in again] == [0.75] * 3


def test_without_a_folder_it_is_read_each_time() -> None:
    assert len(kept(None, "book", said)) == 3
    with pytest.raises(AssertionError, match="again"):
        kept(None, "book", unread)


@pytest.mark.parametrize("content", [b"", b"PK cut off", b"\x93NUMPY"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "book.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"book\.npz: no kept predictions"):
        kept(tmp_path, "book", unread)


def test_another_way_of_reading_has_another_folder(tmp_path: Path) -> None:
    bundle = open_bundle("builtin")
    slower = dataclasses.replace(bundle, hop_s=2 * bundle.hop_s)
    other = dataclasses.replace(bundle, card={**bundle.card, "files": {"head.onnx": "0"}})
    folders = {
        folder_of(tmp_path, bundle, 1.0),
        folder_of(tmp_path, bundle, 2.0),
        folder_of(tmp_path, slower, 1.0),
        folder_of(tmp_path, other, 1.0),
    }
    assert len(folders) == 4
    assert folder_of(tmp_path, bundle, 1.0) in folders
    assert all(folder.parent == tmp_path for folder in folders)
