"""aiortc's bandwidth estimate, told to the sender no more often than it helps.

aiortc sends its estimate (REMB) once for every packet while it takes the path for overused. A busy
server looks like one, so that its feedback would keep it busy: with 20 sessions on a machine with
other work, a quarter of the event loop's time. libwebrtc waits 10 to 200 ms between two such steps.
"""

from __future__ import annotations

from aiortc.rate import RemoteBitrateEstimator

_LEAST_MS = 200  # between two


class PacedEstimator(RemoteBitrateEstimator):
    """An estimator that keeps every packet in mind and speaks at most five times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._told_ms: int | None = None

    def add(
        self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int
    ) -> tuple[int, list[int]] | None:
        """As aiortc's: the bit rate and the streams that it is for; None: nothing to tell now."""
        estimate = super().add(arrival_time_ms, abs_send_time, payload_size, ssrc)
        if estimate is None:
            return None
        if self._told_ms is not None and arrival_time_ms - self._told_ms < _LEAST_MS:
            return None
        self._told_ms = arrival_time_ms
        return estimate
