"""A head run by onnxruntime-web, and the error where it can't be run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from offline.exporting import web_runtime
from offline.exporting.web_runtime import run_head
from tests.models.heads_onnx import mean_head


@pytest.fixture
def head(tmp_path: Path) -> Path:
    file = tmp_path / "head.onnx"
    file.write_bytes(mean_head(np.array([[1, 2], [0, 1], [1, 0]], np.float32)))
    return file


def test_logits_of_each_clip(head: Path, web: None) -> None:
    features = np.array([[[1, 0, 2], [3, 2, 4]], [[1, 1, 1], [9, 9, 9]]], np.float32)
    mask = np.array([[True, True], [True, False]])
    logits, took = run_head(head, features, mask)
    np.testing.assert_allclose(logits, [[5, 5], [2, 3]], atol=1e-6)
    assert len(took) == 2 and min(took) > 0
    features[1, 0, 0] = np.nan
    logits, _ = run_head(head, features, mask)
    assert np.isfinite(logits[0]).all() and np.isnan(logits[1]).all()


def test_a_file_that_is_no_head_is_one_line_of_error(tmp_path: Path, web: None) -> None:
    file = tmp_path / "head.onnx"
    file.write_bytes(b"no protobuf")
    with pytest.raises(OSError, match=r"onnxruntime-web can't run it: .*protobuf") as raised:
        run_head(file, np.zeros((1, 1, 3), np.float32), np.ones((1, 1), np.bool_))
    assert len(str(raised.value).splitlines()) == 1


def test_without_node(head: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match=r"Node\.js .* run python -m offline\.exporting\.web_runtime"):
        run_head(head, np.zeros((1, 1, 3), np.float32), np.ones((1, 1), np.bool_))


def test_its_packages_are_pinned() -> None:
    lock = json.loads((web_runtime.FOLDER / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages["node_modules/onnxruntime-web"]["version"] == "1.30.0"
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
