"""What a soak's numbers say: does memory grow, and is anything left over when all have gone?

Plain numbers in, findings out; `soak.py` takes the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_Z = 1.96  # 95 %, both sides
_STEADY_MB_PER_H = 10.0  # less than that is no leak that anybody would meet
_SETTLING_MB = 8.0  # an allocator's heaps go on growing by so much after the warm-up

_LEFT = ("sessions", "tasks", "threads", "sockets", "fds", "objects")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """A server process at one moment."""

    at_s: float  # monotonic
    rss_mb: float
    sessions: int
    tasks: int
    threads: int
    sockets: int
    fds: int  # sockets among them
    served: int  # sessions since the start
    objects: int = 0  # sessions, connections and decoders in memory; counted when nobody is there
    named: list[str] = field(default_factory=list)  # tasks and threads; told when nobody is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """How fast memory grows, MB an hour, with its 95 % confidence interval."""

    mb_per_h: float
    low: float
    high: float


def slope(rounds: Sequence[Vitals]) -> Slope:
    """Memory over time by least squares.

    Args:
        rounds: after each round of sessions, with nobody there: what sessions hold is no leak.

    Raises:
        ValueError: there are fewer than four.
    """
    if len(rounds) < 4:
        raise ValueError(f"a slope needs four rounds of sessions at least, not {len(rounds)}")
    hours = np.array([one.at_s for one in rounds]) / 3600
    mb = np.array([one.rss_mb for one in rounds])
    hours -= hours.mean()
    spread, free = float((hours**2).sum()), len(rounds) - 2
    rise = float((hours * mb).sum()) / spread
    errors = mb - mb.mean() - rise * hours
    within = _student(free) * math.sqrt(float((errors**2).sum()) / free / spread)
    return Slope(mb_per_h=rise, low=rise - within, high=rise + within)


def _student(free: int) -> float:
    """Student's t at 97.5 %, by Cornish and Fisher's expansion; within 5 % from two degrees on."""
    z = _Z
    return (
        z
        + (z**3 + z) / (4 * free)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    )


def borne_mb_per_h(rounds: Sequence[Vitals]) -> float:
    """What a slope may be: the shorter a soak, the more of it is settling."""
    hours = (rounds[-1].at_s - rounds[0].at_s) / 3600
    return max(_STEADY_MB_PER_H, _SETTLING_MB / hours)


def findings(rounds: Sequence[Vitals]) -> list[str]:
    """What is wrong, a sentence each; nothing, when nothing is.

    Args:
        rounds: with nobody there, after the warm-up and after each round of sessions.
    """
    before, after = rounds[0], rounds[-1]
    found = []
    grown, most = slope(rounds), borne_mb_per_h(rounds)
    if grown.low > most:
        found.append(
            f"memory grows by {grown.mb_per_h:.0f} MB an hour "
            f"({grown.low:.0f} to {grown.high:.0f}; up to {most:.0f} is borne)"
        )
    if after.served == before.served:
        found.append("no session was served")
    for name in _LEFT:
        more = getattr(after, name) - getattr(before, name)
        if more > 0:
            found.append(f"{more} {name} left over")
    if names := set(after.named) - set(before.named):
        found.append(f"new among tasks and threads: {', '.join(sorted(names))}")
    return found
