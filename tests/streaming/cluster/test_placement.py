"""The order in which servers are asked, by what each said of itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve.request_router import PendingRequest, RunningReplica

from streaming.cluster.placement import RoomRouter

SERVERS = DeploymentID("servers", "livegloss")


@dataclass
class Server:
    """A `RunningReplica`, as far as a router looks at it."""

    name: str
    room: float = 0
    said: float = 0.0
    routing_stats: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.tells()

    @property
    def replica_id(self) -> ReplicaID:
        return ReplicaID(self.name, SERVERS)

    def tells(self, room: float | None = None) -> None:
        self.room = self.room if room is None else room
        self.said += 1
        self.routing_stats = {"room": self.room, "said": self.said}

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return 0


class Clock:
    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def router(clock: Clock) -> RoomRouter:
    router = RoomRouter(SERVERS, DeploymentHandleSource.UNKNOWN, get_curr_time_s=clock)
    router.initialize_state()
    return router


async def ranked(router: RoomRouter, servers: list[Server], **wanted: Any) -> list[str]:
    """The names, first to last."""
    request = PendingRequest([], wanted, RequestMetadata("1", "1"))
    tiers = await router.choose_replicas(cast(list[RunningReplica], servers), request)
    assert all(len(tier) == 1 for tier in tiers), "Ray picks from a tier as it likes"
    return [tier[0].replica_id.unique_id for tier in tiers]


async def test_most_room_comes_first(router: RoomRouter) -> None:
    servers = [Server("a", 2), Server("b", 7), Server("c", 0), Server("d", 4)]
    assert await ranked(router, servers, room=True) == ["b", "d", "a", "c"]


async def test_callers_since_the_last_report_are_taken_off(router: RoomRouter) -> None:
    big, small = Server("big", 5), Server("small", 3)
    firsts = [(await ranked(router, [big, small], room=True))[0] for _ in range(8)]
    assert firsts[:2] == ["big", "big"], "5 and 4 against 3"
    assert sorted(firsts) == ["big"] * 5 + ["small"] * 3
    big.tells(1)
    assert (await ranked(router, [big, small], room=True))[0] == "big", "told anew: 1 against 0"
    small.tells(2)
    assert (await ranked(router, [big, small], room=True))[0] == "small", "2 against 1 - 1"


async def test_those_who_need_no_room_count_as_no_caller(router: RoomRouter) -> None:
    one, other = Server("one", 2), Server("other", 1)
    for _ in range(20):
        await ranked(router, [one, other])
    assert (await ranked(router, [one, other], room=True))[0] == "one"


async def test_any_server_may_be_first_where_room_is_not_asked_for(router: RoomRouter) -> None:
    servers = [Server("a", 9), Server("b", 0)]
    assert {(await ranked(router, servers))[0] for _ in range(100)} == {"a", "b"}


async def test_a_server_that_has_told_nothing_has_no_room(router: RoomRouter) -> None:
    silent, telling = Server("silent", 9), Server("telling", 1)
    silent.routing_stats = {}
    assert (await ranked(router, [silent, telling], room=True))[0] == "telling"


async def test_a_named_server_comes_first(router: RoomRouter) -> None:
    servers = [Server("a", 1), Server("b", 9), Server("c", 5)]
    for _ in range(10):
        assert (await ranked(router, servers, server="a"))[0] == "a"
    assert set(await ranked(router, servers, server="gone")) == {"a", "b", "c"}


async def test_those_that_were_asked_come_last(router: RoomRouter) -> None:
    servers = [Server("a", 1), Server("b", 9), Server("c", 5)]
    order = await ranked(router, servers, room=True, but=["b", "c"])
    assert order == ["a", "b", "c"]


async def test_a_server_that_could_not_be_reached_comes_last_for_a_while(
    router: RoomRouter, clock: Clock
) -> None:
    servers = [Server("a", 1), Server("b", 9)]
    router.on_replica_actor_unavailable(servers[1].replica_id)
    assert await ranked(router, servers, room=True) == ["a", "b"]
    assert await ranked(router, servers, server="b") == ["b", "a"], "nobody else has its sessions"
    clock.now_s += 29
    assert await ranked(router, servers, room=True) == ["a", "b"]
    clock.now_s += 2
    assert await ranked(router, servers, room=True) == ["b", "a"]


async def test_what_is_known_of_a_server_goes_with_it(router: RoomRouter) -> None:
    here, gone = Server("here", 5), Server("gone", 5)
    for _ in range(4):
        await ranked(router, [here, gone], room=True)
    router.on_replica_actor_unavailable(gone.replica_id)
    router.update_replicas(cast(list[RunningReplica], [here]))
    assert set(router._sent) == {here.replica_id} and not router._suspect_s


async def test_without_a_server_there_is_nobody_to_ask(router: RoomRouter) -> None:
    assert await ranked(router, [], room=True) == []
