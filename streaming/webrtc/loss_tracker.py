"""Packets that are missing from a stream: when each is asked for again, and when it is given up.

Gaps are known by sequence numbers that never wrap. Plain synchronous code: time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_REMEMBERED = 64  # packets given up


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTrackerSettings:
    """How long a lost packet is worth waiting for."""

    hole_s: float = 0.18  # it is waited for so long, or a round trip,
    max_hole_s: float = 0.35  # but never longer than this
    retry_s: float = 0.06  # between two NACKs for one packet, at least
    nacks: int = 2  # for one packet

    def __post_init__(self) -> None:
        if not 0 < self.hole_s <= self.max_hole_s <= 10 or self.retry_s <= 0 or self.nacks < 0:
            raise ValueError(f"not usable for lost packets: {self}")


@dataclass(slots=True)
class _Gap:
    since_s: float
    asked_s: float = 0.0
    asked: int = 0


class LossTracker:
    """The holes of one stream, and the round trip that those taught it which were filled.

    Bounds: as many as whoever opens them allows, and `_REMEMBERED` that were given up.
    """

    def __init__(self, settings: LossTrackerSettings) -> None:
        self.rtt_s = settings.retry_s  # from asking for a packet to having it, smoothed
        self._settings = settings
        self._open: dict[int, _Gap] = {}
        self._given_up: dict[int, _Gap] = {}  # the newest few: they may still tell the round trip

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._open

    def open(self, sequences: Iterable[int], now_s: float) -> None:
        """These packets are missing."""
        for sequence in sequences:
            self._open[sequence] = _Gap(now_s)

    def fill(self, sequence: int, now_s: float) -> bool:
        """A packet has come; whether it was missing."""
        hole = self._open.pop(sequence, None)
        self._learn(hole, now_s)
        return hole is not None

    def came_late(self, sequence: int, now_s: float) -> None:
        """A packet has come that may have been given up."""
        self._learn(self._given_up.pop(sequence, None), now_s)

    def until_s(self, sequence: int) -> float:
        """When a hole has been waited for as long as it is worth: 180 ms, or what a far peer
        needs."""
        far_s = min(1.25 * self.rtt_s, self._settings.max_hole_s)
        return self._open[sequence].since_s + max(self._settings.hole_s, far_s)

    def give_up(self, sequence: int) -> None:
        """Wait for a packet no longer."""
        self._given_up[sequence] = self._open.pop(sequence)
        if len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]

    def ask(self, now_s: float) -> list[int]:
        """The packets to ask for again at this moment."""
        due: list[int] = []
        for sequence, hole in self._open.items():
            if hole.asked < self._settings.nacks and now_s >= self._ask_at_s(hole):
                hole.asked += 1
                hole.asked_s = now_s
                due.append(sequence)
        return due

    def ask_at_s(self) -> Iterator[float]:
        """When each that may be asked for again is to be."""
        for hole in self._open.values():
            if hole.asked < self._settings.nacks:
                yield self._ask_at_s(hole)

    def clear(self) -> None:
        self._open.clear()
        self._given_up.clear()

    def _ask_at_s(self, hole: _Gap) -> float:
        if hole.asked == 0:
            return hole.since_s
        return hole.asked_s + max(self._settings.retry_s, 1.5 * self.rtt_s)

    def _learn(self, hole: _Gap | None, now_s: float) -> None:
        """Learn the round trip from a packet that was asked for once, and came."""
        if hole is not None and hole.asked == 1:
            self.rtt_s += 0.25 * (now_s - hole.asked_s - self.rtt_s)
