"""Who is admitted when many come at once, and how fast, on a clock that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from streaming.admission import Admission, AdmissionGate, WaitedTooLong
from streaming.batcher import Batcher
from streaming.load import LoadMeter
from streaming.problems import Problem
from streaming.session import Session
from streaming.settings import ServerSettings
from tests.streaming.simulated import simulate

TURN_S = 0.02
SETTLED_S = 10.0


class WorkingBatcher:
    trouble: str | None = None


class IdleLoad:
    def trouble(self, sessions: int) -> str | None:
        return None


class FakeSession:
    """A session that stays until it is ended."""

    end_reason = "fault"

    def __init__(self, number: int, address: str) -> None:
        self.id = f"{number}"
        self.address = address
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        await self.ended

    def end(self, reason: str) -> None:
        self.end_reason = reason
        self.ended.set_result(None)

    def warn_stopping(self, grace_s: float) -> None:
        pass


class Callers:
    """An admission, and the callers that come to it."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.made = 0

    async def come(self, address: str = "a") -> float:
        """When it was admitted. Raises what `Admission.admitted` raises."""
        async with self.admission.admitted(address, lambda: self._make(address)):
            await asyncio.sleep(TURN_S)
        return asyncio.get_running_loop().time()

    def burst(self, count: int, address: str = "a") -> list[asyncio.Task[float]]:
        return [asyncio.create_task(self.come(address)) for _ in range(count)]

    def _make(self, address: str) -> Session:
        self.made += 1
        return cast(Session, FakeSession(self.made, address))


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[Callers]:
    places = {"max_sessions": 30, "max_sessions_per_address": 30, "grace_s": 0.5, **settings}
    server = ServerSettings(**places)
    gate = AdmissionGate(wait_s=server.wait_s, busy_s=asyncio.get_running_loop().time)
    batcher, load = cast(Batcher, WorkingBatcher()), cast(LoadMeter, IdleLoad())
    async with asyncio.TaskGroup() as tasks:
        admission = Admission(server, tasks, gate=gate, batcher=batcher, load=load)
        yield Callers(admission)
        await admission.drain()


async def outcome(burst: list[asyncio.Task[float]]) -> tuple[list[float], list[Problem]]:
    """When the admitted were admitted, and the problems of the others."""
    ends = await asyncio.gather(*burst, return_exceptions=True)
    problems = [one for one in ends if isinstance(one, Problem)]
    times = [one for one in ends if isinstance(one, float)]
    assert len(times) + len(problems) == len(burst), ends
    return times, problems


def played(work: Callable[[Callers], Any], **settings: Any) -> None:
    async def play() -> None:
        async with served(**settings) as callers:
            await work(callers)

    simulate(play())


def test_a_burst_fills_the_places_and_the_rest_is_refused_at_once() -> None:
    async def work(callers: Callers) -> None:
        burst = callers.burst(300)
        await asyncio.sleep(0)
        assert sum(task.done() for task in burst) == 270
        assert callers.admission.coming == 29  # and one in its turn
        in_s, problems = await outcome(burst)
        assert in_s == pytest.approx([TURN_S + 4 * TURN_S * n for n in range(30)])
        assert len(callers.admission) == 30 and callers.admission.coming == 0
        assert {problem.status for problem in problems} == {503}
        again = {int(problem.headers["Retry-After"]) for problem in problems}
        assert again == {5, 6, 7}, "at different times"
        assert callers.admission.counts.refused == {"full": 270}

    played(work)


def test_waiting_callers_count_for_their_address() -> None:
    async def work(callers: Callers) -> None:
        (_, mine), (_, others) = await asyncio.gather(
            outcome(callers.burst(9, "mine")), outcome(callers.burst(3, "others"))
        )
        assert [problem.status for problem in mine] == [429] * 5 and not others

    played(work, max_sessions_per_address=4)


@pytest.mark.parametrize(
    ("address", "places", "most"),
    [("192.0.2.1", 8, 4), ("2001:db8::/64", 8, 4), ("192.0.2.1", 2, 2), ("127.0.0.1", 8, 8)],
)
def test_one_address_gets_half_of_the_places(address: str, places: int, most: int) -> None:
    async def work(callers: Callers) -> None:
        in_s, problems = await outcome(callers.burst(9, address))
        assert len(in_s) == most
        assert {problem.status for problem in problems} == {429 if most < places else 503}

    played(work, max_sessions=places, max_sessions_per_address=None)


