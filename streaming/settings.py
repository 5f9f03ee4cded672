"""What can be set, one frozen dataclass a stage, units in the names, checked once at the door."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.decoder import DecoderSettings


def _positive(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizerSettings:
    """Which model, where, and how many windows at once."""

    model: str = "builtin"  # a bundle's folder, or "builtin"
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    max_batch: int = 16  # windows
    # Looked at for a window by an encoder that goes frame by frame: all that are new at the usual
    # hop, a smaller part of them the longer it gets (docs/load.md).
    max_new_frames: int = 2
    batch_s: float = 30.0  # a batch that takes longer is given up, and the device with it for now

    def __post_init__(self) -> None:
        _positive(self, "max_batch", "max_new_frames", "batch_s")
        kind, _, number = self.device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and not number.isdigit()):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, not '{self.device}'")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """One peer: its deadlines and what it may send."""

    hop_s: float | None = None  # media time between windows; None: as the bundle says
    top_k: int = 5  # candidates in a prediction
    goal_s: float = 0.3  # a window should be answered this long after its newest frame
    connect_s: float = 20.0  # from the offer to the first frame, else the session ends
    silence_s: float = 15.0  # no frame and no message for so long: the peer is gone
    heartbeat_s: float = 5.0  # how often `stats` go out
    messages_per_s: float = 20.0  # sustained rate of messages from the page; more are ignored
    message_bytes: int = 4096  # a longer message from the page is an error
    peer_bytes_per_s: float = 64 * 1024  # sustained rate of a peer's data channel traffic
    outbox: int = 256  # messages kept for a slow or absent listener
    buffered_bytes: int = 64 * 1024  # skip predictions while the channel holds more than this
    loopback_ice: bool = False  # media over 127.0.0.1 only: tests and benchmarks on one machine
    private_ice: bool = True  # take candidates in private networks; off for a public server
    ice_servers: tuple[str, ...] = ()  # stun:, turn:, turns: URLs; none are contacted unless given
    turn_secret: str | None = None  # shared secret of the TURN servers (time-limited credentials)

    def __post_init__(self) -> None:
        _positive(self, "goal_s", "connect_s", "silence_s", "heartbeat_s", "messages_per_s")
        _positive(self, "top_k", "message_bytes", "peer_bytes_per_s", "outbox", "buffered_bytes")
        if self.hop_s is not None and not 0.02 <= self.hop_s <= 10:
            raise ValueError(f"hop_s must lie between 0.02 and 10 seconds, not {self.hop_s}")
        if self.top_k > 50:
            raise ValueError(f"top_k must be at most 50, not {self.top_k}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The HTTP side: where it listens and whom it lets in."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free port
    max_sessions: int = 8
    max_sessions_per_address: int = 8
    token: str | None = None  # asked of every /whip and /api/ice request when set
    signs: str | None = None  # folder in which taught signs are kept; needs a token
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_self_signed: bool = False
    grace_s: float = 5.0  # from SIGTERM to the end of the last session
    wait_s: float = 5.0  # of a caller for its turn to come in, at most
    retry_after_s: int = 5  # told to those who are turned away, or up to half as much again
    body_bytes: int = 64 * 1024  # largest request body
    log_format: str = "text"  # or "json"

    def __post_init__(self) -> None:
        _positive(self, "max_sessions", "max_sessions_per_address", "grace_s", "retry_after_s")
        _positive(self, "body_bytes", "wait_s")
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
class LoadSettings:
    """How full the machine may be. Windows come further apart before anyone is refused."""

    recogniser_share: float = 0.8  # of the devices' time
    decode_share: float = 0.8  # of what receiving and decoding can have of the cores
    loop_lag_s: float = 0.1  # the event loop's lateness, as a mean
    longest_hop_s: float = 0.5  # between the windows of a session, at the worst

    def __post_init__(self) -> None:
        _positive(self, "recogniser_share", "decode_share", "loop_lag_s", "longest_hop_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it."""

    server: ServerSettings = field(default_factory=ServerSettings)
    session: SessionSettings = field(default_factory=SessionSettings)
    recognizer: RecognizerSettings = field(default_factory=RecognizerSettings)
    load: LoadSettings = field(default_factory=LoadSettings)
    decoder: DecoderSettings | None = None  # None: the threshold that the bundle recommends
