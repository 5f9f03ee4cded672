"""What a benchmark is asked for, checked once at the door."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConditions:
    """What is wrong with a network, the same in both directions. Nothing, unless it is said."""

    loss: float = 0.0  # share of the datagrams
    rtt_ms: float = 0.0  # added, half of it each way
    jitter_ms: float = 0.0  # each way, up to so much more or less
    rate_kbit: float | None = None  # kbit/s each way
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1:
            raise ValueError("--loss must lie between 0 and 1, or be written as 2%")
        if not 0 <= self.rtt_ms <= 10_000 or not 0 <= self.jitter_ms <= self.rtt_ms / 2:
            raise ValueError("--rtt-ms must lie between 0 and 10000, --jitter-ms in half of it")
        if self.rate_kbit is not None and not 1 <= self.rate_kbit <= 1e7:
            raise ValueError("--rate-kbit must lie between 1 and 10000000")

    @property
    def bad(self) -> bool:
        return bool(self.loss or self.rtt_ms or self.rate_kbit)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """One run."""

    sessions: int = 1
    duration_s: float = 20.0
    clip: str | None = None  # a video file to send; None: a drawn picture
    model: str = "builtin"  # a bundle, or standin:MS: a recogniser that takes so long a batch
    device: str = "auto"
    hop_s: float | None = None  # None: the bundle's
    fps: float | None = None  # None: what the page asks a camera for
    size: tuple[int, int] | None = None  # px, (width, height); None: what the page asks for
    senders: str | None = None  # None: recorded, or live where packets are lost
    network: NetworkConditions = field(default_factory=NetworkConditions)

    def __post_init__(self) -> None:
        if not 1 <= self.sessions <= 256 or not 1 <= self.duration_s <= 3600:
            raise ValueError("--sessions must lie between 1 and 256, --duration between 1 and 3600")
        if self.fps is not None and not 1 <= self.fps <= 120:
            raise ValueError("--fps must lie between 1 and 120")
        if self.size is not None and (min(self.size) < 64 or any(n % 2 for n in self.size)):
            raise ValueError("--size must be even and at least 64x64")
        if self.sender == "chromium" and (self.network.bad or self.clip):
            raise ValueError("--chromium sends drawn pictures over this machine's own network")
        if self.clip is not None and not Path(self.clip).is_file():
            raise ValueError(f"there is no file {self.clip}")

    @property
    def sender(self) -> str:
        """What makes the video: "recorded", "live" or "chromium".

        A recording can't answer a request for a key frame, as a camera does: where packets are
        lost, peers encode.
        """
        return self.senders or ("live" if self.network.loss else "recorded")