def test_a_caller_whose_turn_comes_too_late_gets_retry_after() -> None:
    async def work(callers: Callers) -> None:
        in_s, problems = await outcome(callers.burst(30))
        assert len(in_s) == 7 and max(in_s) < 0.6
        assert all(5 <= int(problem.headers["Retry-After"]) <= 7 for problem in problems)
        assert callers.admission.counts.refused == {"late": 23} and callers.admission.coming == 0
        await asyncio.sleep(5.0)
        in_s, _ = await outcome(callers.burst(7))
        assert len(in_s) == 7

    played(work, wait_s=0.5)


def test_a_draining_server_refuses_those_who_wait() -> None:
    async def work(callers: Callers) -> None:
        burst = callers.burst(10)
        await asyncio.sleep(2.5 * 4 * TURN_S)
        callers.admission.draining = True
        in_s, problems = await outcome(burst)
        assert len(in_s) == 3 and "stopping" in problems[0].detail
        assert callers.admission.counts.refused == {"draining": 7}

    played(work)


def test_a_caller_that_leaves_while_waiting_leaves_nothing() -> None:
    async def work(callers: Callers) -> None:
        burst = callers.burst(10)
        await asyncio.sleep(0.01)
        for task in burst[1:9]:
            task.cancel()
        await asyncio.wait(burst)
        assert burst[9].result() == pytest.approx(5 * TURN_S)
        assert callers.made == len(callers.admission) == 2 and callers.admission.coming == 0

    played(work)


def test_a_session_that_cannot_be_made_takes_no_place() -> None:
    async def work(callers: Callers) -> None:
        def fail() -> Session:
            raise Problem(408, "The caller has left.")

        for _ in range(40):
            with pytest.raises(Problem):
                async with callers.admission.admitted("a", fail):
                    pass
        assert len(callers.admission) == 0 and callers.admission.coming == 0
        await callers.come()

    played(work)


async def come(gate: AdmissionGate, turn_s: float = TURN_S) -> float:
    """When its turn came."""
    with await gate.turn():
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(turn_s)
    return began_s


def came(*turns_s: float, wait_s: float = 5.0) -> list[float | None]:
    """When the turns came of callers who came at once; None: not in time."""

    async def work() -> list[float | None]:
        gate = AdmissionGate(wait_s=wait_s, busy_s=asyncio.get_running_loop().time)
        all_came = asyncio.gather(*(come(gate, s) for s in turns_s), return_exceptions=True)
        turns = [one if isinstance(one, float) else None for one in await all_came]
        await asyncio.sleep(SETTLED_S)
        assert gate._turns._value == 1, "it is open again, and no wider than before"
        return turns

    return simulate(work())


def test_turns_come_one_after_another_with_pauses() -> None:
    assert came(*[TURN_S] * 4) == pytest.approx([0.0, 0.08, 0.16, 0.24])


def test_a_turn_that_waits_for_the_network_delays_the_others_briefly() -> None:
    assert came(TURN_S, 3.0, 3.0, TURN_S) == pytest.approx([0.0, 0.08, 0.33, 0.58])


def test_turns_that_come_too_late_are_errors() -> None:
    *in_time, fourth, fifth = came(*[TURN_S] * 5, wait_s=0.2)
    assert in_time == pytest.approx([0.0, 0.08, 0.16])
    assert fourth is None and fifth is None


def test_a_turn_without_work_has_no_pause() -> None:
    async def work() -> None:
        gate = AdmissionGate(wait_s=5.0, busy_s=lambda: 0.0)
        began_s = await asyncio.gather(*(come(gate, 0.1) for _ in range(3)))
        assert began_s == pytest.approx([0.0, 0.1, 0.2])

    simulate(work())


def test_cancelled_and_failed_turns_delay_nobody() -> None:
    async def fail(gate: AdmissionGate) -> None:
        with await gate.turn():
            raise OSError("a turn that came to nothing")

    async def work() -> None:
        gate = AdmissionGate(wait_s=1.0, busy_s=asyncio.get_running_loop().time)
        first, leaves, last = (asyncio.create_task(come(gate)) for _ in range(3))
        await asyncio.sleep(0.01)
        leaves.cancel()
        assert await first == 0.0 and await last == pytest.approx(0.08)
        await asyncio.sleep(SETTLED_S)
        for _ in range(100):
            with pytest.raises(OSError):
                await fail(gate)
        began_s = asyncio.get_running_loop().time()
        assert await come(gate) == pytest.approx(began_s)
        with pytest.raises(WaitedTooLong):
            await asyncio.gather(*(come(gate, 0.5) for _ in range(9)))

    simulate(work())
