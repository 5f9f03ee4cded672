"""Who is let in when many come at once, on a clock that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from streaming.admission import Admission, AdmissionGate
from streaming.problems import Problem
from streaming.session import Session
from streaming.settings import ServerSettings
from tests.streaming.simulated import simulate

TURN_S = 0.02


class Willing:
    trouble: str | None = None


class Guest:
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

    def tell_stopping(self, grace_s: float) -> None:
        pass


class Entrance:
    """An admission, and callers who come to it."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.made = 0

    async def come(self, address: str = "a") -> float:
        """When it was in. Raises what admission does."""
        async with self.admission.admitted(address, lambda: self._make(address)):
            await asyncio.sleep(TURN_S)
        return asyncio.get_running_loop().time()

    def burst(self, count: int, address: str = "a") -> list[asyncio.Task[float]]:
        return [asyncio.create_task(self.come(address)) for _ in range(count)]

    def _make(self, address: str) -> Session:
        self.made += 1
        return cast(Session, Guest(self.made, address))


@asynccontextmanager
async def entrance(**settings: Any) -> AsyncIterator[Entrance]:
    places = {"max_sessions": 30, "max_sessions_per_address": 30, "grace_s": 0.5, **settings}
    server = ServerSettings(**places)
    door = AdmissionGate(wait_s=server.wait_s, busy_s=asyncio.get_running_loop().time)
    async with asyncio.TaskGroup() as tasks:
        admission = Admission(server, tasks, door=door, batcher=Willing(), load=Willing())
        yield Entrance(admission)
        await admission.drain()


async def told(burst: list[asyncio.Task[float]]) -> tuple[list[float], list[Problem]]:
    """When those were in who were, and what the others were told."""
    ends = await asyncio.gather(*burst, return_exceptions=True)
    problems = [one for one in ends if isinstance(one, Problem)]
    times = [one for one in ends if isinstance(one, float)]
    assert len(times) + len(problems) == len(burst), ends
    return times, problems


def played(work: Callable[[Entrance], Any], **settings: Any) -> None:
    async def play() -> None:
        async with entrance(**settings) as one:
            await work(one)

    simulate(play())


def test_a_burst_fills_the_places_and_the_rest_is_told_at_once() -> None:
    async def work(one: Entrance) -> None:
        burst = one.burst(300)
        await asyncio.sleep(0)
        assert sum(task.done() for task in burst) == 270
        assert one.admission.coming == 29  # and one in its turn
        in_s, problems = await told(burst)
        assert in_s == pytest.approx([TURN_S + 4 * TURN_S * n for n in range(30)])
        assert len(one.admission) == 30 and one.admission.coming == 0
        assert {problem.status for problem in problems} == {503}
        again = {int(problem.headers["Retry-After"]) for problem in problems}
        assert again == {5, 6, 7}, "at different times"
        assert one.admission.counts.refused == {"full": 270}

    played(work)


def test_those_who_wait_count_for_their_address() -> None:
    async def work(one: Entrance) -> None:
        (_, mine), (_, others) = await asyncio.gather(
            told(one.burst(9, "mine")), told(one.burst(3, "others"))
        )
        assert [problem.status for problem in mine] == [429] * 5 and not others

    played(work, max_sessions_per_address=4)


def test_whose_turn_does_not_come_in_time_is_told_when_to_ask_again() -> None:
    async def work(one: Entrance) -> None:
        in_s, problems = await told(one.burst(30))
        assert len(in_s) == 7 and max(in_s) < 0.6
        assert all(5 <= int(problem.headers["Retry-After"]) <= 7 for problem in problems)
        assert one.admission.counts.refused == {"late": 23} and one.admission.coming == 0
        await asyncio.sleep(5.0)
        in_s, _ = await told(one.burst(7))
        assert len(in_s) == 7

    played(work, wait_s=0.5)


def test_a_server_that_stops_takes_none_of_those_who_wait() -> None:
    async def work(one: Entrance) -> None:
        burst = one.burst(10)
        await asyncio.sleep(2.5 * 4 * TURN_S)
        one.admission.draining = True
        in_s, problems = await told(burst)
        assert len(in_s) == 3 and "stopping" in problems[0].detail
        assert one.admission.counts.refused == {"draining": 7}

    played(work)


def test_who_leaves_while_waiting_leaves_nothing() -> None:
    async def work(one: Entrance) -> None:
        burst = one.burst(10)
        await asyncio.sleep(0.01)
        for task in burst[1:9]:
            task.cancel()
        await asyncio.wait(burst)
        assert burst[9].result() == pytest.approx(5 * TURN_S)
        assert one.made == len(one.admission) == 2 and one.admission.coming == 0

    played(work)


def test_a_session_that_cannot_be_made_takes_no_place() -> None:
    async def work(one: Entrance) -> None:
        def fail() -> Session:
            raise Problem(408, "Nobody waits for an answer any more.")

        for _ in range(40):
            with pytest.raises(Problem):
                async with one.admission.admitted("a", fail):
                    pass
        assert len(one.admission) == 0 and one.admission.coming == 0
        await one.come()

    played(work)
