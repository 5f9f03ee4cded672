"""A session's messages as server-sent events, as clients without a data channel read them."""

from __future__ import annotations

import aiohttp

from tests.service.client import Service
from tests.streaming.caller import calling, problem
from tests.streaming.event_reader import Reader

STREAMS = "livegloss_buffer event_streams"


async def test_the_event_stream_carries_the_same_messages(
    service: Service, http: aiohttp.ClientSession
) -> None:
    async with calling(service.url, http) as caller:
        await caller.wait_for("prediction")
        async with http.get(f"{service.url}{caller.location}/events") as events:
            assert events.status == 200
            assert events.content_type == "text/event-stream"
            assert events.headers["X-Accel-Buffering"] == "no", "or nginx keeps messages back"
            reader = Reader(events)
            first = await reader.next()
            assert first and first["type"] == "hello"
            await reader.until("prediction")
            async with http.delete(f"{service.url}{caller.location}") as deleted:
                assert deleted.status == 200
            while await reader.next():
                pass  # the stream ends with the session
        async with http.get(f"{service.url}{caller.location}/events") as gone:
            assert gone.status == 404
            await problem(gone)
    assert (await service.numbers(http))["livegloss_sessions"] == 0


async def test_events_come_as_they_happen(service: Service, http: aiohttp.ClientSession) -> None:
    """The same prediction comes by both ways; it does not wait for the next one."""
    async with calling(service.url, http) as caller:
        await caller.wait_for("prediction")
        async with http.get(f"{service.url}{caller.location}/events") as events:
            reader, behind = Reader(events), []
            for _ in range(10):
                message = await reader.until("prediction")
                behind.append(caller.of("prediction")[-1]["seq"] - message["seq"])
            assert min(behind) <= 0, f"each came later than a newer one by the channel: {behind}"


async def test_a_reader_that_leaves_gives_its_place_back(
    service: Service, http: aiohttp.ClientSession
) -> None:
    async with calling(service.url, http) as caller:
        await caller.wait_for("prediction")
        url = f"{service.url}{caller.location}/events"
        for _ in range(2):  # as many as a session may have, twice
            readers = [await http.get(url) for _ in range(4)]
            for reader in readers:
                await Reader(reader).until("hello")
            async with http.get(url) as one_more:
                assert one_more.status == 429
                await problem(one_more)
            for reader in readers:
                reader.close()
            await service.until(http, STREAMS, 1)  # that of its data channel
        await caller.wait_for_more("prediction", 3)
