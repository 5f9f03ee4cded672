"""What a page and its session say to each other over the data channels.

data channels <-> [conversation] -> recognition; audience -> data channels
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiortc import RTCDataChannel

from streaming import messages
from streaming.pipeline import Pipeline
from streaming.settings import SessionSettings
from streaming.subscribers import PREDICTIONS, RESULTS, Outbox, Subscribers
from streaming.webrtc.data_channel import TokenBucket, speak

_LAST_WORDS_S = 0.5  # for the messages that wait when a session ends


class Conversation:
    """`open` takes a channel of the page's, and speaks on it in one of the session's `tasks`; what
    the page says on `results` goes to the recognition, or to `end`.

    Bounds: a channel of each name, and as many messages a second as the settings allow.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        audience: Subscribers,
        recognition: Pipeline,
        *,
        settings: SessionSettings,
        end: Callable[[str], None],
    ) -> None:
        self.heard_s = time.monotonic()  # when the page last said something
        self._tasks = tasks
        self._audience = audience
        self._recognition = recognition
        self._settings = settings
        self._end = end
        self._allowance = TokenBucket(settings.messages_per_s, 2 * settings.messages_per_s)
        self._speakers: dict[str, asyncio.Task[None]] = {}  # by the channel's label
        self._over = False

    def open(self, channel: RTCDataChannel) -> None:
        """The page has opened a channel. One that is not of the protocol is closed."""
        label = channel.label
        if label not in (RESULTS, PREDICTIONS) or label in self._speakers or self._over:
            channel.close()
            return
        if label == RESULTS:
            channel.on("message", self._hear)
        self._speakers[label] = self._tasks.create_task(
            self._speak(channel, self._audience.join(label)), name=f"channel {label}"
        )

    def close(self) -> None:
        """Take no more channels."""
        self._over = True

    async def finish(self) -> None:
        """Close, and leave a moment for the last words of a closed audience."""
        self.close()
        if self._speakers:
            await asyncio.wait(self._speakers.values(), timeout=_LAST_WORDS_S)
        for speaker in self._speakers.values():
            speaker.cancel()

    async def _speak(self, channel: RTCDataChannel, outbox: Outbox) -> None:
        await speak(channel, outbox, buffered_bytes=self._settings.buffered_bytes)
        self._audience.leave(channel.label)
        if channel.label == RESULTS:
            self._end("channel closed")

    def _hear(self, data: str | bytes) -> None:
        """A message from the page. Too many, too long or not understood: an error goes back."""
        now_s = self.heard_s = time.monotonic()
        if not self._allowance.spend(1, now_s):
            return self._object("too-many", "Too many messages; some were not read.")
        if len(data) > self._settings.message_bytes:
            return self._object("too-long", f"More than {self._settings.message_bytes} bytes.")
        try:
            message = messages.parse(data)
        except messages.MessageError as error:
            return self._object(error.code, str(error))
        match message:
            case messages.Ping(t):
                self._audience.reply(lambda: messages.pong(t), slot="pong")
            case messages.SettingsChange():
                self._recognition.change(message)
            case messages.BeginTake(id):
                self._recognition.begin_take(id)
            case messages.Clear():
                self._recognition.clear()
            case messages.Bye():
                self._end("bye")

    def _object(self, code: str, text: str) -> None:
        self._audience.reply(lambda: messages.error(code, text), slot=f"error {code}")
