"""Everything that lives as long as the server: started in order, ended in reverse.

    port -> recogniser's devices -> batcher -> load -> admission -> server

`serve()` owns the recogniser's threads, the batcher's task, and one TaskGroup in which every
session runs. Leaving it drains: sessions are warned, get their grace period, and are closed.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from models.bundle import Bundle
from streaming.admission import Admission, AdmissionGate
from streaming.batcher import Batcher
from streaming.callers import CallerRules
from streaming.capacity import Pace
from streaming.connections import Connections, quiet_aiohttp
from streaming.https import listening_addresses, ssl_context
from streaming.load import LoadMeter
from streaming.runner import RecognizerCore, open_runners, recognizer_makers
from streaming.server import Server
from streaming.settings import ServerSettings, Settings
from streaming.webrtc.ice import gather_loopback, ice_servers
from streaming.webrtc.peer import check_aiortc

_log = logging.getLogger(__name__)

_M_ARENA_MAX = -8  # malloc.h of glibc
_HEAPS = 2
_BACKLOG = 1024  # connections that wait to be accepted; who comes too many is then refused


@asynccontextmanager
async def serve(settings: Settings, *recognizers: RecognizerCore) -> AsyncIterator[Server]:
    """Listen and serve until the block is left; then drain and leave nothing behind.

    `recognizers`, one a device, replace the bundle that the settings name (benchmarks, tests).

    Raises:
        BundleError, ValueError, OSError: before anything is served; the message says what to do.
    """
    check_aiortc()
    limit_heaps()
    quiet_aiohttp()
    ice_servers(settings.session.ice_servers, settings.session.turn_secret)  # raises if unusable
    if settings.session.loopback_ice:
        gather_loopback()
    tls = ssl_context(settings.server)

    async with AsyncExitStack() as stack:
        # The port first: a port that is taken is an error at once, not after the model was loaded.
        listener = stack.enter_context(bind(settings.server))
        makers = [lambda core=core: core for core in recognizers] or await recognizer_makers(
            settings.recognizer
        )
        runners = await stack.enter_async_context(open_runners(makers, settings.recognizer))
        batcher = Batcher(runners, max_batch=settings.recognizer.max_batch)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(tasks.create_task(batcher.run(), name="batcher").cancel)
        load = LoadMeter(
            settings.load, batcher=batcher, devices=runners, pace=_pace(settings, runners[0].bundle)
        )
        gate = AdmissionGate(wait_s=settings.server.wait_s)
        sessions = Admission(settings.server, tasks, gate=gate, batcher=batcher, load=load)
        stack.callback(tasks.create_task(load.run(sessions), name="load").cancel)
        callers = CallerRules(settings.server)
        connections = Connections(settings.server, callers)
        server = Server(
            settings,
            runners=runners,
            batcher=batcher,
            sessions=sessions,
            load=load,
            callers=callers,
            connections=connections,
        )
        runner = web.AppRunner(
            server.app(),
            access_log=None,
            shutdown_timeout=settings.server.grace_s,
            keepalive_timeout=settings.server.request_s,
            lingering_time=settings.server.body_s,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None
        accepting = connections.run(listener, runner.server, tls)
        stack.callback(tasks.create_task(accepting, name="connections").cancel)
        server.url = address_of(listener, settings.server)
        stack.push_async_callback(sessions.drain)
        yield server


def _pace(settings: Settings, bundle: Bundle) -> Pace:
    """The hop of all sessions. Two windows overlap by at least half of one."""
    longest_s = min(settings.load.longest_hop_s, bundle.encoder.window_s / 2)
    return Pace(settings.session.hop_s or bundle.hop_s, longest_s, 1 / bundle.encoder.fps)


def bind(settings: ServerSettings) -> socket.socket:
    """A socket that listens where the settings say, `::` for IPv4 and IPv6. It does not block.

    Raises:
        ValueError: the host is no address of this machine.
        OSError: the port is taken, or only an administrator may use it.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    both = settings.host == "::" and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            (settings.host, settings.port), family=family, backlog=_BACKLOG, dualstack_ipv6=both
        )
        listener.setblocking(False)
        return listener
    except (OSError, UnicodeError) as error:
        number = error.errno or 0 if isinstance(error, OSError) else -1
        if number == errno.EADDRNOTAVAIL or number < 0:  # negative: the name is unknown (EAI_…)
            raise ValueError(f"--host {settings.host} is no address of this machine") from error
        where = f"{settings.host} port {settings.port}"
        why = getattr(error, "strerror", None) or error
        raise OSError(number, f"can't listen on {where}: {why}") from error


def address_of(listener: socket.socket, settings: ServerSettings) -> str:
    """The address that a person on this machine, or in its network, can open."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = next(map(str, listening_addresses(host)), "localhost")
    if ":" in host:
        host = f"[{host}]"
    scheme = "https" if settings.tls_cert or settings.tls_self_signed else "http"
    return f"{scheme}://{host}:{port}"


def limit_heaps() -> None:
    """Keep the C library from making a heap (arena) a thread, where it has such a setting.

    Each session's decoder runs on a thread of its own, glibc gives threads up to eight heaps a
    core, and a heap that is hardly used any more keeps its pages. Measured after 127 sessions, four
    at once, when all had ended: 20 MB more than before them; with two heaps 2 MB, and 27 MB less in
    all.
    """
    _call_libc("mallopt", _M_ARENA_MAX, _HEAPS)


def trim_heaps() -> None:
    """Return the heaps' free pages to the system, so that the memory in use can be measured."""
    _call_libc("malloc_trim", 0)


def _call_libc(name: str, *arguments: int) -> None:
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no CDLL(None)
        _log.debug("this C library has no %s", name)
