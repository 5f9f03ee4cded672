"""Bandwidth estimates are sent in time, but not too often."""

from __future__ import annotations

import itertools

from streaming.webrtc.rtp_receiver import PacedEstimator


def test_an_overused_path_is_reported_five_times_a_second_at_most() -> None:
    estimator = PacedEstimator()
    sent_ms = []
    for number in range(400):  # sent every 10 ms, each 5 ms later than the one before
        arrival_ms = number * 15
        send_time = round(number * 0.010 * (1 << 18)) & 0xFFFFFF
        if estimator.add(arrival_ms, send_time, 1200, 1) is not None:
            sent_ms.append(arrival_ms)
    assert 10 < len(sent_ms) <= 1 + 400 * 15 / 200
    steps = [later - before for before, later in itertools.pairwise(sent_ms)]
    assert min(steps) >= 200
