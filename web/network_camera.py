"""A network camera (RTSP or HTTP), read on a thread of its own: an address in, pictures out.

    address -> [network camera] -> live

The address comes from a visitor: neither it nor what it leads to may name a file of this machine.
Each picture is handed over at once; a file that arrives faster than it plays is slowed down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

import av

_PROTOCOLS = ("rtsp", "rtsps", "http", "https")
_REPLY_S = 5.0  # to connect, and for each piece of video
_TRIES = 5  # in a row to reconnect to a camera that has worked
_PAUSE_S = 1.0  # before the first of them, twice as long before the second, and so on
_AHEAD_S = 1.0  # a larger step in time is a new clock, not a file that arrives quickly
_MAX_PIXELS = 3840 * 2160
_OPTIONS = {
    "protocol_whitelist": "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto",
    "rtsp_transport": "tcp",  # passes most firewalls, and loses nothing
}
_NO_TIMES = ("mpjpeg", "mjpeg", "jpeg_pipe")  # formats whose picture times are invented


class NetworkCamera:
    """Reads until `stop`, until `on_picture` returns False, or until the camera can't be reached.

    A camera that never worked is given up at once; to one that worked it reconnects. `status` is a
    sentence for the visitor; `reading` is False once it has ended.

    Args:
        url: rtsp, rtsps, http or https.
        on_picture: called with each `av.VideoFrame`, on the thread; False: no more are wanted.
        on_pause: called when the pictures end.

    Raises:
        ValueError: the address can't be a camera's; the text is for the visitor.
    """

    def __init__(
        self, url: str, on_picture: Callable[[Any], bool], on_pause: Callable[[], None]
    ) -> None:
        self._url = url.strip()
        self._host = _check(self._url).hostname or ""
        self._on_picture = on_picture
        self._on_pause = on_pause
        self._stop = threading.Event()
        self.status = f"Connecting to {self._host} …"
        self._thread = threading.Thread(target=self._run, name="network-camera", daemon=True)
        self._thread.start()

    @property
    def reading(self) -> bool:
        return self._thread.is_alive() and not self._stop.is_set()

    def stop(self) -> None:
        """Hand over no more pictures. The connection ends within seconds; nobody waits for it."""
        self._stop.set()
        self._on_pause()

    # On the thread

    def _run(self) -> None:
        tries = _TRIES  # a camera that never worked is given up at once
        while not self._stop.is_set():
            shown, why = self._read()
            tries = 1 if shown else tries + 1
            if self._stop.is_set():
                return
            if tries > _TRIES:
                self.status = why
                return
            self.status = f"{why} Connecting again …"
            self._stop.wait(tries * _PAUSE_S)

    def _read(self) -> tuple[bool, str]:
        """Read one connection. Returns whether a picture came, and why it ended."""
        shown = False
        try:
            with av.open(
                self._url,
                options=_OPTIONS,
                timeout=(_REPLY_S, _REPLY_S),
                metadata_errors="ignore",
            ) as container:
                for picture in self._pictures(container):
                    if self._stop.is_set() or not self._on_picture(picture):
                        self._stop.set()
                        break
                    shown, self.status = True, f"Reading {self._host}."
            why = f"The video from {self._host} has ended."
        except (av.FFmpegError, OSError, ValueError, IndexError, MemoryError) as error:
            why = self._why(error, shown)
        if shown and not self._stop.is_set():
            self._on_pause()
        return shown, why

    def _pictures(self, container: Any) -> Iterator[Any]:
        stream = container.streams.video[0]  # IndexError: there is none
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        timeless = container.format.name in _NO_TIMES
        live = timeless or container.format.name == "rtsp"
        began_s: float | None = None  # when the picture of time 0 was due
        for picture in container.decode(stream):
            if timeless:
                picture.pts = None
            elif not live and picture.time is not None:
                now_s = time.monotonic()
                if began_s is None or not -_AHEAD_S < began_s + picture.time - now_s < _AHEAD_S:
                    began_s = now_s - picture.time
                self._stop.wait(max(0.0, began_s + picture.time - now_s))
            yield picture

    def _why(self, error: Exception, shown: bool) -> str:
        """The error for the visitor. FFmpeg's text would show the address and its password."""
        match error:
            case _ if shown:
                return f"{self._host} stopped sending."
            case av.HTTPUnauthorizedError() | av.HTTPForbiddenError():
                return f"{self._host} asks for a login: write name:password@ before its name."
            case av.HTTPNotFoundError():
                return f"{self._host} has no video at that address."
            case ConnectionRefusedError():
                return f"{self._host} refuses the connection. Is the port right?"
            case TimeoutError() | av.ExitError():
                return f"{self._host} did not answer within {_REPLY_S:.0f} seconds."
            case _:
                return f"No video could be read from {self._host}. Is the address right?"


def _check(url: str) -> SplitResult:
    """The parts of an address that may be a camera's.

    Raises:
        ValueError: it may not.
    """
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("That is no address. One looks like rtsp://camera.local/stream.") from None
    if parts.scheme not in _PROTOCOLS:
        raise ValueError("The address must begin with rtsp, rtsps, http or https.")
    if not parts.hostname or not port_is_fine or any(c <= " " or c == "\x7f" for c in url):
        raise ValueError("That is no address. One looks like rtsp://camera.local/stream.")
    return parts
