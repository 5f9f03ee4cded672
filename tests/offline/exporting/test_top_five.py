"""offline.exporting.top_five: when two rankings count as the same."""

from __future__ import annotations

import numpy as np
import pytest

from offline.exporting.top_five import first_five_alike

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
        ([9.0, 7.0, 5.0, 3.0, -1.0, 1.0, -3.0], 2.0, True),  # the fifth and the sixth too
        ([5.0, 7.0, 9.0, 3.0, 1.0, -1.0, -3.0], 2.0, False),
        ([9.0, 7.0, 5.0, 3.0, 1.0, -1.0, np.nan], 9.0, False),
    ],
)
def test_the_same_five_in_the_same_order(got: list[float], tie: float, alike: bool) -> None:
    want = np.array([_WANT, _WANT], np.float32)
    both = np.array([_WANT, got], np.float32)
    assert first_five_alike(want, both, tie).tolist() == [True, alike]


def test_fewer_than_five_classes() -> None:
    want = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
    assert first_five_alike(want, want[:1].repeat(2, 0)).tolist() == [True, False]
