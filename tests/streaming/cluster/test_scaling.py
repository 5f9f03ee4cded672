"""How many servers there should be, for sessions and room that are written down here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streaming.cluster import ingress, scaling
from streaming.cluster.replica import Refusals
from streaming.cluster.scaling import by_room, servers_needed


@pytest.mark.parametrize(
    ("now", "sessions", "room", "wanted"),
    [
        # a quarter of a server's eight places must be left
        (1, [0], [8], 1),
        (1, [6], [2], 1),
        (1, [7], [1], 2),
        (1, [8], [0], 2),
        (2, [8, 8], [0, 0], 3),
        (10, [8] * 10, [0] * 10, 11),
        # and a tenth of all sessions, which is more than that from 160 places on
        (160, [62.5] * 160, [1.5] * 160, 172),
        (180, [55.5] * 180, [8.5] * 180, 180),
        (190, [52.6] * 190, [11.4] * 190, 180),
        # one goes when half of a server's places are left without it
        (2, [0, 0], [8, 8], 1),
        (2, [2, 2], [6, 6], 1),
        (2, [4, 0], [4, 8], 1),
        (2, [3, 3], [5, 5], 2),
        (2, [6, 0], [2, 8], 2),
        (8, [1] * 8, [7] * 8, 2),
        # the measured room is what counts: these are slow machines that take three
        (2, [3, 3], [0, 0], 3),
        (2, [1, 0], [2, 3], 1),
        # one place in all must be left, however small a server is
        (1, [1], [0], 2),
        (1, [0], [1], 1),
        (2, [1, 0], [0, 1], 2),
        # not ready, or draining: there is one server at least
        (1, [0], [0], 1),
        (3, [0, 0, 0], [0, 0, 0], 1),
        # another is starting: it is not asked for twice, and not taken back
        (2, [7], [1], 2),
        (2, [8], [0], 2),
    ],
)
def test_servers_needed(now: int, sessions: list[float], room: list[float], wanted: int) -> None:
    assert servers_needed(now, sessions, room) == wanted


def test_callers_who_found_no_room_count_as_sessions() -> None:
    assert servers_needed(1, [64], [0], 500) == 10
    assert servers_needed(9, [64] * 9, [0] * 9) == 10


@pytest.mark.parametrize("busy", range(65))
def test_what_was_wanted_is_still_wanted(busy: int) -> None:
    """No number of sessions makes servers come and go by turns."""
    now = 1
    for _ in range(20):
        each, more = divmod(busy, now)
        sessions = [float(min(8, each + (n < more))) for n in range(now)]
        wanted = servers_needed(now, sessions, [8 - one for one in sessions])
        if wanted == now:
            return
        now = wanted
    raise AssertionError(f"{busy} sessions: it never rests")


@pytest.mark.parametrize(("sessions", "room"), [([], []), ([1], []), ([1, 2], [3])])
def test_without_numbers_all_stays_as_it_is(sessions: list[float], room: list[float]) -> None:
    assert servers_needed(3, sessions, room) == 3


def context(now: int, raw_metrics: Any) -> Any:
    return SimpleNamespace(target_num_replicas=now, raw_metrics=raw_metrics)


def series(*values: float) -> list[Any]:
    return [SimpleNamespace(timestamp=float(n), value=value) for n, value in enumerate(values)]


def test_the_newest_numbers_count() -> None:
    metrics = {
        "sessions": {"a": series(0, 0, 0, 8), "b": series(0, 8)},
        "room": {"b": series(8, 0), "a": series(8, 8, 8, 0)},
    }
    assert by_room(context(2, metrics)) == (3, {})


def test_a_caller_whom_three_servers_refused_counts_once() -> None:
    one = {"sessions": {"a": series(8)}, "room": {"a": series(0)}, "refused": {"a": series(8)}}
    assert by_room(context(1, one)) == (3, {})
    assert scaling._ASKED == ingress._MOST_ASKED  # Ray copies scaling, so it can't import that
    four = {name: {server: points["a"] for server in "abcd"} for name, points in one.items()}
    # 32 sessions, 32 refusals of 11 callers, and a tenth
    assert by_room(context(4, four)) == (6, {})


def test_refused_callers_are_counted_until_they_have_called_again() -> None:
    now_s = 0.0
    refusals = Refusals(lambda: now_s)
    assert refusals.newest({"full": 5, "draining": 2}) == 0  # from before the first look
    now_s = 1.0
    assert refusals.newest({"full": 8, "late": 1, "draining": 9}) == 4
    now_s = 7.0
    assert refusals.newest({"full": 9, "late": 1, "draining": 9}) == 5
    now_s = 8.5
    assert refusals.newest({"full": 9, "late": 1, "draining": 9}) == 1


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        {},
        {"sessions": {"a": series(8)}},
        {"sessions": {"a": series(8)}, "room": {"a": []}},
        {"queue": {"a": series(8)}},
    ],
)
def test_missing_metrics_change_nothing(metrics: Any) -> None:
    assert by_room(context(2, metrics)) == (2, {})
