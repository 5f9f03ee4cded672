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
from streaming.answering import Replaced
from streaming.app import serve
from streaming.batcher import Batcher
from streaming.bench.standin import StandIn
from streaming.capacity import Pace
from streaming.load import LoadMeter, Usage, decode_share
from streaming.settings import LoadSettings, ServerSettings, SessionSettings, Settings
from tests.streaming.caller import Caller, Camera, calling, problem
from tests.streaming.simulated import SimulatedLoop, simulate
from tests.streaming.test_batcher import Device, clip

HOP_S, LONGEST_S, TICK_S = 0.1, 0.5, 1 / 15
SDP = {"Content-Type": "application/sdp"}


class Busy(Device):
    """A device to which every window is as dear as the first."""

    def __init__(self, each_s: float) -> None:
        super().__init__(each_s, each_s)
        self.busy_s = 0.0

    async def recognise(self, clips: Sequence[Clip]) -> list[WindowResult]:
        answers = await super().recognise(clips)
        self.busy_s += self.cost(len(clips))
        return answers


class Signer:
    """Asks for an answer every hop, for as long as it lives."""

    def __init__(self, id: str, batcher: Batcher) -> None:
        self.id = id
        self.decoding_s = 0.0
        self.waited: list[tuple[float, float]] = []  # (when it was answered, how long that took)
        self.replaced: list[float] = []
        self._batcher = batcher

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            cut_s = loop.time()
            self.decoding_s += 0.001
            answer = self._batcher.submit(clip(self.id, cut_s), cut_s + 0.3)
            answer.add_done_callback(functools.partial(self._hear, cut_s))
            await asyncio.sleep(HOP_S + TICK_S / 2 + self._batcher.added_hop_s)

    def _hear(self, cut_s: float, answer: asyncio.Future[Prediction]) -> None:
        if answer.cancelled():
            return
        now_s = asyncio.get_running_loop().time()
        if isinstance(answer.exception(), Replaced):
            self.replaced.append(now_s)
        else:
            self.waited.append((now_s, now_s - cut_s))


class Receiving:
    """What receiving sessions' video takes."""

    usage = Usage(cpu_s=0.0, loop_cpu_s=0.0, resident_bytes=0.0, threads=1)

    def spend(self, s: float) -> None:
        spent_s = self.usage.loop_cpu_s + s
        self.usage = replace(self.usage, cpu_s=spent_s, loop_cpu_s=spent_s)


class House:
    """A batcher, its meter, and whoever was let in."""

    def __init__(self, device: Busy, tasks: asyncio.TaskGroup) -> None:
        self.receiving = Receiving()
        self.batcher = Batcher([device], max_batch=16)
        self.signers: list[Signer] = []
        self.meter = LoadMeter(
            LoadSettings(longest_hop_s=LONGEST_S),
            batcher=self.batcher,
            devices=[device],
            sessions=lambda: iter(self.signers),
            coming=lambda: 0,
            most_sessions=100,
            pace=Pace(HOP_S, LONGEST_S, TICK_S),
            usage=lambda: self.receiving.usage,
        )
        self._tasks = tasks
        self._running: list[asyncio.Task[None]] = []
        self._start(self.batcher.run(), self.meter.run())

    def _start(self, *work: object) -> None:
        self._running += [self._tasks.create_task(one) for one in work]  # type: ignore[arg-type]

    def knock(self) -> bool:
        """Whether another signer was let in."""
        if self.meter.trouble is not None:
            return False
        self.signers.append(Signer(f"{len(self.signers)}", self.batcher))
        self._start(self.signers[-1].run())
        return True

    def waited_ms(self, from_s: float, until_s: float) -> float:
        """95th percentile."""
        waited = [s for one in self.signers for at, s in one.waited if from_s <= at < until_s]
        return float(1000 * np.percentile(waited, 95))

    def close(self) -> None:
        for task in self._running:
            task.cancel()


@asynccontextmanager
async def house(each_s: float) -> AsyncIterator[House]:
    async with asyncio.TaskGroup() as tasks:
        one = House(Busy(each_s), tasks)
        yield one
        one.close()


