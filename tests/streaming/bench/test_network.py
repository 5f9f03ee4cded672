"""A worse network: what it loses, delays and holds back, and that a seed repeats it."""

from __future__ import annotations

import asyncio

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from streaming.bench.network import ImpairedLink, NetworkConditions, impair
from streaming.webrtc.ice import gather_loopback


def _sent(network: NetworkConditions, seed: int = 0, count: int = 2000) -> list[float | None]:
    """When each of `count` datagrams of 1000 bytes arrives, sent every hundredth of a second."""
    link = ImpairedLink(network, seed)
    return [link.arrives_s(1000, n / 100) for n in range(count)]


def test_each_direction_takes_half_of_the_round_trip() -> None:
    arrived_s = _sent(NetworkConditions(rtt_ms=50), count=10)
    assert arrived_s == [pytest.approx(n / 100 + 0.025) for n in range(10)]


def test_the_share_is_lost_and_the_same_for_the_same_seed() -> None:
    network = NetworkConditions(loss=0.05)
    first = [arrived_s is None for arrived_s in _sent(network)]
    assert 70 < sum(first) < 130
    assert first == [arrived_s is None for arrived_s in _sent(network)]
    assert first != [arrived_s is None for arrived_s in _sent(network, seed=1)]


def test_jitter_keeps_order_and_its_bound() -> None:
    arrived_s = [
        at_s for at_s in _sent(NetworkConditions(rtt_ms=50, jitter_ms=20)) if at_s is not None
    ]
    assert arrived_s == sorted(arrived_s)
    late_s = [at_s - n / 100 - 0.025 for n, at_s in enumerate(arrived_s)]
    assert min(late_s) < -0.01 and 0.01 < max(late_s) <= 0.02
    assert min(late_s) >= -0.02


def test_a_limited_rate_queues_and_then_loses() -> None:
    arrived_s = _sent(NetworkConditions(rate_kbit=400))  # half of what is sent
    through = [at_s for at_s in arrived_s if at_s is not None]
    assert len(through) == pytest.approx(0.5 * 400e3 * 20 / (1028 * 8) / 0.5, rel=0.05)
    assert max(at_s - n / 100 for n, at_s in enumerate(arrived_s) if at_s is not None) < 0.25


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.0}, {"rtt_ms": -1}, {"jitter_ms": 5}, {"rate_kbit": 0}]
)
def test_impossible_conditions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="--"):
        NetworkConditions(**wrong)  # type: ignore[arg-type]


async def test_both_directions_of_a_real_connection_are_delayed() -> None:
    gather_loopback()
    near, far = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    echoed = asyncio.Event()
    channel = near.createDataChannel("echo")
    channel.on("message", lambda _: echoed.set())
    far.on("datachannel", lambda other: other.on("message", other.send))
    opened = asyncio.Event()
    channel.on("open", opened.set)
    try:
        await near.setLocalDescription(await near.createOffer())
        impair(near, NetworkConditions(rtt_ms=80), seed=0)
        await far.setRemoteDescription(near.localDescription)
        await far.setLocalDescription(await far.createAnswer())
        await near.setRemoteDescription(far.localDescription)
        async with asyncio.timeout(20):
            await opened.wait()
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            channel.send("there and back")
            await echoed.wait()
        assert loop.time() - began_s >= 0.079
    finally:
        await asyncio.gather(near.close(), far.close())
