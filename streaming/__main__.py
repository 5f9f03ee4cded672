"""`python -m streaming`: settings from options, `serve()`, signals, drain.

    python -m streaming --port 9000 --model bundles/mine

Prints one line when it is ready:
`livegloss ready at URL (model NAME, N glosses, DEVICE)`. At a terminal it also prints the address
for a phone, on stderr. With `--ray` the servers run on a Ray cluster: `streaming.cluster`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from models.command_line import printable, say
from streaming.app import serve
from streaming.https import invitation
from streaming.settings import Settings, read_settings

if TYPE_CHECKING:
    from streaming.cluster.run import Service


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when a setting can't be used, 1 when something else is wrong."""
    try:
        settings = read_settings(argv)
        _log_to_stderr(as_json=settings.server.log_format == "json")
        asyncio.run(_run(settings))
    except (ValueError, OSError, RuntimeError) as error:  # the user can mend it: one line will do
        say(f"livegloss can't start: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return 0


async def _run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    _on_signals(stop.set)
    serving = serve(settings) if settings.cluster.ray is None else _cluster(settings)
    async with serving as server:
        _on_signals(stop.set)  # Ray has taken them
        say(f"livegloss ready at {server.url} ({server.description})")
        if sys.stderr.isatty() and (text := invitation(server.url, settings.server)):
            print(text, file=sys.stderr, flush=True)
        await stop.wait()


def _on_signals(act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, act)


def _cluster(settings: Settings) -> AbstractAsyncContextManager[Service]:
    """Ray is imported where it is asked for: it is an extra."""
    try:
        from streaming.cluster.run import cluster
    except ModuleNotFoundError as error:
        install = '.venv/bin/pip install -c constraints.txt -e ".[cluster]"'
        raise ValueError(f"--ray needs Ray Serve: {install}") from error
    return cluster(settings)


def _log_to_stderr(*, as_json: bool) -> None:
    """Log from level INFO on: lines of text, or one JSON object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("aioice").setLevel(logging.WARNING)


class _TextFormatter(logging.Formatter):
    """A line of text, then a traceback if there is one; nothing in it steers a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        lines = [self.formatMessage(record)]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        return "\n".join(map(printable, lines))


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


if __name__ == "__main__":
    sys.exit(main())
