"""What can be set: a frozen dataclass a stage, units in the names, checked when it is made.

A field is an option of `python -m streaming` and its comment the option's help, unless it is
`Suppress`ed. Secrets also come from files or from the environment, where nobody else sees them:
command lines are shown to every user of the machine.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from tyro.conf import Suppress, arg

from models.command_line import read_command_line
from streaming.ids import SERVER_NAME
from streaming.messages import MAX_TOP_K

_Text = Annotated[str | None, arg(metavar="TEXT")]
_File = Annotated[str | None, arg(metavar="FILE")]
_Folder = Annotated[str | None, arg(metavar="FOLDER")]
_Seconds = Annotated[float, arg(metavar="S")]
_OptionalSeconds = Annotated[float | None, arg(metavar="S")]
_Ports = Annotated[str | None, arg(metavar="A-B")]
_Addresses = Annotated[tuple[str, ...], arg(name="announce-ip", metavar="ADDRESS")]
_Probability = Annotated[float | None, arg(metavar="P")]
_Network = IPv4Network | IPv6Network
_MOST_REPLICAS = 1000

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*")
_ORIGIN = re.compile(r"https?://[^\s/?#@\\,;*]+")


def _positive(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value}")


def _check_secret(option: str, secret: str | None, file: str | None) -> None:
    if secret is None:
        return
    if file is not None:
        raise ValueError(f"--{option} and --{option}-file are two ways to give one secret")
    if not secret:
        raise ValueError(f"--{option} is empty")
    if not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        raise ValueError(f"--{option} must be printable ASCII without spaces at its ends")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The HTTP side: where it listens and whom it admits."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 for the whole network
    port: int = 8080  # 0 picks a free one
    max_sessions: int = 8  # sessions at a time
    # sessions of one address at a time; None: half of them, for this machine's own pages all
    max_sessions_per_address: Annotated[int | None, arg(metavar="N")] = None
    # every session must send it, as 'Authorization: Bearer TEXT'; others see it in `ps`, so
    # better give it by --token-file or by the environment variable LIVEGLOSS_TOKEN
    token: _Text = field(default=None, repr=False)
    token_file: _File = None  # take the token from this file
    signs: _Folder = None  # keep taught signs there instead of in browsers; needs --token
    tls_cert: _File = None  # serve HTTPS with this certificate (PEM)
    tls_key: _File = None  # and this key (PEM)
    tls_self_signed: bool = False  # serve HTTPS with a certificate made at the start
    # one word that the ids of its sessions end with, by which a proxy finds it among several
    name: Annotated[str, arg(metavar="NAME")] = ""
    # a name by which clients call this server, besides its addresses and its own
    allow_host: Annotated[tuple[str, ...], arg(metavar="NAME")] = ()
    # pages of this origin (https://HOST) may use the server, too
    allow_origin: Annotated[tuple[str, ...], arg(metavar="ORIGIN")] = ()
    # a reverse proxy's address or network; its X-Forwarded-For is believed
    trusted_proxy: Annotated[tuple[str, ...], arg(metavar="ADDRESS")] = ()
    log_format: Literal["text", "json"] = "text"  # of the log on stderr
    grace_s: Suppress[float] = 5.0  # from SIGTERM to the end of the last session
    wait_s: Suppress[float] = 5.0  # a caller waits for its turn at most so long
    retry_after_s: Suppress[int] = 5  # sent to refused callers, or up to half as much again
    body_bytes: Suppress[int] = 64 * 1024  # largest request body
    connections: Suppress[int] = 256  # TCP connections at a time
    connections_per_address: Suppress[int] = 64  # the same; not for this machine and its proxies
    request_s: Suppress[float] = 20.0  # TLS handshake; until the next request's head is there
    body_s: Suppress[float] = 10.0  # from a request's head to the end of its body
    stalled_s: Suppress[float] = 20.0  # a client leaves unread what waits for it

    def __post_init__(self) -> None:
        _positive(self, "max_sessions", "grace_s", "retry_after_s", "body_bytes", "wait_s")
        _positive(self, "connections", "connections_per_address")
        _positive(self, "request_s", "body_s", "stalled_s")
        if self.max_sessions_per_address is not None:
            _positive(self, "max_sessions_per_address")
        if self.name and not re.fullmatch(SERVER_NAME, self.name):
            raise ValueError(f"--name takes small letters, digits and '-', not '{self.name}'")
        for name in self.allow_host:
            if not _NAME.fullmatch(name.lower()):
                raise ValueError(f"--allow-host takes a name such as signs.example, not '{name}'")
        for origin in self.allow_origin:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"--allow-origin takes an origin such as https://example.org, not '{origin}'"
                )
        _ = self.proxies  # raises
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must lie between 0 and 65535, not {self.port}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key go together")
        if self.tls_cert and self.tls_self_signed:
            raise ValueError("--tls-self-signed makes its own certificate: leave out --tls-cert")
        if not self.host:
            raise ValueError("--host is empty; 0.0.0.0 stands for every address of this machine")
        _check_secret("token", self.token, self.token_file)

    @property
    def proxies(self) -> tuple[_Network, ...]:
        """The networks of the trusted proxies.

        Raises:
            ValueError: one is no address.
        """
        try:
            return tuple(ipaddress.ip_network(one, strict=False) for one in self.trusted_proxy)
        except ValueError as error:
            raise ValueError(f"--trusted-proxy takes an address or a network: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizerSettings:
    """Which model, on which device."""

    model: Annotated[str, arg(metavar="PATH")] = "builtin"  # a bundle's folder, or 'builtin'
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    max_batch: Suppress[int] = 16  # windows
    # New frames of a window that an encoder reads which goes frame by frame: all of them at the
    # usual hop, a smaller part the longer the hop gets (docs/load.md).
    max_new_frames: Suppress[int] = 2
    batch_s: Suppress[float] = 30.0  # a batch that takes longer is given up; its device is stuck

    def __post_init__(self) -> None:
        _positive(self, "max_batch", "max_new_frames", "batch_s")
        kind, _, number = self.device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and not number.isdigit()):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, not '{self.device}'")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """One session: its windows, its signs, its connection."""

    hop_s: _OptionalSeconds = None  # time between windows; None: the bundle's
    top_k: int = 5  # candidates in a prediction
    threshold: _Probability = None  # how probable a sign must be; None: the bundle's
    public: bool = False  # send nothing to private addresses that peers name
    # stun:, turn: or turns: URL; may be repeated; none is contacted unless given
    ice_servers: Annotated[tuple[str, ...], arg(name="ice-server", metavar="URL")] = ()
    # the TURN servers' shared secret (for credentials that expire); others see it in `ps`, so
    # better give it by --turn-secret-file or by the environment variable LIVEGLOSS_TURN_SECRET
    turn_secret: _Text = field(default=None, repr=False)
    turn_secret_file: _File = None  # take the TURN secret from this file
    udp_ports: _Ports = None  # sessions receive video on these UDP ports only; None: on any
    # the SDP answer names this IP address instead of the machine's own; may be repeated
    announce_ip: _Addresses = ()
    loopback_ice: bool = False  # media over 127.0.0.1 only, for tests
    goal_s: Suppress[float] = 0.3  # deadline of a window's prediction, from its newest frame
    follow_s: Suppress[float] = 6.0  # from the SDP answer to an ICE check, else the session ends
    connect_s: Suppress[float] = 20.0  # from the offer to the first frame, else the session ends
    silence_s: Suppress[float] = 15.0  # no frame and no message for so long: the peer is gone
    heartbeat_s: Suppress[float] = 5.0  # between two `stats`
    messages_per_s: Suppress[float] = 20.0  # sustained rate of the page's messages; more are errors
    message_bytes: Suppress[int] = 4096  # a longer message from the page is an error
    peer_bytes_per_s: Suppress[float] = 64 * 1024  # sustained rate of a peer's data channels
    # Sustained rate of all it sends; a camera in full HD sends 500 to 1,000, and each costs the
    # event loop up to 0.1 ms. Who sends more than twice as much for seconds is ended.
    peer_datagrams_per_s: Suppress[float] = 2000.0
    outbox: Suppress[int] = 256  # messages kept for a slow subscriber
    buffered_bytes: Suppress[int] = 64 * 1024  # a data channel with more than this gets no message

    def __post_init__(self) -> None:
        _positive(self, "goal_s", "follow_s", "connect_s", "silence_s", "heartbeat_s")
        _positive(self, "messages_per_s")
        _positive(self, "top_k", "message_bytes", "peer_bytes_per_s", "outbox", "buffered_bytes")
        _positive(self, "peer_datagrams_per_s")
        _check_secret("turn-secret", self.turn_secret, self.turn_secret_file)
        if self.hop_s is not None and not 0.02 <= self.hop_s <= 10:
            raise ValueError(f"hop_s must lie between 0.02 and 10 seconds, not {self.hop_s}")
        if self.top_k > MAX_TOP_K:
            raise ValueError(f"top_k must be at most {MAX_TOP_K}, not {self.top_k}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], not {self.threshold}")
        if not self.ports:
            raise ValueError(f"--udp-ports is A-B, such as 50000-50099, not '{self.udp_ports}'")
        for address in self.announce_ip:
            ipaddress.ip_address(address)  # raises a ValueError that names it

    @property
    def ports(self) -> Sequence[int]:
        """The UDP ports for video, in order; port 0 stands for any. Empty: malformed."""
        if self.udp_ports is None:
            return (0,)
        match = re.fullmatch(r"([1-9]\d{0,4})-(\d{1,5})", self.udp_ports)
        return range(int(match[1]), int(match[2]) + 1) if match and int(match[2]) < 65536 else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How full the machine may be. Windows are cut further apart before anyone is refused."""

    longest_hop_s: _Seconds = 0.5  # time between windows, at most, while the machine is full
    recogniser_share: Suppress[float] = 0.8  # of the devices' time
    decode_share: Suppress[float] = 0.8  # of the processor time for receiving and decoding
    loop_lag_s: Suppress[float] = 0.1  # how late the event loop may be, as a mean

    def __post_init__(self) -> None:
        _positive(self, "recogniser_share", "decode_share", "loop_lag_s", "longest_hop_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftSettings:
    """A language model that drafts sentences of transcripts. Without --draft-url there is none."""

    # an OpenAI-compatible server, such as http://127.0.0.1:8000/v1: it gets the glosses of
    # transcripts, and nothing else
    url: Annotated[str | None, arg(name="draft-url", metavar="URL")] = None
    # the model to ask there; it stands on the page
    model: Annotated[str | None, arg(name="draft-model", metavar="NAME")] = None
    # take the server's API key from this file; or set the environment variable
    # LIVEGLOSS_DRAFT_KEY. No key: none is sent
    key_file: Annotated[str | None, arg(name="draft-key-file", metavar="FILE")] = None
    key: Suppress[str | None] = field(default=None, repr=False)
    # a draft that takes longer ends there
    timeout_s: Annotated[float, arg(name="draft-timeout-s", metavar="S")] = 60.0
    # drafts under way at a time, of all sessions; a session has one
    at_once: Annotated[int, arg(name="drafts", metavar="N")] = 2
    pause_s: Suppress[float] = 10.0  # a session may ask for one draft in so many seconds
    burst: Suppress[int] = 4  # after a while without drafts for so many at once

    def __post_init__(self) -> None:
        _positive(self, "timeout_s", "at_once", "pause_s", "burst")
        if self.url is None:
            if self.model is not None or self.key_file is not None:
                raise ValueError("--draft-model and --draft-key-file go with --draft-url")
            return
        try:
            url = urlsplit(self.url)
            named = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            named = False
        if not named or not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise ValueError(
                f"--draft-url is an address such as http://127.0.0.1:8000/v1, not '{self.url}'"
            )
        if url.username is not None or url.query or url.fragment:
            raise ValueError(
                "--draft-url takes no user, '?' or '#': a key comes by --draft-key-file or "
                "LIVEGLOSS_DRAFT_KEY"
            )
        if not self.model or not self.model.isprintable() or len(self.model) > 200:
            raise ValueError("--draft-url needs --draft-model, the name of a model there")
        _check_secret("draft-key", self.key, self.key_file)

    @property
    def endpoint(self) -> str:
        """Where drafts are asked for: `/v1` is added to an address without a path."""
        url = (self.url or "").rstrip("/")
        if url.endswith("/chat/completions"):
            return url
        return f"{url}{'' if urlsplit(url).path else '/v1'}/chat/completions"

    @property
    def host(self) -> str:
        """The host that gets the glosses."""
        return urlsplit(self.url or "").hostname or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Several servers on Ray Serve, where one machine is not enough (extra `cluster`)."""

    # serve on the Ray cluster at this address, or on a new one of this machine alone
    ray: Annotated[str | None, arg(metavar="local|ADDRESS")] = None
    # servers at a time: as many, or between two numbers by the room that is left
    replicas: Annotated[str, arg(metavar="N|MIN:MAX")] = "1"

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not 1 <= low <= high <= _MOST_REPLICAS:
            raise ValueError(f"--replicas is N or MIN:MAX, such as 4 or 1:8, not '{self.replicas}'")
        if self.ray is None and high > 1:
            raise ValueError("--replicas goes with --ray")

    @property
    def bounds(self) -> tuple[int, int]:
        """The fewest and the most servers; (0, 0) for text that is neither."""
        match = re.fullmatch(r"(\d{1,4})(?::(\d{1,4}))?", self.replicas)
        return (int(match[1]), int(match[2] or match[1])) if match else (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it."""

    server: ServerSettings = field(default_factory=ServerSettings)
    session: SessionSettings = field(default_factory=SessionSettings)
    recognizer: RecognizerSettings = field(default_factory=RecognizerSettings)
    load: LoadSettings = field(default_factory=LoadSettings)
    draft: DraftSettings = field(default_factory=DraftSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    def with_secrets(self, environ: Mapping[str, str]) -> Settings:
        """The same settings, with the secrets that files and the environment give.

        Raises:
            ValueError: a secret can't be read or used, is given twice, or --signs has no token.
        """
        server, session, draft = self.server, self.session, self.draft
        token = _secret("token", server.token, server.token_file, environ)
        turn_secret = _secret("turn-secret", session.turn_secret, session.turn_secret_file, environ)
        if draft.url is not None:
            key = _secret("draft-key", draft.key, draft.key_file, environ)
            draft = replace(draft, key=key, key_file=None)
        if server.signs is not None and token is None:
            raise ValueError("--signs keeps what people teach: it needs a --token")
        return replace(
            self,
            server=replace(server, token=token, token_file=None),
            session=replace(session, turn_secret=turn_secret, turn_secret_file=None),
            draft=draft,
        )


def read_settings(argv: Sequence[str] | None) -> Settings:
    """The settings that the options, and files and variables of secrets, ask for.

    Raises:
        SystemExit: status 2 for a bad option.
        ValueError: a secret can't be read or used.
    """
    settings = read_command_line(
        Settings,
        argv,
        prog="python -m streaming",
        description="Recognise ASL glosses from browsers' cameras over WebRTC.",
    )
    return settings.with_secrets(os.environ)


_MAX_SECRET_BYTES = 4096


def _secret(
    option: str, given: str | None, file: str | None, environ: Mapping[str, str]
) -> str | None:
    """A secret as given, from a file without the newline at its end, or from the environment."""
    variable = f"LIVEGLOSS_{option.upper().replace('-', '_')}"
    kept = environ.get(variable)
    if kept is not None and (given is not None or file is not None):
        raise ValueError(f"{variable} and --{option} are two ways to give one secret: use one")
    if kept is not None:
        found, where = kept, variable
    elif file is not None:
        found, where = _secret_in(file), f"--{option}-file {file}"
    else:
        return given
    try:
        _check_secret(option, found, None)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return found


def _secret_in(file: str) -> str:
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(_MAX_SECRET_BYTES + 1)
        if len(content) > _MAX_SECRET_BYTES:
            raise ValueError(f"{file} is too large for the file of a secret")
        return content.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"can't read the secret in {file}: {error}") from error
