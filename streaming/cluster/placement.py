"""Which server a request goes to: Ray Serve's request router, with our measure of room.

    replicas, what each reported -> [placement] -> the order in which to ask them

Ray copies this module into the processes that route, so it imports nothing of ours.
docs/reports/cluster.md tells by a simulation what each rule is good for.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

_SILENT_S = 5.0  # who has reported nothing for so long, four times the usual, is asked last


@dataclass(slots=True)
class _Report:
    """What one server reported last."""

    room: float  # sessions that it can still take
    at_s: Any  # when it was made, by the server's clock: it tells two reports apart
    came_s: float  # when this process learned of it
    sent: int = 0  # callers that this process sent there since


class RoomView:
    """In which order one process asks the servers, by what they reported. Time is passed in.

    Bound: it keeps what it has of the servers that `update` named last.
    """

    def __init__(self, chance: random.Random | None = None, *, silent_s: float = _SILENT_S) -> None:
        self._chance = chance or random.Random()
        self._silent_s = silent_s
        self._reports: dict[str, _Report] = {}

    def update(self, reports: Iterable[tuple[str, float, Any]], now_s: float) -> None:
        """Take in each server's name, its room, and when it reported that; others are gone."""
        before, self._reports = self._reports, {}
        for name, room, at_s in reports:
            known = before.get(name)
            same = known is not None and known.at_s == at_s
            self._reports[name] = known if known and same else _Report(room, at_s, now_s)

    def send(self, name: str) -> None:
        """A caller is sent to a server, and may take room there that it has not reported yet."""
        if (report := self._reports.get(name)) is not None:
            report.sent += 1

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
            report = self._reports.get(name)
            silent = report is not None and now_s - report.came_s > self._silent_s
            full = room and self._room(name) <= 0
            return bool(server) and name != server, name in but, silent, full

        ranked = sorted(names, key=lambda name: (*last(name), self._chance.random()))
        if room and len(ranked) > 1:
            first, second = ranked[:2]
            if last(first) == last(second) and self._room(first) < self._room(second):
                ranked[:2] = second, first
        return ranked

    def _room(self, name: str) -> float:
        report = self._reports.get(name)
        return 0.0 if report is None else report.room - report.sent


class RoomRouter(RequestRouter):
    """Ranks the servers for `handle.choose_replica(server=…, guest=…, room=…, but=…)`.

    `server`: the one of that name, if it is there; `guest`: or the one to which captions of that id
    have moved with their signer. `room`: of two with room, drawn at random, the one with more comes
    first; those without come later. `but`: names of servers that were asked already, which come
    last. Otherwise any.

    What a server reports of its room is a second old. Were the one with most room always the first,
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
        stats = [(replica.replica_id.unique_id, replica.routing_stats) for replica in replicas]
        reports = [(name, float(one.get("room", 0)), one.get("at_s")) for name, one in stats]
        self._view.update(reports, self._get_curr_time_s())
        self._guests = {guest: name for name, one in stats for guest in one.get("guests", ())}
        super().update_replicas(replicas)
