"""How many servers there should be: Ray Serve's autoscaling policy, by the room that is left.

    sessions and room of each server -> [scaling] -> how many servers

Ray copies this module into its controller, so it imports nothing of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# So much room must be left, or another server starts: a share of what one server takes, and of all
# sessions, as many come at once where there are many. docs/reports/cluster.md has how both do.
_SPARE, _SPARE_OF_ALL = 0.25, 0.1
_SPARE_AFTER, _SPARE_OF_ALL_AFTER = 0.5, 0.15  # must be left without a server before it goes
_ASKED = 3  # servers that refused a caller before the ingress told it so: `ingress._MOST_ASKED`


def by_room(context: Any) -> tuple[int, dict[str, Any]]:
    """The policy: `context` is Ray Serve's `AutoscalingContext`.

    Its metrics are those of `replica.Replica.record_autoscaling_stats`; the newest count, since a
    mean over time would see a server full long after it was. Delays and bounds are Ray's.
    """
    metrics = context.raw_metrics or {}
    sessions, room, refused = (
        _newest(metrics.get(name, {})) for name in ("sessions", "room", "refused")
    )
    waiting = sum(refused) / max(1, min(_ASKED, len(refused)))
    return servers_needed(context.target_num_replicas, sessions, room, waiting), {}


def servers_needed(
    now: int,
    sessions: list[float],
    room: list[float],
    waiting: float = 0.0,
    of_all: tuple[float, float] = (_SPARE_OF_ALL, _SPARE_OF_ALL_AFTER),
) -> int:
    """How many servers there should be, where there are or will be `now`.

    Args:
        sessions: of each server that has told it.
        room: further sessions that each of them could take.
        waiting: callers who found no room, and will call again.
        of_all: shares of all sessions that must be left as room: see above.
    """
    if not sessions or len(sessions) != len(room):
        return now
    each = max(1.0, (sum(sessions) + sum(room)) / len(sessions))
    callers = sum(sessions) + waiting

    def enough(spare: float, of_all: float) -> int:
        return max(1, math.ceil((callers + max(1.0, spare * each, of_all * callers)) / each - 1e-9))

    return max(enough(_SPARE, of_all[0]), min(now, enough(_SPARE_AFTER, of_all[1])))


def _newest(series: Mapping[Any, Any]) -> list[float]:
    return [points[-1].value for _, points in sorted(series.items(), key=str) if points]
