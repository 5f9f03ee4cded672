"""What can be set: a frozen dataclass a stage, units in the names, checked when it is made.

A field is an option of `python -m streaming` and its comment the option's help, unless it is
`Suppress`ed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tyro.conf import Suppress, arg

from streaming.messages import MAX_TOP_K

_Text = Annotated[str | None, arg(metavar="TEXT")]
_File = Annotated[str | None, arg(metavar="FILE")]
_Folder = Annotated[str | None, arg(metavar="FOLDER")]
_Seconds = Annotated[float, arg(metavar="S")]
_OptionalSeconds = Annotated[float | None, arg(metavar="S")]
_Probability = Annotated[float | None, arg(metavar="P")]


def _positive(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The HTTP side: where it listens and whom it admits."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 for the whole network
    port: int = 8080  # 0 picks a free one
    max_sessions: int = 8  # sessions at a time
    max_sessions_per_address: Suppress[int | None] = None  # None: as many as there may be
    token: _Text = None  # every session must send it, as 'Authorization: Bearer TEXT'
    signs: _Folder = None  # keep taught signs there instead of in browsers; needs --token
    tls_cert: _File = None  # serve HTTPS with this certificate (PEM)
    tls_key: _File = None  # and this key (PEM)
    tls_self_signed: bool = False  # serve HTTPS with a certificate made at the start
    log_format: Literal["text", "json"] = "text"  # of the log on stderr
    grace_s: Suppress[float] = 5.0  # from SIGTERM to the end of the last session
    wait_s: Suppress[float] = 5.0  # a caller waits for its turn at most so long
    retry_after_s: Suppress[int] = 5  # sent to refused callers, or up to half as much again
    body_bytes: Suppress[int] = 64 * 1024  # largest request body

    def __post_init__(self) -> None:
        _positive(self, "max_sessions", "grace_s", "retry_after_s", "body_bytes", "wait_s")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must lie between 0 and 65535, not {self.port}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key go together")
        if self.tls_cert and self.tls_self_signed:
            raise ValueError("--tls-self-signed makes its own certificate: leave out --tls-cert")
        if self.signs is not None and self.token is None:
            raise ValueError("--signs keeps what people teach: it needs a --token")
        if self.token is not None and not self.token.isascii():
            raise ValueError("--token must be plain ASCII")


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
    turn_secret: _Text = None  # the TURN servers' shared secret (for credentials that expire)
    loopback_ice: bool = False  # media over 127.0.0.1 only, for tests
    goal_s: Suppress[float] = 0.3  # deadline of a window's prediction, from its newest frame
    connect_s: Suppress[float] = 20.0  # from the offer to the first frame, else the session ends
    silence_s: Suppress[float] = 15.0  # no frame and no message for so long: the peer is gone
    heartbeat_s: Suppress[float] = 5.0  # between two `stats`
    messages_per_s: Suppress[float] = 20.0  # sustained rate of the page's messages; more are errors
    message_bytes: Suppress[int] = 4096  # a longer message from the page is an error
    peer_bytes_per_s: Suppress[float] = 64 * 1024  # sustained rate of a peer's data channels
    outbox: Suppress[int] = 256  # messages kept for a slow subscriber
    buffered_bytes: Suppress[int] = 64 * 1024  # a data channel with more than this gets no message

    def __post_init__(self) -> None:
        _positive(self, "goal_s", "connect_s", "silence_s", "heartbeat_s", "messages_per_s")
        _positive(self, "top_k", "message_bytes", "peer_bytes_per_s", "outbox", "buffered_bytes")
        if self.hop_s is not None and not 0.02 <= self.hop_s <= 10:
            raise ValueError(f"hop_s must lie between 0.02 and 10 seconds, not {self.hop_s}")
        if self.top_k > MAX_TOP_K:
            raise ValueError(f"top_k must be at most {MAX_TOP_K}, not {self.top_k}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], not {self.threshold}")


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
class Settings:
    """All of it."""

    server: ServerSettings = field(default_factory=ServerSettings)
    session: SessionSettings = field(default_factory=SessionSettings)
    recognizer: RecognizerSettings = field(default_factory=RecognizerSettings)
    load: LoadSettings = field(default_factory=LoadSettings)
