"""How fast callers come in, on a clock that jumps."""

from __future__ import annotations

import asyncio

import pytest

from streaming.admission import AdmissionGate, WaitedTooLong
from tests.streaming.simulated import simulate

TURN_S = 0.02
SETTLED_S = 10.0


async def come(door: AdmissionGate, turn_s: float = TURN_S) -> float:
    """When its turn came."""
    with await door.turn():
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(turn_s)
    return began_s


def came(*turns_s: float, wait_s: float = 5.0) -> list[float | None]:
    """When the turns came of callers who came at once; None: not in time."""

    async def work() -> list[float | None]:
        door = AdmissionGate(wait_s=wait_s, busy_s=asyncio.get_running_loop().time)
        all_came = asyncio.gather(*(come(door, s) for s in turns_s), return_exceptions=True)
        told = [one if isinstance(one, float) else None for one in await all_came]
        await asyncio.sleep(SETTLED_S)
        assert door._turns._value == 1, "it is open again, and no wider than before"
        return told

    return simulate(work())


def test_callers_come_in_one_after_another_and_most_of_the_time_is_left() -> None:
    assert came(*[TURN_S] * 4) == pytest.approx([0.0, 0.08, 0.16, 0.24])


def test_who_waits_for_the_network_keeps_the_others_waiting_for_a_while_only() -> None:
    assert came(TURN_S, 3.0, 3.0, TURN_S) == pytest.approx([0.0, 0.08, 0.33, 0.58])


def test_nobody_waits_for_ever() -> None:
    *in_time, fourth, fifth = came(*[TURN_S] * 5, wait_s=0.2)
    assert in_time == pytest.approx([0.0, 0.08, 0.16])
    assert fourth is None and fifth is None


def test_who_only_waits_keeps_the_door_shut_no_longer() -> None:
    async def work() -> None:
        door = AdmissionGate(wait_s=5.0, busy_s=lambda: 0.0)
        began_s = await asyncio.gather(*(come(door, 0.1) for _ in range(3)))
        assert began_s == pytest.approx([0.0, 0.1, 0.2])

    simulate(work())


def test_who_leaves_the_queue_and_who_fails_hold_nobody_up() -> None:
    async def fail(door: AdmissionGate) -> None:
        with await door.turn():
            raise OSError("a turn that came to nothing")

    async def work() -> None:
        door = AdmissionGate(wait_s=1.0, busy_s=asyncio.get_running_loop().time)
        first, leaves, last = (asyncio.create_task(come(door)) for _ in range(3))
        await asyncio.sleep(0.01)
        leaves.cancel()
        assert await first == 0.0 and await last == pytest.approx(0.08)
        await asyncio.sleep(SETTLED_S)
        for _ in range(100):
            with pytest.raises(OSError):
                await fail(door)
        began_s = asyncio.get_running_loop().time()
        assert await come(door) == pytest.approx(began_s)
        with pytest.raises(WaitedTooLong):
            await asyncio.gather(*(come(door, 0.5) for _ in range(9)))

    simulate(work())
