"""Which server a request goes to: Ray Serve's request router, with our measure of room.

    replicas, what each said of itself -> [placement] -> the order in which to ask them

Ray copies this module into the processes that route, so it imports nothing of ours.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

_SUSPECT_S = 30.0  # a server that could not be reached is asked last for so long


class RoomRouter(RequestRouter):
    """Ranks the servers for `handle.choose_replica(server=…, room=…, but=…)`.

    `server`: the one of that name, if it is there. `room`: those with most room first. `but`: names
    of servers that were asked already, which come last. Otherwise any.

    What a server says of its room is about a second old. Each caller that was sent to it since is
    taken off, so that those who come together do not all go to one.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        self._sent: dict[ReplicaID, tuple[Any, int]] = {}  # since the room was told: what, how many
        self._suspect_s: dict[ReplicaID, float] = {}

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        wanted = pending_request.kwargs if pending_request is not None else {}
        server, but = wanted.get("server", ""), wanted.get("but", ())
        ranked = random.sample(candidate_replicas, len(candidate_replicas))
        if wanted.get("room"):
            ranked.sort(key=self._room, reverse=True)
        ranked.sort(key=lambda replica: self._last(replica, server, but))
        if wanted.get("room") and ranked:
            self._count(ranked[0])
        return [[replica] for replica in ranked]

    def on_replica_actor_unavailable(self, replica_id: ReplicaID) -> None:
        self._suspect_s[replica_id] = self._get_curr_time_s()
        super().on_replica_actor_unavailable(replica_id)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        here = {replica.replica_id for replica in replicas}
        self._sent = {id: sent for id, sent in self._sent.items() if id in here}
        self._suspect_s = {id: since for id, since in self._suspect_s.items() if id in here}
        super().update_replicas(replicas)

    def _last(
        self, replica: RunningReplica, server: str, but: Collection[str]
    ) -> tuple[bool, bool, bool]:
        """What puts a server behind the others, the strongest reason first."""
        name = replica.replica_id.unique_id
        suspect_s = self._suspect_s.get(replica.replica_id)
        suspect = suspect_s is not None and self._get_curr_time_s() - suspect_s < _SUSPECT_S
        return bool(server) and name != server, name in but, suspect

    def _room(self, replica: RunningReplica) -> float:
        """Sessions that it can still take, less the callers that were sent to it meanwhile."""
        said = replica.routing_stats
        sent_since, count = self._sent.get(replica.replica_id, (None, 0))
        return float(said.get("room", 0)) - (count if sent_since == said.get("said") else 0)

    def _count(self, replica: RunningReplica) -> None:
        said = replica.routing_stats.get("said")
        sent_since, count = self._sent.get(replica.replica_id, (None, 0))
        self._sent[replica.replica_id] = (said, count + 1 if sent_since == said else 1)
