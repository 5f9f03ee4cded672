"""models.fusion: several answers as one."""

from __future__ import annotations

import numpy as np
import pytest

from models.fusion import fuse

ONE = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32)
OTHER = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]], np.float32)


def test_weights_of_one_multiply() -> None:
    want = ONE * OTHER
    np.testing.assert_allclose(fuse([ONE, OTHER], [1, 1]), want / want.sum(1)[:, None], rtol=1e-5)


def test_a_weight_of_nothing_leaves_the_other_s_answer() -> None:
    np.testing.assert_allclose(fuse([ONE, OTHER], [0, 1]), OTHER, rtol=1e-5)


def test_a_weight_is_a_temperature() -> None:
    want = np.sqrt(ONE) / np.sqrt(ONE).sum(1)[:, None]
    np.testing.assert_allclose(fuse([ONE, OTHER], [0.5, 0]), want, rtol=1e-5)


def test_no_part_rules_a_class_out_alone() -> None:
    sure = np.array([[0.0, 1.0, 0.0]], np.float32)
    other = np.array([[1 - 2e-9, 1e-9, 1e-9]], np.float32)
    assert fuse([sure, other], [1, 1.1])[0].argmax() == 0


def test_as_many_weights_as_parts() -> None:
    with pytest.raises(ValueError, match="shorter"):
        fuse([ONE, OTHER], [1.0])
