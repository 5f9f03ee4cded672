"""The messages that wait for each subscriber, and what happens to slow ones."""

from __future__ import annotations

import asyncio
import json

import pytest

from streaming.messages import ErrorMessage
from streaming.subscribers import (
    MAX_STREAMS,
    PREDICTIONS,
    RESULTS,
    Build,
    Outbox,
    OutboxFull,
    Subscribers,
    TooManySubscribers,
)


def message(code: str) -> Build:
    return lambda: ErrorMessage(code, "")


async def taken(outbox: Outbox) -> list[str]:
    """The codes of all messages that wait."""
    outbox.close()
    codes = []
    while (text := await outbox.take_text()) is not None:
        codes.append(json.loads(text)["code"])
    return codes


async def test_messages_come_in_order_and_then_none() -> None:
    outbox = Outbox(4)
    for text in "abc":
        outbox.put(message(text))
    assert await taken(outbox) == ["a", "b", "c"]
    assert await outbox.take() is None


async def test_a_newer_message_replaces_the_waiting_one_of_its_slot() -> None:
    outbox = Outbox(4)
    outbox.put(message("partial"), slot="sign 1")
    outbox.put(message("other"))
    outbox.put(message("final"), slot="sign 1")
    assert await taken(outbox) == ["other", "final"]
    assert outbox.replaced == 1


async def test_a_full_outbox_raises_and_drops_nothing() -> None:
    outbox = Outbox(2)
    outbox.put(message("a"), slot="sign 1")
    outbox.put(message("b"), slot="sign 2")
    with pytest.raises(OutboxFull):
        outbox.put(message("c"), slot="sign 3")
    outbox.put(message("a2"), slot="sign 1")
    assert await taken(outbox) == ["b", "a2"]


async def test_take_waits() -> None:
    outbox = Outbox(2)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.put(message("a"))
    assert await asyncio.wait_for(taking, 5) == ErrorMessage("a", "")


async def test_messages_are_built_when_they_leave() -> None:
    outbox, code = Outbox(2), "early"
    outbox.put(lambda: ErrorMessage(code, ""))
    code = "late"
    assert await outbox.take() == ErrorMessage("late", "")


async def test_everyone_gets_a_greeting_and_the_messages() -> None:
    subscribers = Subscribers(message("hello"), outbox=8)
    page = subscribers.join(RESULTS)
    with subscribers.stream() as events:
        subscribers.send(message("sign"))
        subscribers.send_page(message("pong"))
        subscribers.send_prediction(message("prediction"))
        assert await taken(events) == ["hello", "sign", "prediction"]
    assert await taken(page) == ["hello", "sign", "pong", "prediction"]


async def test_predictions_go_over_the_unreliable_channel_where_there_is_one() -> None:
    subscribers = Subscribers(message("hello"), outbox=8)
    page, fast = subscribers.join(RESULTS), subscribers.join(PREDICTIONS)
    subscribers.send_prediction(message("prediction"))
    subscribers.send(message("sign"))
    assert await taken(page) == ["hello", "sign"]
    assert await taken(fast) == ["prediction"]


async def test_a_subscriber_that_never_reads_is_dropped_alone() -> None:
    subscribers = Subscribers(message("hello"), outbox=3)
    page = subscribers.join(RESULTS)
    with subscribers.stream() as slow:
        for n in range(10):
            subscribers.send(message(f"sign {n}"), slot=f"sign {n}")
            await page.take()
        assert len(subscribers) == 1
        assert len(await taken(slow)) == 3


async def test_there_is_a_bound_on_streams() -> None:
    subscribers = Subscribers(message("hello"), outbox=3)
    with subscribers.stream(), subscribers.stream(), subscribers.stream(), subscribers.stream():
        assert len(subscribers) == MAX_STREAMS
        with pytest.raises(TooManySubscribers), subscribers.stream():
            pass
    assert len(subscribers) == 0


async def test_who_joins_after_the_end_gets_the_greeting_and_the_end() -> None:
    subscribers = Subscribers(message("hello"), outbox=3)
    subscribers.close()
    with subscribers.stream() as late:
        assert await taken(late) == ["hello"]