def test_past_capacity_callers_are_refused_and_the_admitted_keep_their_latency() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with house(each_s=0.03) as one:
            hops = []
            while one.knock():
                await asyncio.sleep(4.0)
                hops.append(one.meter.pace.hop_s)
            assert hops == sorted(hops) and hops[0] == pytest.approx(2 * TICK_S)
            assert len(one.signers) == 12  # of 30 ms in each of the longest hops, to 0.8 of it
            await asyncio.sleep(10.0)
            assert one.meter.load.recogniser < 0.85
            full_s = loop.time()
            await asyncio.sleep(30.0)
            over_s = loop.time()
            while loop.time() < over_s + 30.0:
                assert not one.knock()
                await asyncio.sleep(0.25)
            at_capacity, past_it = one.waited_ms(full_s, over_s), one.waited_ms(over_s, 1e9)
            assert past_it <= 1.05 * at_capacity < 300
            assert not [at for signer in one.signers for at in signer.replaced if at > full_s]

    simulate(work())


def test_the_hop_comes_back_when_they_leave() -> None:
    async def work() -> None:
        async with house(each_s=0.06) as one:
            for _ in range(6):
                assert one.knock()
                await asyncio.sleep(4.0)
            assert one.meter.pace.hop_s == one.meter.pace.longest_s
            assert one.batcher.added_hop_s == pytest.approx(5 * TICK_S)
            for task in one._running[3:]:
                task.cancel()
            del one.signers[1:]
            await asyncio.sleep(40.0)
            assert one.batcher.added_hop_s == 0 and one.meter.trouble is None

    simulate(work())


def test_a_burst_is_met_by_what_is_thought_and_not_by_what_was_measured() -> None:
    async def work() -> None:
        async with house(each_s=0.03) as one:
            while one.knock():
                pass
            assert len(one.signers) == 12
            assert one.meter.room == 0 and max(one.meter.full.values()) > 1

    simulate(work())


def test_a_loop_that_comes_late_takes_nobody_new() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        async with house(each_s=0.001) as one:
            assert one.knock()
            await asyncio.sleep(5.0)
            assert one.meter.load.loop_lag_s < 0.001 and one.meter.trouble is None
            for _ in range(40):
                await asyncio.sleep(0.0)
                loop._jumping.now_s += 0.5  # the loop is blocked for so long
                await asyncio.sleep(0.01)
            assert one.meter.load.loop_lag_s > 0.1
            assert "behind" in (one.meter.trouble or "")

    simulate(work())


def crowd(one: House) -> asyncio.Task[list[bool]]:
    """Sixteen who come in one after another, four a second, and make the loop late."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)

    async def come() -> list[bool]:
        told = []
        for _ in range(16):
            told.append(one.knock())
            one.receiving.spend(0.2)  # a session that is there spends nothing
            loop._jumping.now_s += 0.2
            await asyncio.sleep(0.05)
        return told

    return one._tasks.create_task(come())


def test_those_who_come_in_are_not_taken_for_what_those_who_are_in_cost() -> None:
    async def work() -> None:
        async with house(each_s=0.001) as one:
            one.meter._cores = 8.0
            assert one.knock()
            await asyncio.sleep(5.0)
            before = one.meter.load
            assert all(await crowd(one))
            assert one.meter.load == before and one.meter.trouble is None
            await asyncio.sleep(9.0)
            assert one.meter.load.loop_lag_s < 0.01 and one.meter.load.decode < 0.1
            assert one.meter.load.sessions > 14

    simulate(work())


def test_coming_without_end_is_a_load_as_any_other() -> None:
    async def work() -> None:
        async with house(each_s=0.001) as one:
            one.meter._cores = 8.0
            told = [*await crowd(one), *await crowd(one), *await crowd(one)]
            assert 20 <= told.index(False) < 40
            assert one.meter.load.loop_lag_s > 0.1

    simulate(work())


def test_decoding_has_what_the_recogniser_leaves_and_the_loop_one_core() -> None:
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
                while not (told := first.of("stats")) or not told[-1]["added_hop_s"]:
                    await first.wait_for("stats", len(told) + 1)
            assert told[-1]["hop_s"] > told[-1]["added_hop_s"] > 0
            async with asyncio.timeout(15):
                while not server.load.load.sessions:  # the first looks are left out
                    await first.wait_for("prediction", len(first.of("prediction")) + 1)
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


async def test_a_burst_comes_in_piece_by_piece_and_who_went_away_leaves_nothing(
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
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert told[:-2] == [201] * 9
        await first.wait_for("prediction", seen + 3)
        async with asyncio.timeout(10):
            while server.sessions.coming:
                await first.wait_for("prediction", len(first.of("prediction")) + 1)
        counts = server.sessions.counts
        assert len(server.sessions) == counts.admitted == 10 and counts.refused == {"gone": 2}
