"""A soak's findings: what is planted in recorded samples is found, and nothing in clean ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from streaming.bench.soak import ServerSample, allowed_mb_per_h, findings, memory_slope

_EMPTY = ServerSample(
    at_s=0.0, rss_mb=0.0, sessions=0, tasks=4, threads=2, sockets=3, fds=10, served=8
)


def _rounds(mb: Sequence[float], every_s: float) -> list[ServerSample]:
    return [
        replace(_EMPTY, at_s=every_s * n, rss_mb=one, served=8 * (n + 1))
        for n, one in enumerate(mb)
    ]


def _leaking(rounds: Sequence[ServerSample], mb_per_h: float) -> list[ServerSample]:
    return [replace(one, rss_mb=one.rss_mb + mb_per_h * one.at_s / 3600) for one in rounds]


# As they came out on a busy machine.
MINUTE = _rounds([179.3, 190.5, 175.4, 182.1, 186.4], 14)
TEN_MINUTES = _rounds(
    [
        *(130.4, 130.7, 129.8, 130.7, 135.3, 130.7, 131.0, 130.9),
        *(130.1, 130.6, 131.0, 131.3, 143.7, 131.0, 131.7),
    ],
    42,
)


@pytest.mark.parametrize("rounds", [MINUTE, TEN_MINUTES])
def test_a_soak_that_left_nothing_is_found_clean(rounds: list[ServerSample]) -> None:
    assert findings(rounds) == []


@pytest.mark.parametrize(("rounds", "mb_per_h"), [(MINUTE, 4000), (TEN_MINUTES, 100)])
def test_memory_that_grows_is_found(rounds: list[ServerSample], mb_per_h: float) -> None:
    """In ten minutes a leak of 40 kB a session; in one, of 2 MB."""
    leaking = _leaking(rounds, mb_per_h)
    assert memory_slope(leaking)[0] - memory_slope(rounds)[0] == pytest.approx(mb_per_h)
    (found,) = findings(leaking)
    assert found.startswith("memory grows by ")


def test_a_longer_soak_allows_less_growth() -> None:
    assert allowed_mb_per_h(MINUTE) == pytest.approx(8 * 3600 / 56)
    assert allowed_mb_per_h(_rounds([150.0] * 100, 36)) == 10


def test_an_interval_holds_the_slope_that_was_planted() -> None:
    noise = (0.0, 3.0, -2.0, 1.0, -3.0, 2.0, -1.0)
    rounds = _leaking(_rounds([150 + noise[n % 7] for n in range(84)], 36), 100)
    _, low, high = memory_slope(rounds)
    assert 90 < low < 100 < high < 110


@pytest.mark.parametrize("name", ["sessions", "tasks", "threads", "sockets", "fds", "objects"])
def test_one_thing_left_over_is_found(name: str) -> None:
    more = {name: getattr(_EMPTY, name) + 1}
    rounds = [*MINUTE[:-1], replace(MINUTE[-1], **more, names=["video-repair"])]
    assert findings(rounds) == [
        f"1 {name} left over",
        "new among tasks and threads: video-repair",
    ]


def test_a_soak_that_served_nobody_proves_nothing() -> None:
    assert findings([replace(one, served=0) for one in MINUTE]) == ["no session was served"]


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="four"):
        memory_slope(MINUTE[:3])
