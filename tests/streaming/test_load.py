"""The load as it is measured: on a clock that jumps, and between real peers."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import numpy as np
import pytest

from models.faults import WindowResult
from models.schema import Clip, Prediction
from streaming.app import serve
from streaming.batcher import Batcher, Replaced
from streaming.bench.standin import StandIn
from streaming.capacity import Pace
from streaming.load import LoadMeter, ProcessorTime, decode_share
from streaming.settings import LoadSettings, ServerSettings, SessionSettings, Settings
from tests.streaming.caller import Caller, Camera, calling, problem
from tests.streaming.simulated import SimulatedLoop, simulate
from tests.streaming.test_batcher import Device, clip

HOP_S, LONGEST_S, TICK_S = 0.1, 0.5, 1 / 15
SDP = {"Content-Type": "application/sdp"}


class Busy(Device):
    """A device to which every window costs as much as the first."""

    def __init__(self, each_s: float) -> None:
        super().__init__(each_s, each_s)
        self.busy_s = 0.0

    async def recognise(self, clips: Sequence[Clip]) -> list[WindowResult]:
        answers = await super().recognise(clips)
        self.busy_s += self.cost(len(clips))
        return answers


class SimulatedSession:
    """Submits a window every hop, as long as it lives."""

    def __init__(self, id: str, batcher: Batcher, pace: Pace) -> None:
        self.id = id
        self.decoding_s = 0.0
        self.waited: list[tuple[float, float]] = []  # (when its prediction came, after how long)
        self.replaced: list[float] = []
        self._batcher = batcher
        self._pace = pace

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            cut_s = loop.time()
            self.decoding_s += 0.001
            future = self._batcher.submit(clip(self.id, cut_s), cut_s + 0.3)
            future.add_done_callback(functools.partial(self._receive, cut_s))
            await asyncio.sleep(HOP_S + TICK_S / 2 + self._pace.added_s)

    def _receive(self, cut_s: float, future: asyncio.Future[Prediction]) -> None:
        if future.cancelled():
            return
        now_s = asyncio.get_running_loop().time()
        if isinstance(future.exception(), Replaced):
            self.replaced.append(now_s)
        else:
            self.waited.append((now_s, now_s - cut_s))


class SimulatedServer:
    """A batcher, its meter, and the sessions that were admitted."""

    taken = property(lambda self: len(self.sessions))

    def __init__(self, device: Busy, tasks: asyncio.TaskGroup) -> None:
        self.batcher = Batcher([device], max_batch=16)
        self.sessions: list[SimulatedSession] = []
        self.loop_s = 0.0  # processor time of the loop
        self.meter = LoadMeter(
            LoadSettings(longest_hop_s=LONGEST_S),
            batcher=self.batcher,
            devices=[device],
            pace=Pace(HOP_S, LONGEST_S, TICK_S),
            processor_time=lambda: ProcessorTime(self.loop_s, self.loop_s),
        )
        self._tasks = tasks
        self._running: list[asyncio.Task[None]] = []
        self._start(self.batcher.run(), self.meter.run(self))

    def __iter__(self) -> Iterator[SimulatedSession]:
        return iter(self.sessions)

    @property
    def trouble(self) -> str | None:
        return self.meter.trouble(len(self.sessions))

    def _start(self, *work: object) -> None:
        self._running += [self._tasks.create_task(one) for one in work]  # type: ignore[arg-type]

    def admit(self) -> bool:
        """Whether another session was admitted."""
        if self.trouble is not None:
            return False
        number = str(len(self.sessions))
        self.sessions.append(SimulatedSession(number, self.batcher, self.meter.pace))
        self._start(self.sessions[-1].run())
        return True

    def waited_ms(self, from_s: float, until_s: float) -> float:
        """95th percentile."""
        waited = [s for one in self.sessions for at, s in one.waited if from_s <= at < until_s]
        return float(1000 * np.percentile(waited, 95))

    def close(self) -> None:
        for task in self._running:
            task.cancel()


@asynccontextmanager
async def simulated(each_s: float) -> AsyncIterator[SimulatedServer]:
    async with asyncio.TaskGroup() as tasks:
        one = SimulatedServer(Busy(each_s), tasks)
        yield one
        one.close()


def test_past_capacity_callers_are_refused_and_the_admitted_keep_their_latency() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with simulated(each_s=0.03) as one:
            hops = []
            while one.admit():
                await asyncio.sleep(4.0)
                hops.append(one.meter.pace.hop_s)
            assert hops == sorted(hops) and hops[0] == pytest.approx(2 * TICK_S)
            assert len(one.sessions) == 12  # of 30 ms in each of the longest hops, to 0.8 of it
            await asyncio.sleep(10.0)
            assert one.meter.load.recogniser < 0.85
            full_s = loop.time()
            await asyncio.sleep(30.0)
            over_s = loop.time()
            while loop.time() < over_s + 30.0:
                assert not one.admit()
                await asyncio.sleep(0.25)
            at_capacity, past_it = one.waited_ms(full_s, over_s), one.waited_ms(over_s, 1e9)
            assert past_it <= 1.05 * at_capacity < 300
            assert not [at for session in one.sessions for at in session.replaced if at > full_s]

    simulate(work())


def test_the_hop_comes_back_when_they_leave() -> None:
    async def work() -> None:
        async with simulated(each_s=0.06) as one:
            for _ in range(6):
                assert one.admit()
                await asyncio.sleep(4.0)
            assert one.meter.pace.hop_s == one.meter.pace.longest_s
            assert one.meter.pace.added_s == pytest.approx(5 * TICK_S)
            for task in one._running[3:]:
                task.cancel()
            del one.sessions[1:]
            await asyncio.sleep(40.0)
            assert one.meter.pace.added_s == 0 and one.trouble is None

    simulate(work())


def test_a_burst_is_limited_by_the_cost_model_before_anything_is_measured() -> None:
    async def work() -> None:
        async with simulated(each_s=0.03) as one:
            while one.admit():
                pass
            assert len(one.sessions) == 12
            count = len(one.sessions)
            assert one.meter.free_sessions(count, 100) == 0
            assert max(one.meter.fullness(count).values()) > 1

    simulate(work())


def test_while_the_loop_is_late_nobody_is_admitted() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        async with simulated(each_s=0.001) as one:
            assert one.admit()
            await asyncio.sleep(5.0)
            assert one.meter.load.loop_lag_s < 0.001 and one.trouble is None
            for _ in range(40):
                await asyncio.sleep(0.0)
                loop._jumping.now_s += 0.5  # the loop is blocked for so long
                await asyncio.sleep(0.01)
            assert one.meter.load.loop_lag_s > 0.1
            assert "behind" in (one.trouble or "")

    simulate(work())


def crowd(one: SimulatedServer) -> asyncio.Task[list[bool]]:
    """Sixteen who come in one after another, four a second, and make the loop late."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)

    async def come() -> list[bool]:
        admitted = []
        for _ in range(16):
            admitted.append(one.admit())
            one.loop_s += 0.2  # setting up; a session that is there takes nothing
            loop._jumping.now_s += 0.2
            await asyncio.sleep(0.05)
        return admitted

    return one._tasks.create_task(come())


