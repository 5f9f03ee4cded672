"""One worker process as the server holds it: started, asked, listened to, and ended for good.

crew -> [worker_process] -> link, slots -> worker
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.decoder import DecoderSettings
from models.schema import EncoderSpec
from streaming.answering import Answering
from streaming.settings import Settings
from streaming.usage import Usage
from streaming.workers.link import Link, LinkClosed, Note, Rows
from streaming.workers.remote_session import RemoteSession
from streaming.workers.slots import FrameSlots, nameless_memory
from streaming.workers.window_desk import MAX_PIXELS, WindowDesk
from streaming.workers.wire import Fields, SessionLost, bundle_fields, refusal_from

_WINDOWS = 4  # as many windows' worth of new frames may be on their way
_SILENT_S = 20.0  # it reports every second: after so long without a word it is taken for hung
_END_S = 5.0  # to end by itself, else it is killed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What every worker is begun with; `streaming.workers.__main__` reads it."""

    fields: Fields
    rows: Rows
    spec: EncoderSpec

    def slots(self) -> tuple[int, int]:
        """How many slots, and how large: one holds a picture as it is asked of cameras."""
        width, height = self.spec.camera_size
        size = width * height * 3
        return max(_WINDOWS * self.spec.frames, -(-3 * MAX_PIXELS // size)), size


def order_for(bundle: Bundle, settings: Settings, decoder: DecoderSettings, hop_s: float) -> Order:
    """For sessions that read `bundle`'s predictions with `decoder`, a window each `hop_s`."""
    about, rows = bundle_fields(bundle)
    fields = {
        "bundle": about,
        "settings": asdict(settings.session),
        "decoder": asdict(decoder),
        "hop_s": hop_s,
        "log_format": settings.server.log_format,
    }
    return Order(fields=fields, rows=rows, spec=bundle.encoder)


class WorkerProcess:
    """`run` starts the process and returns when it has ended; cancelling ends it.

    Whatever it leaves undone is given up then: calls raise `SessionLost`, sessions end, their
    windows are withdrawn, its shared memory goes.
    """

    def __init__(self, name: str, order: Order, answering: Answering) -> None:
        self.name = name
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.usage = Usage(cpu_s=0.0, loop_cpu_s=0.0, resident_bytes=0.0, threads=0)
        self.pid: int | None = None
        self.sessions: dict[str, RemoteSession] = {}
        self._order = order
        self._answering = answering
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._link: Link | None = None
        self._desk: WindowDesk | None = None

    @property
    def takes_sessions(self) -> bool:
        return self._link is not None and self.ready.done()

    async def run(self) -> int:
        """The process from its start to its end. Returns its exit status.

        Raises:
            OSError: it can't be started.
        """
        count, size = self._order.slots()
        with (
            _memory(count * size) as memory,
            closing(FrameSlots(memory, count=count, slot_bytes=size)) as slots,
        ):
            process, end = await self._start(memory)
            self.pid = process.pid
            try:
                link = await Link.over(end)
                fields = self._order.fields
                link.send("begin", self._order.rows, slots=count, slot_bytes=size, **fields)
                await self._serve(link, slots)
            finally:
                status = await _end(process)
        return status

    async def _start(self, memory: int) -> tuple[asyncio.subprocess.Process, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "streaming.workers",
                    str(theirs.fileno()),
                    str(memory),
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), memory),
                    cwd=Path(__file__).parents[2],
                )
            except BaseException:
                ours.close()
                raise
        return process, ours

    async def _serve(self, link: Link, slots: FrameSlots) -> None:
        """Hear what the worker says until it says no more."""
        spec = self._order.spec
        self._link = link
        desk = self._desk = WindowDesk(link, slots, self._answering, spec, self.sessions)
        try:
            while True:
                async with asyncio.timeout(_SILENT_S):
                    note = await link.receive()
                self._hear(note, desk)
        except LinkClosed as error:
            _log.info("worker %s: %s", self.name, error)
        except TimeoutError:
            _log.error("worker %s has said nothing for %g s", self.name, _SILENT_S)
        except (KeyError, TypeError, ValueError, AttributeError):
            _log.exception("worker %s said what no worker says", self.name)
        finally:
            self._link = None
            link.close()
            desk.close()
            for call in self._calls.values():
                if not call.done():
                    call.set_exception(SessionLost())
            for session in list(self.sessions.values()):
                session.over("worker lost")

    def _hear(self, note: Note, desk: WindowDesk) -> None:
        fields = note.fields
        match note.kind:
            case "window":
                desk.window(note)
            case "forget":
                desk.forget(fields["stream"])
            case "done" | "failed" if (call := self._calls.get(fields["call"])) is not None:
                _settle(call, note)
            case "ended" if (session := self.sessions.get(fields["session"])) is not None:
                session.over(str(fields["reason"]))
            case "report":
                self.usage = Usage(**fields["usage"])
                for id, report in fields["sessions"].items():
                    if id in self.sessions:
                        self.sessions[id].reported(report)
                if not self.ready.done():
                    self.ready.set_result(None)

    # What its sessions need

    async def ask(self, what: str, rows: Rows | None = None, **fields: Any) -> Any:
        """Let the worker do something, and wait for what it says.

        Raises:
            SessionLost: it has ended, or knows no such session.
            RuntimeError: it could not, by a fault of ours that it has logged.
            Exception: what a session raises when asked this.
        """
        if self._link is None:
            raise SessionLost
        number = next(self._numbers)
        call = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            self._link.send("ask", rows, call=number, what=what, **fields)
            return await call
        finally:
            del self._calls[number]

    def tell(self, kind: str, **fields: Any) -> None:
        """Tell the worker something that it does not answer."""
        if self._link is not None:
            self._link.send(kind, **fields)

    def part(self, session: RemoteSession) -> None:
        """A session has ended."""
        self.sessions.pop(session.id, None)
        if self._desk is not None:
            self._desk.forget(session.id)


def _settle(call: asyncio.Future[Any], note: Note) -> None:
    if call.done():
        return
    if note.kind == "done":
        call.set_result(note.fields["said"])
    elif note.fields["refusal"] is None:
        call.set_exception(RuntimeError("a worker failed; it has logged why"))
    else:
        call.set_exception(refusal_from(note.fields["refusal"]))


@contextmanager
def _memory(size: int) -> Iterator[int]:
    handle = nameless_memory(size)
    try:
        yield handle
    finally:
        os.close(handle)


async def _end(process: asyncio.subprocess.Process) -> int:
    """Its exit status, once it has ended: by itself, or else killed."""
    try:
        async with asyncio.timeout(_END_S):
            return await process.wait()
    except TimeoutError:
        _log.warning("a worker did not end by itself: killing it")
    process.kill()
    return await process.wait()
