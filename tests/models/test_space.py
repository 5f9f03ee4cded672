"""The space of takes, with and without a trained head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.bundle import BundleError, open_bundle, write_bundle
from models.classifier import Classifier
from models.few_shot import pooled
from tests.models.bundles import SPEC, small_card
from tests.models.heads_onnx import mean_head
from tests.models.npy import npy

HEAD = mean_head(np.eye(3, dtype=np.float32), embedding=True)


def _write(path: Path, background: bytes | None, **changes: object) -> None:
    files: dict[str, bytes | Path] = {"head.onnx": HEAD}
    if background is not None:
        files["background.npy"] = background
    write_bundle(path, card=small_card(**changes), glosses=["a", "b"], files=files)


def test_a_bundle_brings_its_background(tmp_path: Path) -> None:
    taught = {"temperature": 0.2, "floor": 0.3}
    calibration = {"temperature": 2.0, "threshold": 0.4, "taught": taught}
    _write(tmp_path / "b", npy(np.eye(3)), calibration=calibration)
    space = open_bundle(tmp_path / "b").space
    assert (space.dim, space.temperature, space.floor) == (3, 0.2, 0.3)
    assert np.array_equal(space.background, np.eye(3, dtype=np.float32))
    _write(tmp_path / "c", npy(np.eye(3)[::-1]))
    assert open_bundle(tmp_path / "c").space.id != space.id


def test_without_a_background_it_is_the_encoders_features(tmp_path: Path) -> None:
    _write(tmp_path / "b", None)
    space = open_bundle(tmp_path / "b").space
    assert space.dim == 2 * SPEC.dim
    assert len(space.background) == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"nothing", "no array"),
        (b"", "no array"),
        (npy(np.ones(3)), "not floats"),
        (npy(np.ones((2, 3), np.int64)), "not floats"),
        (npy(np.ones((1, 3))), "for each of the 2 glosses"),
        (npy(np.full((2, 3), np.inf)), "finite"),
    ],
)
def test_a_broken_background_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        _write(tmp_path / "b", content)


def test_a_background_of_another_head_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "b", npy(np.ones((2, 4))))
    with pytest.raises(BundleError, match="embeddings have 3 numbers"):
        Classifier(open_bundle(tmp_path / "b"), "cpu")


def test_pooled_features_tell_a_movement_from_its_reverse() -> None:
    rise = np.linspace([0, 1], [1, 0], 9, dtype=np.float32)
    there, back = pooled(rise), pooled(rise[::-1])
    assert np.linalg.norm(there) == pytest.approx(1, abs=1e-5)
    assert there @ back < 0.9
    assert np.isfinite(pooled(np.zeros((1, 4), np.float32))).all()