def test_setting_sessions_up_does_not_count_as_serving_them() -> None:
    async def work() -> None:
        async with simulated(each_s=0.001) as one:
            one.meter._cores = 8.0
            assert one.admit()
            await asyncio.sleep(5.0)
            before = one.meter.load
            assert all(await crowd(one))
            assert one.meter.load == before and one.trouble is None
            await asyncio.sleep(9.0)
            assert one.meter.load.loop_lag_s < 0.01 and one.meter.load.decode < 0.1
            assert one.meter.load.sessions > 14

    simulate(work())


def test_setting_sessions_up_without_end_counts_as_load() -> None:
    async def work() -> None:
        async with simulated(each_s=0.001) as one:
            one.meter._cores = 8.0
            admitted = [*await crowd(one), *await crowd(one), *await crowd(one)]
            assert 20 <= admitted.index(False) < 40
            assert one.meter.load.loop_lag_s > 0.1

    simulate(work())


def test_decoding_can_use_what_the_recogniser_leaves_and_the_loop_one_core() -> None:
    assert decode_share(loop=0.2, decoders=0.6, others=0.0, cores=4) == pytest.approx(0.2)
    assert decode_share(loop=0.5, decoders=0.5, others=0.0, cores=16) == pytest.approx(0.5)
    assert decode_share(loop=0.2, decoders=0.4, others=1.0, cores=2) == pytest.approx(0.6)
    assert decode_share(loop=0.2, decoders=0.4, others=4.0, cores=4) == pytest.approx(0.3)
    assert decode_share(0.6, decoders=0.1, others=0.0, cores=4) == pytest.approx(0.6)


