"""What listeners have yet to be told, and what happens to slow ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streaming.subscribers import (
    MAX_STREAMS,
    PREDICTIONS,
    RESULTS,
    Outbox,
    OutboxFull,
    Subscribers,
    TooManySubscribers,
)


def saying(text: str) -> Any:
    return lambda: {"type": text}


async def drained(outbox: Outbox) -> list[str]:
    outbox.close()
    said = []
    while (message := await outbox.take()) is not None:
        said.append(message["type"])
    return said


async def test_messages_come_in_order_and_then_none() -> None:
    outbox = Outbox(4)
    for text in "abc":
        outbox.put(saying(text))
    assert await drained(outbox) == ["a", "b", "c"]
    assert await outbox.take() is None


async def test_a_newer_message_replaces_the_waiting_one_of_its_slot() -> None:
    outbox = Outbox(4)
    outbox.put(saying("partial"), slot="sign 1")
    outbox.put(saying("other"))
    outbox.put(saying("final"), slot="sign 1")
    assert await drained(outbox) == ["other", "final"]
    assert outbox.replaced == 1


async def test_nothing_final_is_dropped_rather_the_listener_is() -> None:
    outbox = Outbox(2)
    outbox.put(saying("a"), slot="sign 1")
    outbox.put(saying("b"), slot="sign 2")
    with pytest.raises(OutboxFull):
        outbox.put(saying("c"), slot="sign 3")
    outbox.put(saying("a2"), slot="sign 1")
    assert await drained(outbox) == ["b", "a2"]


async def test_take_waits() -> None:
    outbox = Outbox(2)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.put(saying("a"))
    assert await asyncio.wait_for(taking, 5) == {"type": "a"}


async def test_messages_are_built_when_they_leave() -> None:
    outbox, built = Outbox(2), []
    outbox.put(lambda: built.append("now") or {"type": "late"})  # type: ignore[func-returns-value]
    assert built == []
    await outbox.take()
    assert built == ["now"]


async def test_everyone_is_greeted_and_told() -> None:
    audience = Subscribers(saying("hello"), outbox=8)
    page = audience.join(RESULTS)
    with audience.stream() as events:
        audience.tell(saying("sign"))
        audience.reply(saying("pong"))
        audience.predict(saying("prediction"))
        assert await drained(events) == ["hello", "sign", "prediction"]
    assert await drained(page) == ["hello", "sign", "pong", "prediction"]


async def test_predictions_go_over_the_unreliable_channel_where_there_is_one() -> None:
    audience = Subscribers(saying("hello"), outbox=8)
    page, fast = audience.join(RESULTS), audience.join(PREDICTIONS)
    audience.predict(saying("prediction"))
    audience.tell(saying("sign"))
    assert await drained(page) == ["hello", "sign"]
    assert await drained(fast) == ["prediction"]


async def test_a_listener_that_never_reads_is_given_up_alone() -> None:
    audience = Subscribers(saying("hello"), outbox=3)
    page = audience.join(RESULTS)
    with audience.stream() as slow:
        for n in range(10):
            audience.tell(saying(f"sign {n}"), slot=f"sign {n}")
            await page.take()
        assert len(audience) == 1
        assert len(await drained(slow)) == 3


async def test_there_is_a_bound_on_streams() -> None:
    audience = Subscribers(saying("hello"), outbox=3)
    with audience.stream(), audience.stream(), audience.stream(), audience.stream():
        assert len(audience) == MAX_STREAMS
        with pytest.raises(TooManySubscribers), audience.stream():
            pass
    assert len(audience) == 0


async def test_who_joins_after_the_end_is_told_so() -> None:
    audience = Subscribers(saying("hello"), outbox=3)
    audience.close()
    with audience.stream() as late:
        assert await drained(late) == ["hello"]
