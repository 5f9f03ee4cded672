"""Captions: what a reader gets of signs over sessions that follow each other, and as WebVTT."""

from __future__ import annotations

import re

from models.schema import Sign
from streaming.captions import (
    MAX_LINES,
    CaptionFeed,
    CaptionLine,
    Captions,
    CaptionState,
    WebVtt,
)
from streaming.ids import new_id
from streaming.messages import ServerMessage
from streaming.subscribers import Outbox


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def a_sign(id: int, gloss: str, *, final: bool = False, start_s: float = 1.0) -> Sign:
    return Sign(
        id=id, gloss=gloss, p=0.5, alternatives=(), start_s=start_s, end_s=start_s + 1, final=final
    )


async def taken(outbox: Outbox) -> list[ServerMessage]:
    messages = []
    while len(outbox):
        message = await outbox.take()
        assert message is not None
        messages.append(message)
    return messages


def words(messages: list[ServerMessage]) -> list[tuple[int, str, bool]]:
    return [(m.n, m.gloss, m.final) for m in messages if isinstance(m, CaptionLine)]


async def test_a_line_is_revised_and_goes_on_over_sessions() -> None:
    clock = Clock()
    captions = Captions(new_id(""), clock)
    assert len({captions.id, captions.token, captions.key}) == 3
    first = captions.feed()
    with captions.reader() as reader:
        (greeting,) = await taken(reader)
        assert greeting == CaptionState("live", 0.0, [])
        first.show(a_sign(1, "mother"), 100.0)
        first.show(a_sign(1, "father", final=True), 100.0)
        assert words(await taken(reader)) == [(1, "father", True)], "the newer state replaces"
        first.show(a_sign(2, "boy"), 100.0)
        clock.now_s = 130.0
        second = captions.feed()  # before the first session's end is noticed
        assert (first.shown, second.shown) == (False, True)
        messages = await taken(reader)
        assert words(messages) == [(2, "boy", True)], "what was open will not be revised any more"
        first.show(a_sign(3, "late"), 100.0)
        first.end()
        second.show(a_sign(1, "girl", start_s=0.5), 129.0)
        (line,) = await taken(reader)
        assert line == CaptionLine(3, "girl", 0.5, 29.5, 30.5, False)
        second.end()
        captions.end()
        second.show(a_sign(2, "never"), 129.0)
        messages = await taken(reader)
        assert words(messages) == [(3, "girl", True)]
        (state,) = (m for m in messages if isinstance(m, CaptionState))
        assert state.state == "ended" and [line.n for line in state.lines] == [1, 2, 3]
        assert await reader.take() is None


async def test_lines_and_what_waits_for_a_reader_are_bounded() -> None:
    captions = Captions(new_id(""))
    feed = captions.feed()
    with captions.reader() as slow:
        for id in range(1, 1001):
            feed.show(a_sign(id, "no"), 0.0)
            feed.show(a_sign(id, "yes", final=True), 0.0)
        assert len(captions) == 0, "it was dropped"
        assert len(await taken(slow)) == slow.capacity
    with captions.reader() as late:
        (greeting,) = await taken(late)
        assert isinstance(greeting, CaptionState)
        assert [line.n for line in greeting.lines] == list(range(1001 - MAX_LINES, 1001))
        assert all(line.gloss == "yes" and line.final for line in greeting.lines)


def test_cues_are_final_in_order_and_without_markup() -> None:
    vtt = WebVtt(10.0)
    assert re.fullmatch(
        r"WEBVTT\n\nNOTE Gloss guesses, not a translation\. "
        r"Time 0 is \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\.\n\n",
        vtt.head(),
    )
    assert vtt.cue(CaptionLine(1, "open", 0.5, 11, 12, False)) == ""
    early = vtt.cue(CaptionLine(1, "early", 0.5, 9, 9.5, True))
    assert early == "1\n00:00:00.000 --> 00:00:00.100\nearly\n\n"
    odd = vtt.cue(CaptionLine(2, "<b>--> &", 0.5, 3671.25, 3672, True))
    assert odd == "2\n01:01:01.250 --> 01:01:02.000\n&lt;b&gt;--&gt; &amp;\n\n"
    before = vtt.cue(CaptionLine(3, "x", 0.5, 3670, 3671, True))
    assert before.startswith("3\n01:01:01.250 --> 01:01:01.350\n")


def test_a_gloss_is_one_line() -> None:
    captions = Captions(new_id(""))
    feed: CaptionFeed = captions.feed()
    feed.show(a_sign(1, " thank\r\nyou\x0b"), 0.0)
    assert captions._snapshot().lines[0].gloss == "thank you"
