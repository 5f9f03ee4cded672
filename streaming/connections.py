"""The TCP connections of HTTP clients: how many there may be, and when a silent one is closed.

    listening socket -> [connections] -> aiohttp -> server's routes

aiohttp closes a connection whose request does not arrive in time, but counts no connections and
waits without end for clients that do not read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from streaming.callers import CallerRules
from streaming.settings import ServerSettings

_log = logging.getLogger(__name__)

_SHUTDOWN_S = 2.0  # TLS: to say goodbye
_NO_LINGERING = struct.pack("ii", 1, 0)  # on, for no time
_STREAM_BUFFER = 32 * 1024  # bytes that the system keeps for a client of a stream
_ACCEPT_PAUSE_S = 1.0  # after an error, such as no file descriptor left


class Connections:
    """Accepts connections and gives each to an HTTP protocol of its own.

    Bounds: `connections` in all, `connections_per_address` for one address (this machine and
    trusted proxies may use all). Overflow rule: a new connection is closed at once. A client for
    which something waits longer than `stalled_s` is disconnected.
    """

    def __init__(self, settings: ServerSettings, rules: CallerRules) -> None:
        self.refused = 0  # connections, since the start
        self._settings = settings
        self._rules = rules
        self._open: Counter[str] = Counter()  # by address

    def __len__(self) -> int:
        return self._open.total()

    async def run(
        self,
        listener: socket.socket,
        http: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
    ) -> None:
        """Accept until cancelled. `listener` does not block; `http` makes a protocol."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(0)  # else a flood of connections keeps everything else waiting
                try:
                    accepted, peer = await loop.sock_accept(listener)
                except OSError as error:
                    _log.warning("can't accept a connection: %s", error.strerror or error)
                    await asyncio.sleep(_ACCEPT_PAUSE_S)
                    continue
                address = self._rules.share_of(peer[0])
                if not self._has_room(address, local=self._rules.is_local(peer[0])):
                    self.refused += 1
                    accepted.close()
                    continue
                self._open[address] += 1
                serving = self._serve(accepted, address, http, tls)
                tasks.create_task(serving, name="connection")

    def _has_room(self, address: str, *, local: bool) -> bool:
        if len(self) >= self._settings.connections:
            return False
        return local or self._open[address] < self._settings.connections_per_address

    async def _serve(
        self,
        accepted: socket.socket,
        address: str,
        http: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
    ) -> None:
        """Bring the connection up; from then on it lives by itself."""
        connection = _Connection(http(), self._settings.stalled_s, lambda: self._closed(address))
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=self._settings.request_s if tls else None,
                ssl_shutdown_timeout=_SHUTDOWN_S if tls else None,
            )
        except OSError as error:  # TLS errors and time-outs among them
            _log.debug("a connection was not set up: %s", error)
        except Exception:  # it must not end the others
            _log.exception("a connection failed")
        finally:
            if not connection.made:
                self._closed(address)

    def _closed(self, address: str) -> None:
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class _Connection(asyncio.Protocol):
    """Passes on all that happens, and ends a connection whose client reads too slowly."""

    def __init__(
        self, http: asyncio.Protocol, stalled_s: float, closed: Callable[[], None]
    ) -> None:
        self.made = False
        self._http = http
        self._stalled_s = stalled_s
        self._closed = closed
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = True
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(0)  # tell of all that the system does not take
        self._http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        return self._http.eof_received()

    def pause_writing(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._stalled_s, self._abort)
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._cancel_deadline()
        self._http.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._cancel_deadline()
        self._http.connection_lost(error)
        self._closed()

    def _abort(self) -> None:
        """End it without waiting for what the client has not read, in the system's buffers too."""
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self._transport.abort()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def stream_to(request: web.Request, content_type: str) -> web.StreamResponse:
    """The response to write to a client for as long as it reads: nobody on the way keeps it.

    The system keeps little of it, so that a client that does not read is noticed.
    """
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STREAM_BUFFER)
    headers = {
        "Content-Type": content_type,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",  # nginx would keep the messages back
    }
    return web.StreamResponse(headers=headers)


def quiet_aiohttp() -> None:
    """Keep out of the log what clients do: aiohttp writes a traceback for a malformed request."""
    logging.getLogger("aiohttp.server").addFilter(_is_our_fault)


def _is_our_fault(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | RequestPayloadError | ConnectionError)
