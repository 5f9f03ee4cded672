"""`python -m streaming`: settings from flags, `serve()`, signals, drain.

    python -m streaming --port 9000 --model bundles/mine

Prints one line when it is ready:
`livegloss ready at URL (model NAME, N glosses, DEVICE)`. People at a terminal get the address for a
phone after it, on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from models.decoder import DecoderSettings
from streaming.app import serve
from streaming.flags import HelpFormatter
from streaming.https import invitation
from streaming.logs import FORMATS, log_to_stderr
from streaming.settings import (
    LoadSettings,
    RecognizerSettings,
    ServerSettings,
    SessionSettings,
    Settings,
)


def parser() -> argparse.ArgumentParser:
    """The command line; every default is the one in `streaming.settings`."""
    server, session, chosen = ServerSettings(), SessionSettings(), RecognizerSettings()
    load = LoadSettings()
    flags = argparse.ArgumentParser(
        prog="python -m streaming",
        description="Recognise ASL glosses from browsers' cameras over WebRTC.",
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    add = flags.add_argument
    add("--host", default=server.host, help="address to listen on; 0.0.0.0 for the whole network")
    add("--port", type=int, default=server.port, help="0 picks a free one")
    add("--model", default=chosen.model, metavar="PATH", help="a bundle's folder, or 'builtin'")
    add("--device", default=chosen.device, help="auto, cpu, cuda or cuda:N")
    add("--hop-s", type=float, metavar="S", help="time between windows (default: the bundle's)")
    add(
        "--longest-hop-s",
        type=float,
        default=load.longest_hop_s,
        metavar="S",
        help="the same while the machine is full, before anyone is refused",
    )
    add("--top-k", type=int, default=session.top_k, metavar="N", help="candidates told")
    add(
        "--threshold",
        type=float,
        metavar="P",
        help="how sure a sign must be (default: the bundle's)",
    )
    add("--max-sessions", type=int, default=server.max_sessions, metavar="N", help="at once")
    add("--token", help="ask this of every session, as 'Authorization: Bearer TOKEN'")
    add("--signs", metavar="FOLDER", help="keep taught signs there instead of in browsers")
    add("--tls-cert", metavar="FILE", help="serve HTTPS with this certificate (PEM)")
    add("--tls-key", metavar="FILE", help="and this key (PEM)")
    add("--tls-self-signed", action="store_true", help="serve HTTPS with a certificate made now")
    add("--public", action="store_true", help="send nothing to private addresses that peers name")
    add(
        "--ice-server",
        action="append",
        default=[],
        metavar="URL",
        help="stun:, turn: or turns: URL; may be repeated; none is contacted unless given",
    )
    add("--turn-secret", metavar="TEXT", help="the TURN servers' shared secret")
    add(
        "--loopback-ice",
        action="store_true",
        help="media over 127.0.0.1 only, for tests",
    )
    add("--log-format", choices=FORMATS, default=server.log_format, help="of the log on stderr")
    return flags


def settings_from(argv: Sequence[str] | None) -> Settings:
    """The settings that the flags ask for. A bad flag exits with status 2."""
    flags = parser()
    given = flags.parse_args(argv)
    try:
        return Settings(
            server=ServerSettings(
                host=given.host,
                port=given.port,
                max_sessions=given.max_sessions,
                max_sessions_per_address=given.max_sessions,
                token=given.token,
                signs=given.signs,
                tls_cert=given.tls_cert,
                tls_key=given.tls_key,
                tls_self_signed=given.tls_self_signed,
                log_format=given.log_format,
            ),
            session=SessionSettings(
                hop_s=given.hop_s,
                top_k=given.top_k,
                loopback_ice=given.loopback_ice,
                private_ice=not given.public,
                ice_servers=tuple(given.ice_server),
                turn_secret=given.turn_secret,
            ),
            recognizer=RecognizerSettings(model=given.model, device=given.device),
            load=LoadSettings(longest_hop_s=given.longest_hop_s),
            decoder=None if given.threshold is None else DecoderSettings(threshold=given.threshold),
        )
    except ValueError as error:
        flags.error(str(error))


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(settings) as server:
        bundle = server.devices.bundle
        print(
            f"livegloss ready at {server.url} "
            f"(model {bundle.name}, {len(bundle.glosses)} glosses, {server.devices.device})",
            flush=True,
        )
        if sys.stderr.isatty() and (words := invitation(server.url, settings.server)):
            print(words, file=sys.stderr, flush=True)
        await stop.wait()


def main(argv: Sequence[str] | None = None) -> int:
    settings = settings_from(argv)
    log_to_stderr(settings.server.log_format)
    try:
        asyncio.run(run(settings))
    except (ValueError, OSError, RuntimeError) as error:  # theirs to mend: one line will do
        print(f"livegloss can't start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
