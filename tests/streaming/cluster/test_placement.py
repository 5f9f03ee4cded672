"""The order in which servers are asked, by what each said of itself."""

from __future__ import annotations

import random
import time
from collections import Counter
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

from streaming.cluster.placement import RoomRouter, RoomView

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
        self.routing_stats = {"room": self.room, "at_s": self.said}

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


def tell(router: RoomRouter, servers: list[Server]) -> None:
    router.update_replicas(cast(list[RunningReplica], servers))


async def ranked(router: RoomRouter, servers: list[Server], **wanted: Any) -> list[str]:
    """The names, first to last."""
    request = PendingRequest([], wanted, RequestMetadata("1", "1"))
    if not router._view._reports:
        tell(router, servers)
    tiers = await router.choose_replicas(cast(list[RunningReplica], servers), request)
    assert all(len(tier) == 1 for tier in tiers), "Ray picks from a tier as it likes"
    return [tier[0].replica_id.unique_id for tier in tiers]


async def test_of_two_servers_the_one_with_more_room_is_first(router: RoomRouter) -> None:
    servers = [Server("a", 3), Server("b", 90)]
    for _ in range(50):
        assert await ranked(router, servers, room=True) == ["b", "a"]


async def test_callers_since_the_last_report_are_taken_off(router: RoomRouter) -> None:
    big, small = Server("big", 5), Server("small", 3)
    firsts = [(await ranked(router, [big, small], room=True))[0] for _ in range(8)]
    assert firsts[:2] == ["big", "big"], "5 and 4 against 3"
    assert sorted(firsts) == ["big"] * 5 + ["small"] * 3
    big.tells(1)
    tell(router, [big, small])
    assert (await ranked(router, [big, small], room=True))[0] == "big", "told anew: 1 against 0"
    for _ in range(20):
        await ranked(router, [big, small])  # needs no room
    small.tells(2)
    tell(router, [big, small])
    assert (await ranked(router, [big, small], room=True))[0] == "small", "2 against 1 - 1"


async def test_callers_of_one_second_spread_over_those_with_room() -> None:
    view = RoomView(random.Random(17))
    told = {"full": 0, "new": 64, **{f"half{n}": 30 for n in range(8)}}
    view.update([(name, room, 1) for name, room in told.items()], 0.0)
    orders = [view.order(told, 1.0, room=True) for _ in range(900)]
    assert {order[-1] for order in orders} == {"full"}
    first = Counter(order[0] for order in orders)
    assert 150 < first["new"] < 250, "one of two of nine: 200 of 900"
    assert min(first.values()) > 50, "the others share the rest"


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
    assert order[0] == "a" and {*order} == {*"abc"}


async def test_a_server_that_tells_nothing_any_more_comes_last(
    router: RoomRouter, clock: Clock
) -> None:
    lost, small = Server("lost", 64), Server("small", 1)
    everyone = [lost, small]
    tell(router, everyone)
    for _ in range(5):
        assert (await ranked(router, everyone, room=True)) == ["lost", "small"]
        clock.now_s += 1.1
        small.tells()
        tell(router, everyone)
    assert await ranked(router, everyone, room=True) == ["small", "lost"]
    assert await ranked(router, everyone, server="lost") == ["lost", "small"]
    lost.tells()
    tell(router, everyone)
    assert await ranked(router, everyone, room=True) == ["lost", "small"]


async def test_where_none_tells_anything_all_are_equal(router: RoomRouter, clock: Clock) -> None:
    """The controller is gone, or a core is too little for it."""
    servers = [Server("a", 1), Server("b", 9)]
    tell(router, servers)
    clock.now_s += 100
    assert await ranked(router, servers, room=True) == ["b", "a"]


async def test_what_is_known_of_a_server_goes_with_it(router: RoomRouter) -> None:
    here, gone = Server("here", 5), Server("gone", 5)
    tell(router, [here, gone])
    tell(router, [here])
    assert set(router._view._reports) == {"here"}


async def test_without_a_server_there_is_nobody_to_ask(router: RoomRouter) -> None:
    assert await ranked(router, [], room=True) == []


async def test_captions_are_read_where_their_signer_is_now(router: RoomRouter) -> None:
    servers = [Server("a"), Server("b"), Server("c")]
    servers[1].routing_stats["guests"] = ["moved~a"]
    tell(router, servers)
    for guest, first in (("moved~a", "b"), ("there~a", "a")):
        assert (await ranked(router, servers, server="a", guest=guest))[0] == first
    servers[1].tells()  # it has them no more
    tell(router, servers)
    assert (await ranked(router, servers, server="a", guest="moved~a"))[0] == "a"
