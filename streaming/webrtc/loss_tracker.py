"""Gaps in one packet stream: when to ask for each missing packet again, and when to give it up.

A gap is one missing packet, known by its unwrapped sequence number. Plain synchronous code: time
is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_REMEMBERED = 64  # gaps that were given up


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTrackerSettings:
    """How long to wait for a missing packet, and how often to ask for it."""

    wait_s: float = 0.18  # or 1.25 round trips, if that is longer
    max_wait_s: float = 0.35  # but never longer than this
    nack_interval_s: float = 0.06  # least time between two NACKs for one packet
    max_nacks: int = 2  # for one packet

    def __post_init__(self) -> None:
        times_fit = 0 < self.wait_s <= self.max_wait_s <= 10 and self.nack_interval_s > 0
        if not times_fit or self.max_nacks < 0:
            raise ValueError(f"not usable for lost packets: {self}")


@dataclass(slots=True)
class _Gap:
    found_s: float
    nacked_s: float = 0.0
    nacks: int = 0


class LossTracker:
    """The open gaps of one stream, and the round-trip time measured on those that were repaired.

    Bounds: open gaps are bounded by the caller; of those given up it remembers `_REMEMBERED`.
    """

    def __init__(self, settings: LossTrackerSettings) -> None:
        self.rtt_s = settings.nack_interval_s  # from the NACK to the packet, smoothed
        self._settings = settings
        self._open: dict[int, _Gap] = {}
        self._given_up: dict[int, _Gap] = {}  # a packet that comes late still shows the round trip

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._open

    def open(self, sequences: Iterable[int], now_s: float) -> None:
        """Note that these packets are missing."""
        for sequence in sequences:
            self._open[sequence] = _Gap(now_s)

    def repair(self, sequence: int, now_s: float) -> bool:
        """Note that a packet has arrived. Returns whether it was missing."""
        gap = self._open.pop(sequence, None)
        self._update_rtt(gap, now_s)
        return gap is not None

    def arrived_late(self, sequence: int, now_s: float) -> None:
        """Note that a packet has arrived whose gap may have been given up."""
        self._update_rtt(self._given_up.pop(sequence, None), now_s)

    def expires_s(self, sequence: int) -> float:
        """When to give up an open gap: after `wait_s`, or later if the peer is far away."""
        round_trip_s = min(1.25 * self.rtt_s, self._settings.max_wait_s)
        return self._open[sequence].found_s + max(self._settings.wait_s, round_trip_s)

    def give_up(self, sequence: int) -> None:
        """Wait for a missing packet no longer."""
        self._given_up[sequence] = self._open.pop(sequence)
        if len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]

    def nacks(self, now_s: float) -> list[int]:
        """The packets to ask for at this moment. They count as asked for."""
        due: list[int] = []
        for sequence, gap in self._open.items():
            if gap.nacks < self._settings.max_nacks and now_s >= self._nack_s(gap):
                gap.nacks += 1
                gap.nacked_s = now_s
                due.append(sequence)
        return due

    def nack_times_s(self) -> Iterator[float]:
        """When the next NACK of each open gap is due, for gaps that may still be asked for."""
        for gap in self._open.values():
            if gap.nacks < self._settings.max_nacks:
                yield self._nack_s(gap)

    def clear(self) -> None:
        """Forget all gaps; keep the round-trip time."""
        self._open.clear()
        self._given_up.clear()

    def _nack_s(self, gap: _Gap) -> float:
        if gap.nacks == 0:
            return gap.found_s
        return gap.nacked_s + max(self._settings.nack_interval_s, 1.5 * self.rtt_s)

    def _update_rtt(self, gap: _Gap | None, now_s: float) -> None:
        """Learn from packets that were asked for exactly once: others are ambiguous."""
        if gap is not None and gap.nacks == 1:
            self.rtt_s += 0.25 * (now_s - gap.nacked_s - self.rtt_s)
