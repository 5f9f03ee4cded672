"""What a session knows: the head's glosses, and what it was taught."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.few_shot import (
    IDLE,
    MAX_SIGNS,
    EmbeddingSpace,
    FewShotClassifier,
    FewShotError,
    FewShotFull,
    SpaceMismatch,
    unit_length,
)
from models.schema import Prediction

_DIM = 6


def _axis(*weights: float) -> NDArray[np.float32]:
    return unit_length(np.array([*weights, *[0.0] * (_DIM - len(weights))], np.float32))


A, B, REST, NEW, OTHER = (np.eye(_DIM, dtype=np.float32)[i] for i in range(5))
SPACE = EmbeddingSpace(id="s", dim=_DIM, background=np.stack([A, B, REST]))
EMPTY = EmbeddingSpace(id="e", dim=_DIM, background=np.zeros((0, _DIM), np.float32))


def _said(embedding: NDArray[np.float32], *p: float) -> Prediction:
    return Prediction(
        stream="x",
        probabilities=np.array(p, np.float32),
        idle=1 - sum(p),
        attention=np.ones(1, np.float32),
        start_s=0,
        end_s=1,
        embedding=embedding,
    )


def _p(lexicon: FewShotClassifier, said: Prediction) -> dict[str, float]:
    read = lexicon.apply(said)
    return dict(zip(lexicon.glosses, read.probabilities.tolist(), strict=True))


def test_nothing_changes_while_nothing_is_taught() -> None:
    said = _said(A, 0.7, 0.2)
    assert FewShotClassifier(["a", "b"], SPACE).apply(said) is said


def test_a_taught_sign_is_told_from_all_that_the_head_knows() -> None:
    lexicon = FewShotClassifier(["a", "b"], SPACE)
    lexicon.teach("new", np.stack([NEW, _axis(0, 0, 0.1, 1)]))
    assert lexicon.glosses == ("a", "b", "new")
    assert _p(lexicon, _said(NEW, 0.6, 0.1))["new"] > 0.9
    for known, p in ((A, (0.9, 0.05)), (B, (0.05, 0.9)), (REST, (0.0, 0.0))):
        assert _p(lexicon, _said(known, *p))["new"] < 0.05
    assert _p(lexicon, _said(OTHER, 0.1, 0.1))["new"] < 0.3, "like nothing at all: the floor"


def test_a_new_sign_is_told_from_the_background_that_has_no_gloss() -> None:
    lexicon = FewShotClassifier(["a", "b"], SPACE)
    lexicon.teach("new", np.stack([_axis(0, 0, 1, 1)]))  # half of it is as at rest
    assert _p(lexicon, _said(REST, 0.1, 0.1))["new"] < 0.1


def test_the_head_keeps_what_teaching_leaves_in_its_own_proportions() -> None:
    lexicon = FewShotClassifier(["a", "b"], SPACE)
    lexicon.teach("new", NEW[None])
    said = _said(_axis(1, 0, 0, 1), 0.6, 0.2)
    read = lexicon.apply(said)
    assert read.probabilities.sum() + read.idle == pytest.approx(1, abs=1e-5)
    assert read.probabilities[0] / read.probabilities[1] == pytest.approx(3, rel=1e-4)
    assert 0 < read.probabilities[0] < 0.6


def test_takes_of_a_gloss_of_the_heads_add_to_it() -> None:
    lexicon = FewShotClassifier(["a", "b"], SPACE)
    lexicon.teach("a", NEW[None])  # this signer makes it in a way that the head does not know
    assert lexicon.glosses == ("a", "b")
    assert _p(lexicon, _said(NEW, 0.1, 0.2))["a"] > 0.9
    assert _p(lexicon, _said(B, 0.1, 0.8))["b"] > 0.7


def test_what_is_taught_as_idle_is_no_sign() -> None:
    lexicon = FewShotClassifier([], EMPTY)
    lexicon.teach("new", NEW[None])
    shrug = _axis(0, 0, 0.6, 1)
    before = _p(lexicon, _said(shrug))["new"]
    lexicon.teach(IDLE, np.stack([shrug]))
    assert lexicon.glosses == ("new",)
    after = _p(lexicon, _said(shrug))["new"]
    assert after < 0.2 < before
    assert _p(lexicon, _said(NEW))["new"] > 0.5


def test_without_a_head_two_taught_signs_are_told_apart() -> None:
    lexicon = FewShotClassifier([], EMPTY)
    lexicon.teach("new", NEW[None])
    lexicon.teach("other", OTHER[None])
    assert _p(lexicon, _said(NEW))["new"] > 0.9
    assert _p(lexicon, _said(OTHER))["other"] > 0.9


def test_forgetting_undoes_teaching() -> None:
    lexicon = FewShotClassifier(["a", "b"], SPACE)
    lexicon.teach("new", NEW[None])
    lexicon.forget("new")
    said = _said(NEW, 0.5, 0.1)
    assert lexicon.glosses == ("a", "b")
    assert lexicon.apply(said) is said
    with pytest.raises(KeyError):
        lexicon.forget("new")


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
def test_what_can_not_be_learnt_changes_nothing(
    gloss: str, takes: NDArray[np.float32], error: type[FewShotError]
) -> None:
    lexicon = FewShotClassifier(["a", "b"], SPACE)
    with pytest.raises(error):
        lexicon.teach(gloss, takes)
    assert lexicon.glosses == ("a", "b")


def test_there_is_a_bound() -> None:
    lexicon = FewShotClassifier([], EMPTY)
    for number in range(MAX_SIGNS):
        lexicon.teach(f"sign {number}", NEW[None])
    lexicon.teach("sign 0", OTHER[None])  # replacing is no growth
    with pytest.raises(FewShotFull):
        lexicon.teach("one more", NEW[None])


@given(
    st.lists(st.lists(st.floats(-5, 5, width=32), min_size=_DIM, max_size=_DIM), max_size=4),
    st.lists(st.floats(-5, 5, width=32), min_size=_DIM, max_size=_DIM),
    st.booleans(),
)
def test_probabilities_stay_probabilities(
    takes: list[list[float]], seen: list[float], headless: bool
) -> None:
    lexicon = FewShotClassifier([] if headless else ["a", "b"], EMPTY if headless else SPACE)
    for number, one in enumerate(takes):
        if np.linalg.norm(one) >= 1e-3:
            lexicon.teach(f"sign {number}", np.array([one], np.float32))
    p = () if headless else (0.25, 0.5)
    read = lexicon.apply(_said(unit_length(np.array(seen, np.float32)), *p))
    assert len(read.probabilities) == len(lexicon.glosses)
    assert (read.probabilities >= 0).all()
    assert 0 <= read.idle <= 1
    assert read.probabilities.sum() + read.idle == pytest.approx(1, abs=1e-4)
