"""Everything that lives as long as the server: begun in order, ended in reverse.

port -> recogniser's devices -> batcher -> load -> admission -> server

`serve()` owns the recogniser's threads, the batcher's task, and one TaskGroup in which every
session runs. Leaving it drains: sessions are told, get their grace period, and are closed.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from models.bundle import Bundle
from models.decoder import DecoderSettings
from models.schema import EncoderSpec
from streaming.admission import Admission, AdmissionGate
from streaming.batcher import Batcher
from streaming.capacity import Pace
from streaming.https import ssl_context
from streaming.load import LoadMeter
from streaming.runner import RecognizerCore, Runners, makes_of
from streaming.server import Server
from streaming.settings import ServerSettings, Settings
from streaming.webrtc.ice import gather_loopback, ice_servers
from streaming.webrtc.peer import check_aiortc


@asynccontextmanager
async def serve(settings: Settings, *recognizers: RecognizerCore) -> AsyncIterator[Server]:
    """Listen and serve until the block is left; then drain and leave nothing behind.

    `recognizers`, one a device, replace the bundle that the settings name (benchmarks, tests).

    Raises:
        BundleError, ValueError, OSError: before anything is served; the message says what to do.
    """
    check_aiortc()
    few_arenas()
    ice_servers(settings.session.ice_servers, settings.session.turn_secret)  # or it can't be used
    if settings.session.loopback_ice:
        gather_loopback()
    tls = ssl_context(settings.server)

    async with AsyncExitStack() as stack:
        # The port first: a taken one is told at once, not after the model was loaded.
        listener = stack.enter_context(_bind(settings.server))
        makes = [lambda one=one: one for one in recognizers] or await makes_of(settings.recognizer)
        devices = await stack.enter_async_context(Runners(makes, settings.recognizer))
        batcher = Batcher(list(devices), max_batch=settings.recognizer.max_batch)
        decoder, hop_s = _reading(settings, devices.bundle)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(tasks.create_task(batcher.run(), name="batcher").cancel)
        load = LoadMeter(
            settings.load,
            batcher=batcher,
            devices=list(devices),
            sessions=lambda: iter(sessions),
            coming=lambda: sessions.coming,
            most_sessions=settings.server.max_sessions,
            pace=_pace(settings, devices.spec, hop_s),
        )
        stack.callback(tasks.create_task(load.run(), name="load").cancel)
        door = AdmissionGate(wait_s=settings.server.wait_s)
        sessions = Admission(settings.server, tasks, door=door, batcher=batcher, load=load)
        server = Server(
            settings,
            devices=devices,
            batcher=batcher,
            sessions=sessions,
            load=load,
            decoder=decoder,
            hop_s=hop_s,
        )
        runner = web.AppRunner(
            server.app(), access_log=None, shutdown_timeout=settings.server.grace_s
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listener, ssl_context=tls).start()
        server.url = _url(listener, settings)
        stack.push_async_callback(server.sessions.drain)
        yield server


def _reading(settings: Settings, bundle: Bundle) -> tuple[DecoderSettings, float]:
    """How a session reads predictions, and its hop: as the settings say, or else the bundle."""
    decoder = settings.decoder or DecoderSettings(threshold=bundle.threshold)
    return decoder, settings.session.hop_s or bundle.hop_s


def _pace(settings: Settings, spec: EncoderSpec, hop_s: float) -> Pace:
    """The hop of all sessions; two windows overlap by half of one at least."""
    longest_s = min(settings.load.longest_hop_s, spec.window_s / 2)
    return Pace(hop_s, longest_s, 1 / spec.fps)


def _bind(settings: ServerSettings) -> socket.socket:
    """A socket that listens where the settings say.

    Raises:
        OSError: the port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        raise OSError(error.errno, f"can't listen on {where}: {error.strerror or error}") from error


def _url(listener: socket.socket, settings: Settings) -> str:
    """The address that a person on this machine, or in this room, can open."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    elif ":" in host:
        host = f"[{host}]"
    secure = settings.server.tls_cert or settings.server.tls_self_signed
    return f"{'https' if secure else 'http'}://{host}:{port}"


# MERGED from streaming.heap: The C library's heaps: few of them, so that what sessions held is
# found again by the next.

_log = logging.getLogger(__name__)

_M_ARENA_MAX = -8  # malloc.h of glibc
_ARENAS = 2


def few_arenas() -> None:
    """Keep the C library from making a heap a thread; where it has no such setting, nothing.

    Each session's decoder runs on a thread of its own, glibc gives threads up to eight heaps a
    core, and a heap that is hardly used any more keeps its pages. Measured after 127 sessions, four
    at once, with nobody there: 20 MB more than before, with two arenas 2 MB, and 27 MB less in all.
    """
    _call("mallopt", _M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Give the pages back that nothing lies in, so that what is held can be told."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (OSError, AttributeError, TypeError):  # TypeError: Windows knows no CDLL(None)
        _log.debug("this C library has no %s", name)
