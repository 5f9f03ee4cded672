"""Which server a request goes to: Ray Serve's request router, with our measure of room.

    replicas, what each said of itself -> [placement] -> the order in which to ask them

Ray copies this module into the processes that route, so it imports nothing of ours.
docs/reports/cluster.md tells by a simulation what each rule is good for.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

_SILENT_S = 5.0  # a server that has told nothing for so long, four times the usual, is asked last


@dataclass(slots=True)
class _Told:
    """What one server told of itself last."""

    room: float  # sessions that it can still take
    said: Any  # when, by its own clock: it tells two reports apart
    came_s: float  # when this process learned of it
    sent: int = 0  # callers that this process sent there since


class RoomView:
    """In which order one process asks the servers, by what they told. Time is passed in.

    Bound: it keeps what it has of the servers that `tell` named last.
    """

    def __init__(self, chance: random.Random | None = None, *, silent_s: float = _SILENT_S) -> None:
        self._chance = chance or random.Random()
        self._silent_s = silent_s
        self._told: dict[str, _Told] = {}

    def tell(self, reports: Iterable[tuple[str, float, Any]], now_s: float) -> None:
        """Take in each server's name, its room, and when it said so; other servers are gone."""
        before, self._told = self._told, {}
        for name, room, said in reports:
            known = before.get(name)
            same = known is not None and known.said == said
            self._told[name] = known if known and same else _Told(room, said, now_s)

    def send(self, name: str) -> None:
        """A caller is sent to a server, and may take room there that it has not told of yet."""
        if (told := self._told.get(name)) is not None:
            told.sent += 1

    def order(
        self,
        names: Iterable[str],
        now_s: float,
        *,
        server: str = "",
        room: bool = False,
        but: Collection[str] = (),
    ) -> list[str]:
        """These servers, the one to ask first in front: see `RoomRouter`."""

        def last(name: str) -> tuple[bool, bool, bool, bool]:
            """What puts a server behind the others, the strongest reason first."""
            told = self._told.get(name)
            silent = told is not None and now_s - told.came_s > self._silent_s
            full = room and self._room(name) <= 0
            return bool(server) and name != server, name in but, silent, full

        ranked = sorted(names, key=lambda name: (*last(name), self._chance.random()))
        if room and len(ranked) > 1:
            first, second = ranked[:2]
            if last(first) == last(second) and self._room(first) < self._room(second):
                ranked[:2] = second, first
        return ranked

    def _room(self, name: str) -> float:
        told = self._told.get(name)
        return 0.0 if told is None else told.room - told.sent


class RoomRouter(RequestRouter):
    """Ranks the servers for `handle.choose_replica(server=…, guest=…, room=…, but=…)`.

    `server`: the one of that name, if it is there; `guest`: or the one to which captions of that id
    have moved with their signer. `room`: of two with room, drawn at random, the
    one with more comes first; those without come later. `but`: names of servers that were asked
    already, which come last. Otherwise any.

    What a server says of its room is a second old. Were the one with most room always the first,
    all callers of that second would go there. Two choices spread them, and fill servers evenly all
    the same (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). Where
    there are but two servers, what spreads them is that each caller sent since is taken off.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        self._view = RoomView()
        self._guests: dict[str, str] = {}  # captions -> the server that has them now

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        wanted = dict(pending_request.kwargs) if pending_request is not None else {}
        if (moved_to := self._guests.get(wanted.pop("guest", ""))) is not None:
            wanted["server"] = moved_to
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        names = self._view.order(replicas, self._get_curr_time_s(), **wanted)
        if wanted.get("room") and names:
            self._view.send(names[0])
        return [[replicas[name]] for name in names]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        told = [(replica.replica_id.unique_id, replica.routing_stats) for replica in replicas]
        reports = [(name, float(said.get("room", 0)), said.get("said")) for name, said in told]
        self._view.tell(reports, self._get_curr_time_s())
        self._guests = {guest: name for name, said in told for guest in said.get("guests", ())}
        super().update_replicas(replicas)
