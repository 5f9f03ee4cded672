"""Likeness, against a plain loop over shifts; and what rules pairs out never rules out a copy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from offline.data.duplicates import (
    MotionTrack,
    appearance,
    find_duplicates,
    main_directions,
    similarity,
    similarity_bound,
)
from offline.data.fingerprints import Fingerprint


def _clip(draw: np.random.Generator, steps: int, wall: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two blobs that wander in front of a wall."""
    y, x = np.mgrid[:8, :8]
    cells = np.tile(wall, (steps, 1))
    for _ in range(2):
        path = np.cumsum(draw.normal(0, 0.7, (steps, 2)), 0) + draw.uniform(1, 6, 2)
        far = (y.ravel() - path[:, :1]) ** 2 + (x.ravel() - path[:, 1:]) ** 2
        cells += 60 * np.exp(-far / 3)
    return cells


def _as_print(cells: NDArray[np.float64]) -> Fingerprint:
    return np.asarray(cells.clip(0, 255).round(), np.uint8)


@pytest.fixture(scope="module")
def prints() -> dict[str, Fingerprint]:
    """60 clips before three walls, some too short; copies trimmed, brighter, half a step later."""
    draw = np.random.default_rng(0)
    walls = draw.uniform(20, 150, (3, 64))
    clips = [_clip(draw, int(draw.integers(3, 40)), walls[n % 3]) for n in range(60)]
    made = {f"clip {n}": _as_print(clip) for n, clip in enumerate(clips)}
    for n, clip in enumerate(clips[:20]):
        made[f"brighter {n}"] = _as_print(clip * 0.9 + 12 + draw.normal(0, 0.5, clip.shape))
        made[f"trimmed {n}"] = _as_print(clip[len(clip) // 8 : len(clip) - len(clip) // 5])
        made[f"later {n}"] = _as_print((clip[1:] + clip[:-1]) / 2)
    return made


def _by_shifts(one: Fingerprint, other: Fingerprint) -> float:
    """What `similarity` says it is, one shift after the other."""
    even = []
    for cells in sorted((one, other), key=len):
        grey = cells - cells.mean(1, keepdims=True)
        even.append(grey / np.maximum(grey.std(1, keepdims=True), 8))
    a, whole = even
    shortest, best = max(5, round(0.6 * len(a))), 0.0
    for b in (whole, (whole[1:] + whole[:-1]) / 2):
        for shift in range(shortest - len(a), len(b) - shortest + 1):
            first, last = max(0, -shift), min(len(a), len(b) - shift)
            if last - first >= shortest:
                x, y = a[first:last], b[first + shift : last + shift]
                x, y = x - x.mean(0), y - y.mean(0)
                best = max(best, (x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6))
    return best


def test_likeness_is_the_highest_correlation_of_all_shifts(prints: dict[str, Fingerprint]) -> None:
    pairs = list(combinations(prints.values(), 2))[::41]
    assert any(len(a) < 5 for a, _ in pairs) and len(pairs) > 150
    for a, b in pairs:
        assert similarity(a, b) == pytest.approx(_by_shifts(a, b), abs=1e-4)


def test_a_few_directions_never_say_less_than_all(prints: dict[str, Fingerprint]) -> None:
    clips = sorted((p for p in prints.values() if len(p) >= 5), key=len)
    few = main_directions(clips, 6)
    whole, halfway = (MotionTrack.of(clips, few, halfway=halfway) for halfway in (False, True))
    ruled_out = 0
    for one in range(0, len(clips) - 1, 10):
        others = np.arange(one + 1, len(clips))
        most = np.maximum(
            *(similarity_bound(whole, one, those, others) for those in (whole, halfway))
        )
        alike = np.array([similarity(clips[one], clips[other]) for other in others])
        assert (most >= alike - 1e-4).all()
        ruled_out += int((most < 0.95).sum())
    assert ruled_out > 300  # so it is of use


def test_copies_are_those_that_comparing_each_pair_finds(prints: dict[str, Fingerprint]) -> None:
    look = dict(zip(prints, appearance(list(prints.values())), strict=True))
    one_by_one = [
        (a, b)
        for a, b in combinations(prints, 2)
        if look[a][:64] @ look[b][:64] >= 0.9
        and look[a][64:] @ look[b][64:] >= 0.7
        and _by_shifts(prints[a], prints[b]) >= 0.95
    ]
    assert find_duplicates(prints) == one_by_one
    for kind in ("brighter", "trimmed", "later"):
        assert sum(b.startswith(kind) for a, b in one_by_one if a.startswith("clip")) > 10


def test_nothing_and_stillness_have_no_copies() -> None:
    still = np.full((12, 64), 90, np.uint8)
    assert find_duplicates({}) == find_duplicates({"a": still[:0], "b": still[:1]}) == []
    assert find_duplicates({"a": still, "b": still.copy()}) == []
