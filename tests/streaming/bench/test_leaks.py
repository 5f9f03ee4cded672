"""A soak's judge finds what is planted in recorded numbers, and nothing in them as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from streaming.bench.leaks import Vitals, borne_mb_per_h, findings, slope

_NOBODY = Vitals(at_s=0.0, rss_mb=0.0, sessions=0, tasks=4, threads=2, sockets=3, fds=10, served=8)


def _rounds(mb: Sequence[float], every_s: float) -> list[Vitals]:
    return [
        replace(_NOBODY, at_s=every_s * n, rss_mb=one, served=8 * (n + 1))
        for n, one in enumerate(mb)
    ]


def _leaking(rounds: Sequence[Vitals], mb_per_h: float) -> list[Vitals]:
    return [replace(one, rss_mb=one.rss_mb + mb_per_h * one.at_s / 3600) for one in rounds]


# As they came out on a busy machine.
MINUTE = _rounds([179.3, 190.5, 175.4, 182.1, 186.4], 14)
TEN_MINUTES = _rounds(
    [
        130.4,
        130.7,
        129.8,
        130.7,
        135.3,
        130.7,
        131.0,
        130.9,
        130.1,
        130.6,
        131.0,
        131.3,
        143.7,
        131.0,
        131.7,
    ],
    42,
)


@pytest.mark.parametrize("rounds", [MINUTE, TEN_MINUTES])
def test_a_soak_that_left_nothing_is_found_clean(rounds: list[Vitals]) -> None:
    assert findings(rounds) == []


@pytest.mark.parametrize(("rounds", "mb_per_h"), [(MINUTE, 4000), (TEN_MINUTES, 100)])
def test_memory_that_grows_is_found(rounds: list[Vitals], mb_per_h: float) -> None:
    """In ten minutes a leak of 40 kB a session; in one, of 2 MB."""
    leaking = _leaking(rounds, mb_per_h)
    assert slope(leaking).mb_per_h - slope(rounds).mb_per_h == pytest.approx(mb_per_h)
    (found,) = findings(leaking)
    assert found.startswith("memory grows by ")


def test_the_longer_a_soak_the_less_is_borne() -> None:
    assert borne_mb_per_h(MINUTE) == pytest.approx(8 * 3600 / 56)
    assert borne_mb_per_h(_rounds([150.0] * 100, 36)) == 10


def test_an_interval_holds_the_slope_that_was_planted() -> None:
    noise = (0.0, 3.0, -2.0, 1.0, -3.0, 2.0, -1.0)
    rounds = _leaking(_rounds([150 + noise[n % 7] for n in range(84)], 36), 100)
    found = slope(rounds)
    assert 90 < found.low < 100 < found.high < 110


@pytest.mark.parametrize("name", ["sessions", "tasks", "threads", "sockets", "fds", "objects"])
def test_one_thing_left_over_is_found(name: str) -> None:
    more = {name: getattr(_NOBODY, name) + 1}
    rounds = [*MINUTE[:-1], replace(MINUTE[-1], **more, named=["video-repair"])]
    assert findings(rounds) == [
        f"1 {name} left over",
        "new among tasks and threads: video-repair",
    ]


def test_a_soak_that_served_nobody_proves_nothing() -> None:
    assert findings([replace(one, served=0) for one in MINUTE]) == ["no session was served"]


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="four"):
        slope(MINUTE[:3])
