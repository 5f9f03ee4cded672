"""A session's signs as live captions for others, who can read them and do nothing else.

    pipeline -> [captions]: the last lines, an outbox for each reader -> caption_routes

A line is one sign: sent early, revised under its number, then final. Captions outlive their
session for a while, so that a signer whose connection was lost goes on at the same address.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from models.schema import Sign
from streaming.ids import server_of, with_server
from streaming.messages import ServerMessage
from streaming.subscribers import Outbox, Subscribers

MAX_LINES = 12  # that a new reader gets
MAX_READERS = 32  # of one session's captions
_UNREAD = 64  # messages kept for a slow reader


def _derived(key: str, purpose: str, size: int) -> str:
    """Text of `size` bytes that follows from the key, but from which the key does not follow."""
    digest = hashlib.sha256(f"livegloss captions {purpose} {key}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:size]).decode().rstrip("=")


class CaptionLine(ServerMessage, frozen=True, tag="line"):
    """One sign; a later message with the same `n` replaces it until `final`."""

    n: int
    gloss: str
    p: float
    start_s: float  # since the captions began
    end_s: float
    final: bool


class CaptionState(ServerMessage, frozen=True, tag="captions"):
    """The first message of each reader, and sent when `state` changes; replaces all lines."""

    state: str  # live; paused: the session has ended, another may go on; ended
    now_s: float  # since the captions began
    lines: list[CaptionLine]


class Captions:
    """The captions of one signer, over one session or several that follow each other.

    `id` and `token` are in the readers' address, `key` lets the signer's next session go on. The
    key is random (`ids.new_id`), the other two are made of it but do not tell it: so a server that
    has forgotten the captions, or another one, goes on at the same address when the key comes. None
    of them tells the session's own id, by which it is controlled.

    Bounds: `MAX_LINES` lines, `MAX_READERS` readers, `_UNREAD` messages for each. A reader that is
    too slow for that is dropped; it gets the last lines when it comes back.
    """

    def __init__(self, key: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.key = key
        self.id = with_server(_derived(key, "id", 9), server_of(key))
        self.token = _derived(key, "token", 16)
        self.state = "paused"
        self.paused_s = self._began_s = clock_s()
        self._clock_s = clock_s
        self._numbers = itertools.count(1)
        self._lines: deque[CaptionLine] = deque(maxlen=MAX_LINES)
        self._feed: CaptionFeed | None = None
        self._readers = Subscribers(self._snapshot, outbox=_UNREAD, streams=MAX_READERS)

    def __len__(self) -> int:
        """Readers."""
        return len(self._readers)

    def reader(self) -> AbstractContextManager[Outbox]:
        """See `Subscribers.stream`. The outbox closes when the captions end."""
        return self._readers.stream()

    def since_began_s(self) -> float:
        return self._clock_s() - self._began_s

    def feed(self) -> CaptionFeed:
        """Take signs from a new session; those of the one before are ignored from now on."""
        self._settle()
        self._feed = CaptionFeed(self)
        self._change("live")
        return self._feed

    def is_fed_by(self, feed: CaptionFeed | None) -> bool:
        return feed is not None and feed is self._feed

    def show(self, feed: CaptionFeed, sign: Sign, video_began_s: float) -> None:
        """Send a sign whose media times count from `video_began_s` (monotonic)."""
        if not self.is_fed_by(feed):
            return
        offset_s = video_began_s - self._began_s
        line = CaptionLine(
            n=feed.number(sign, self._numbers),
            gloss=" ".join(sign.gloss.split()),
            p=round(float(sign.p), 4),
            start_s=round(max(0.0, sign.start_s + offset_s), 3),
            end_s=round(max(0.0, sign.end_s + offset_s), 3),
            final=sign.final,
        )
        self._put(line)

    def pause(self, feed: CaptionFeed) -> None:
        """Its session has ended: nothing more comes, unless another session goes on."""
        if self.is_fed_by(feed):
            self._feed = None
            self._settle()
            self.paused_s = self._clock_s()
            self._change("paused")

    def end(self) -> None:
        """Nothing more comes. Readers may still take what waits for them."""
        if self.state != "ended":
            self._feed = None
            self._settle()
            self._change("ended")
            self.close()

    def close(self) -> None:
        """End the readers' streams without a word: the server stops, and may come back."""
        self._readers.close()

    def _settle(self) -> None:
        """Lines that are open when their session ends will not be revised any more."""
        for line in [line for line in self._lines if not line.final]:
            self._put(msgspec.structs.replace(line, final=True))

    def _put(self, line: CaptionLine) -> None:
        for place, old in enumerate(self._lines):
            if old.n == line.n:
                self._lines[place] = line
                break
        else:
            self._lines.append(line)
        self._readers.send(lambda: line, slot=f"line {line.n}")

    def _change(self, state: str) -> None:
        self.state = state
        self._readers.send(self._snapshot, slot="state")

    def _snapshot(self) -> CaptionState:
        return CaptionState(self.state, round(self.since_began_s(), 3), list(self._lines))


class CaptionFeed:
    """The way of one session's signs to the captions: ids begin anew, numbers of lines go on."""

    def __init__(self, captions: Captions) -> None:
        self.captions = captions
        self._open: dict[int, int] = {}  # the line of a sign that is not final; a decoder has one

    def show(self, sign: Sign, video_began_s: float) -> None:
        """See `Captions.show`."""
        self.captions.show(self, sign, video_began_s)

    def end(self) -> None:
        """The session has ended."""
        self.captions.pause(self)

    @property
    def shown(self) -> bool:
        """Whether its signs are shown: captions end, or go on with another session."""
        return self.captions.is_fed_by(self)

    def number(self, sign: Sign, numbers: itertools.count[int]) -> int:
        """The number of a sign's line, a new one for a new sign."""
        n = self._open.get(sign.id) or next(numbers)
        if sign.final:
            self._open.pop(sign.id, None)
        else:
            self._open[sign.id] = n
        return n


@dataclass(slots=True)
class WebVtt:
    """Captions as a WebVTT file that grows: a cue for each line that becomes final.

    Time 0 is `from_s`, when this reader came (seconds since the captions began): who starts the
    stream together with a recording has its captions. Cues are as far apart as the signs were in
    the sender's own time.
    """

    from_s: float
    _last_s: float = 0.0  # a cue does not begin before the one before it

    def head(self) -> str:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        return f"WEBVTT\n\nNOTE Gloss guesses, not a translation. Time 0 is {now}Z.\n\n"

    def cue(self, line: CaptionLine) -> str:
        """The cue of a final line; "" for others."""
        if not line.final:
            return ""
        self._last_s = start_s = max(self._last_s, line.start_s - self.from_s)
        end_s = max(start_s + 0.1, line.end_s - self.from_s)
        text = line.gloss.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return f"{line.n}\n{_cue_time(start_s)} --> {_cue_time(end_s)}\n{text}\n\n"


def _cue_time(seconds: float) -> str:
    """Seconds as WebVTT writes them: hh:mm:ss.mmm."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
