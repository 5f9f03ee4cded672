"""offline.exporting.parity: when two rankings count as the same."""

from __future__ import annotations

import numpy as np
import pytest

from offline.exporting.parity import first_five_alike

_WANT = [9.0, 7.0, 5.0, 3.0, 1.0, -1.0, -3.0]


@pytest.mark.parametrize(
    ("got", "tie", "alike"),
    [
        ([9.0, 7.0, 5.0, 3.0, 1.0, -1.0, -3.0], 0.0, True),
        ([8.0, 7.5, 5.0, 3.0, 1.0, 0.5, -9.0], 0.0, True),  # only the order counts
        ([9.0, 7.0, 5.0, 3.0, 1.0, -3.0, -1.0], 0.0, True),  # and only of five
        ([7.0, 9.0, 5.0, 3.0, 1.0, -1.0, -3.0], 0.0, False),
        ([9.0, 7.0, 5.0, 3.0, -1.0, 1.0, -3.0], 0.0, False),
        ([7.0, 9.0, 5.0, 3.0, 1.0, -1.0, -3.0], 1.9, False),
        ([7.0, 9.0, 5.0, 3.0, 1.0, -1.0, -3.0], 2.0, True),  # so near that they may change places
        ([9.0, 7.0, 5.0, 3.0, -1.0, 1.0, -3.0], 2.0, False),  # but not the fifth and the sixth
        ([5.0, 7.0, 9.0, 3.0, 1.0, -1.0, -3.0], 2.0, False),
        ([9.0, 7.0, 5.0, 3.0, 1.0, -1.0, np.nan], 9.0, False),
    ],
)
def test_the_same_five_in_the_same_order(got: list[float], tie: float, alike: bool) -> None:
    want = np.array([_WANT, _WANT], np.float32)
    both = np.array([_WANT, got], np.float32)
    assert first_five_alike(want, both, tie).tolist() == [True, alike]


def test_the_sixth_may_be_the_fifth_where_they_are_one_number() -> None:
    want = np.array([[9.0, 7.0, 5.0, 3.0, 1.0, 0.9995, -3.0]], np.float32)
    got = want[:, [0, 1, 2, 3, 5, 4, 6]]
    assert first_five_alike(want, got, 0.02).all() and not first_five_alike(want, got).any()


def test_fewer_than_five_classes() -> None:
    want = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
    assert first_five_alike(want, want[:1].repeat(2, 0)).tolist() == [True, False]
