"""How many servers there should be: Ray Serve's autoscaling policy, by the room that is left.

    sessions and room of each server -> [scaling] -> how many servers

Ray copies this module into its controller, so it imports nothing of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_SPARE = 0.25  # of a server's sessions: so much room must be left, or another server starts
_SPARE_AFTER = 0.5  # so much must be left without it before a server goes


def by_room(context: Any) -> tuple[int, dict[str, Any]]:
    """The policy: `context` is Ray Serve's `AutoscalingContext`.

    Its metrics are those of `replica.Replica.record_autoscaling_stats`; the newest count, since a
    mean over time would see a server full long after it was. Delays and bounds are Ray's.
    """
    metrics = context.raw_metrics or {}
    sessions, room = (_newest(metrics.get(name, {})) for name in ("sessions", "room"))
    return servers_needed(context.target_num_replicas, sessions, room), {}


def servers_needed(now: int, sessions: list[float], room: list[float]) -> int:
    """How many servers there should be, where there are or will be `now`.

    Args:
        sessions: of each server that has told it.
        room: further sessions that each of them could take.
    """
    if not sessions or len(sessions) != len(room):
        return now
    each = max(1.0, (sum(sessions) + sum(room)) / len(sessions))

    def enough(spare: float) -> int:
        return max(1, math.ceil((sum(sessions) + max(1.0, spare * each)) / each - 1e-9))

    return max(enough(_SPARE), min(now, enough(_SPARE_AFTER)))


def _newest(series: Mapping[Any, Any]) -> list[float]:
    return [points[-1].value for _, points in sorted(series.items(), key=str) if points]
