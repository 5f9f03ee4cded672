"""Taught signs beside a head's glosses, and the embedding spaces they are compared in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.bundle import BundleError, open_bundle, write_bundle
from models.classifier import Classifier
from models.few_shot import (
    IDLE,
    MAX_SIGNS,
    EmbeddingSpace,
    FewShotClassifier,
    FewShotError,
    FewShotFull,
    SpaceMismatch,
    pooled,
    unit_length,
)
from models.schema import Prediction
from tests.models.bundles import SPEC, npy, small_card
from tests.models.heads_onnx import mean_head

_DIM = 6


def _axis(*weights: float) -> NDArray[np.float32]:
    return unit_length(np.array([*weights, *[0.0] * (_DIM - len(weights))], np.float32))


A, B, REST, NEW, OTHER = (np.eye(_DIM, dtype=np.float32)[i] for i in range(5))
SPACE = EmbeddingSpace(id="s", dim=_DIM, background=np.stack([A, B, REST]))
EMPTY = EmbeddingSpace(id="e", dim=_DIM, background=np.zeros((0, _DIM), np.float32))


def _prediction(embedding: NDArray[np.float32], *p: float) -> Prediction:
    return Prediction(
        stream="x",
        probabilities=np.array(p, np.float32),
        idle=1 - sum(p),
        attention=np.ones(1, np.float32),
        start_s=0,
        end_s=1,
        embedding=embedding,
    )


def _p(classifier: FewShotClassifier, prediction: Prediction) -> dict[str, float]:
    applied = classifier.apply(prediction)
    return dict(zip(classifier.glosses, applied.probabilities.tolist(), strict=True))


def test_nothing_changes_while_nothing_is_taught() -> None:
    prediction = _prediction(A, 0.7, 0.2)
    assert FewShotClassifier(["a", "b"], SPACE).apply(prediction) is prediction


def test_a_taught_sign_is_distinguished_from_all_glosses_of_the_head() -> None:
    classifier = FewShotClassifier(["a", "b"], SPACE)
    classifier.teach("new", np.stack([NEW, _axis(0, 0, 0.1, 1)]))
    assert classifier.glosses == ("a", "b", "new")
    assert _p(classifier, _prediction(NEW, 0.6, 0.1))["new"] > 0.9
    for known, p in ((A, (0.9, 0.05)), (B, (0.05, 0.9)), (REST, (0.0, 0.0))):
        assert _p(classifier, _prediction(known, *p))["new"] < 0.05
    assert _p(classifier, _prediction(OTHER, 0.1, 0.1))["new"] < 0.3, (
        "like nothing at all: the floor"
    )


def test_a_taught_sign_is_distinguished_from_background_without_a_gloss() -> None:
    classifier = FewShotClassifier(["a", "b"], SPACE)
    classifier.teach("new", np.stack([_axis(0, 0, 1, 1)]))  # half of it is as at rest
    assert _p(classifier, _prediction(REST, 0.1, 0.1))["new"] < 0.1


def test_the_head_s_glosses_keep_their_proportions() -> None:
    classifier = FewShotClassifier(["a", "b"], SPACE)
    classifier.teach("new", NEW[None])
    prediction = _prediction(_axis(1, 0, 0, 1), 0.6, 0.2)
    applied = classifier.apply(prediction)
    assert applied.probabilities.sum() + applied.idle == pytest.approx(1, abs=1e-5)
    assert applied.probabilities[0] / applied.probabilities[1] == pytest.approx(3, rel=1e-4)
    assert 0 < applied.probabilities[0] < 0.6


def test_takes_of_one_of_the_head_s_glosses_add_to_it() -> None:
    classifier = FewShotClassifier(["a", "b"], SPACE)
    classifier.teach("a", NEW[None])  # this signer makes it in a way that the head does not know
    assert classifier.glosses == ("a", "b")
    assert _p(classifier, _prediction(NEW, 0.1, 0.2))["a"] > 0.9
    assert _p(classifier, _prediction(B, 0.1, 0.8))["b"] > 0.7


def test_what_is_taught_as_idle_is_no_sign() -> None:
    classifier = FewShotClassifier([], EMPTY)
    classifier.teach("new", NEW[None])
    shrug = _axis(0, 0, 0.6, 1)
    before = _p(classifier, _prediction(shrug))["new"]
    classifier.teach(IDLE, np.stack([shrug]))
    assert classifier.glosses == ("new",)
    after = _p(classifier, _prediction(shrug))["new"]
    assert after < 0.2 < before
    assert _p(classifier, _prediction(NEW))["new"] > 0.5


def test_without_a_head_two_taught_signs_are_distinguished() -> None:
    classifier = FewShotClassifier([], EMPTY)
    classifier.teach("new", NEW[None])
    classifier.teach("other", OTHER[None])
    assert _p(classifier, _prediction(NEW))["new"] > 0.9
    assert _p(classifier, _prediction(OTHER))["other"] > 0.9


def test_forgetting_undoes_teaching() -> None:
    classifier = FewShotClassifier(["a", "b"], SPACE)
    classifier.teach("new", NEW[None])
    classifier.forget("new")
    prediction = _prediction(NEW, 0.5, 0.1)
    assert classifier.glosses == ("a", "b")
    assert classifier.apply(prediction) is prediction
    with pytest.raises(KeyError):
        classifier.forget("new")


@pytest.mark.parametrize(
    ("gloss", "takes", "error"),
    [
        ("", NEW[None], FewShotError),
        (" new", NEW[None], FewShotError),
        ("n" * 61, NEW[None], FewShotError),
        ("a\x07b", NEW[None], FewShotError),
        ("new", NEW, FewShotError),
        ("new", np.zeros((0, _DIM)), FewShotError),
        ("new", np.tile(NEW, (9, 1)), FewShotError),
        ("new", np.zeros((1, _DIM)), FewShotError),
        ("new", np.full((1, _DIM), np.nan), FewShotError),
        ("new", np.ones((1, _DIM + 1)), SpaceMismatch),
    ],
)
def test_takes_that_can_not_be_used_change_nothing(
    gloss: str, takes: NDArray[np.float32], error: type[FewShotError]
) -> None:
    classifier = FewShotClassifier(["a", "b"], SPACE)
    with pytest.raises(error):
        classifier.teach(gloss, takes)
    assert classifier.glosses == ("a", "b")


def test_the_number_of_signs_has_a_bound() -> None:
    classifier = FewShotClassifier([], EMPTY)
    for number in range(MAX_SIGNS):
        classifier.teach(f"sign {number}", NEW[None])
    classifier.teach("sign 0", OTHER[None])  # replacing is no growth
    with pytest.raises(FewShotFull):
        classifier.teach("one more", NEW[None])


@given(
    st.lists(st.lists(st.floats(-5, 5, width=32), min_size=_DIM, max_size=_DIM), max_size=4),
    st.lists(st.floats(-5, 5, width=32), min_size=_DIM, max_size=_DIM),
    st.booleans(),
)
def test_probabilities_stay_probabilities(
    takes: list[list[float]], seen: list[float], headless: bool
) -> None:
    classifier = FewShotClassifier([] if headless else ["a", "b"], EMPTY if headless else SPACE)
    for number, one in enumerate(takes):
        if np.linalg.norm(one) >= 1e-3:
            classifier.teach(f"sign {number}", np.array([one], np.float32))
    p = () if headless else (0.25, 0.5)
    applied = classifier.apply(_prediction(unit_length(np.array(seen, np.float32)), *p))
    assert len(applied.probabilities) == len(classifier.glosses)
    assert (applied.probabilities >= 0).all()
    assert 0 <= applied.idle <= 1
    assert applied.probabilities.sum() + applied.idle == pytest.approx(1, abs=1e-4)


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


def test_pooled_features_distinguish_a_movement_from_its_reverse() -> None:
    rise = np.linspace([0, 1], [1, 0], 9, dtype=np.float32)
    there, back = pooled(rise), pooled(rise[::-1])
    assert np.linalg.norm(there) == pytest.approx(1, abs=1e-5)
    assert there @ back < 0.9
    assert np.isfinite(pooled(np.zeros((1, 4), np.float32))).all()