def read(metrics: str) -> Iterator[tuple[str, float]]:
    for line in metrics.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            yield name, float(value)


SETTINGS = Settings(
    server=ServerSettings(port=0, max_sessions=3, retry_after_s=7, grace_s=1.0),
    session=SessionSettings(loopback_ice=True),
)


async def test_one_peer_is_served_however_slowly_and_a_second_is_refused() -> None:
    """0.6 s a window: more than a session at the longest hop may take."""
    async with (
        serve(SETTINGS, StandIn(each_s=0.6)) as server,
        aiohttp.ClientSession() as http,
    ):
        async with calling(server.url, http, Camera(fps=15)) as first:
            await first.wait_for("prediction")
            second = Caller(server.url)
            sdp = await second.offer(Camera(fps=15))
            async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
                assert response.status == 503
                assert 7 <= int(response.headers["Retry-After"]) <= 10
                why = (await problem(response))["detail"]
            assert "recogniser" in why and "try again" in why
            await second.close()
            async with http.get(f"{server.url}/readyz") as response:
                assert response.status == 503
                assert (await problem(response))["detail"] == why
            async with asyncio.timeout(15):
                while not (stats := first.of("stats")) or not stats[-1]["added_hop_s"]:
                    await first.wait_for("stats", len(stats) + 1)
            assert stats[-1]["hop_s"] > stats[-1]["added_hop_s"] > 0
            async with asyncio.timeout(15):
                while not server.load.load.sessions:  # the first looks are left out
                    await first.wait_for_more("prediction")
            async with http.get(f"{server.url}/metrics") as response:
                text = await response.text()
            values = dict(read(text))
            assert values["livegloss_sessions_headroom"] == 0
            assert values['livegloss_full{of="recogniser"}'] > 1
            assert values['livegloss_sessions_refused_total{reason="busy"}'] == 1
            assert values['livegloss_share{of="decode"}'] > 0
            assert values["livegloss_hop_seconds"] > 0.14
            assert values["livegloss_loop_lag_seconds"] >= 0
        async with asyncio.timeout(10):
            for session in server.sessions:
                await asyncio.wait([session.ended])
        async with calling(server.url, http, Camera(fps=15)) as again:
            await again.wait_for("hello")


async def test_a_burst_is_admitted_one_by_one_and_callers_that_left_leave_nothing(
    http: aiohttp.ClientSession,
) -> None:
    server_settings = replace(SETTINGS.server, max_sessions=12, max_sessions_per_address=12)
    settings = replace(SETTINGS, server=server_settings)
    async with serve(settings, StandIn()) as server, calling(server.url, http) as first:
        await first.wait_for("prediction")
        sdp = await Caller(server.url).offer()

        async def ask() -> int:
            async with http.post(f"{server.url}/whip", data=sdp, headers=SDP) as response:
                return response.status

        seen = len(first.of("prediction"))
        asking = [asyncio.create_task(ask()) for _ in range(11)]
        while server.sessions.coming < 10:  # and one is in its turn
            await asyncio.wait(asking, timeout=0.001)
        for one in asking[-2:]:
            one.cancel()
        statuses = await asyncio.gather(*asking, return_exceptions=True)
        assert statuses[:-2] == [201] * 9
        await first.wait_for("prediction", seen + 3)
        async with asyncio.timeout(10):
            while server.sessions.coming:
                await first.wait_for_more("prediction")
        counts = server.sessions.counts
        assert len(server.sessions) == counts.admitted == 10 and counts.refused == {"gone": 2}
