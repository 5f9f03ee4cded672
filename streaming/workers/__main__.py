"""A worker process: `python -m streaming.workers LINK MEMORY`, two file descriptors.

`streaming.workers.process` starts it and says over the link what it is to serve.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import sys
from collections.abc import Sequence

from models.decoder import DecoderSettings
from streaming.ice import gather_loopback
from streaming.logs import log_to_stderr
from streaming.settings import SessionSettings
from streaming.workers.link import Link, LinkClosed
from streaming.workers.remote_batcher import RemoteBatcher
from streaming.workers.slots import FrameSlots, SlotPool
from streaming.workers.wire import bundle_from
from streaming.workers.worker import Worker

_END_S = 10  # to close everything once the server has hung up, else the system ends the process


async def work(end: socket.socket, memory: int) -> None:
    """Serve the link's other end until it hangs up."""
    link = await Link.over(end)
    note = await link.receive()
    fields = note.fields
    log_to_stderr(fields["log_format"])
    settings = fields["settings"]
    settings = SessionSettings(**{**settings, "ice_servers": tuple(settings["ice_servers"])})
    if settings.loopback_ice:
        gather_loopback()
    pool = SlotPool(fields["slots"])
    slots = FrameSlots(memory, count=pool.count, slot_bytes=fields["slot_bytes"])
    os.close(memory)
    worker = Worker(
        link,
        RemoteBatcher(link, pool, slots),
        bundle=bundle_from(fields["bundle"], note.rows),
        settings=settings,
        decoder=DecoderSettings(**fields["decoder"]),
        hop_s=fields["hop_s"],
        on_hang_up=functools.partial(signal.alarm, _END_S),
    )
    await worker.run()


def main(argv: Sequence[str]) -> int:
    link, memory = (int(word) for word in argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a group's: the server drains, then hangs up
    try:
        asyncio.run(work(socket.socket(fileno=link), memory))
    except LinkClosed:
        return 1  # the server went away before it said what to do
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
