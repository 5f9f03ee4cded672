"""The vocabulary of the pipeline: what one stage hands to the next.

Every array travels with its times. Two clocks, never mixed:

* media time (`media_s`, `start_s`, `end_s`): the sender's clock, from RTP timestamps or a file's
  presentation times, unwrapped, in seconds. Windows and signs are measured in it.
* arrival time (`arrival_s`, `decoded_s`): this machine's `time.monotonic()`, in seconds. Latency is
  measured in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture of one stream. Compared by identity: the same picture is the same object."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    media_s: float
    arrival_s: float = 0.0  # last packet of the frame read from the socket; 0 offline
    decoded_s: float = 0.0  # picture decoded and converted; 0 offline
    rtp: int = 0  # the RTP timestamp as received, 90 kHz, 32 bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """The frames of one window, one a tick of the encoder's rate, oldest first.

    A tick without a frame from the sender repeats the frame before it (the same object), so that an
    encoder that works frame by frame knows which frames it has processed already.
    """

    stream: str  # whose frames; an encoder may keep state between the clips of a stream
    frames: tuple[Frame, ...]
    start_s: float
    end_s: float


Point = tuple[float, float]  # x, y
Pair = tuple[Point, Point]  # left, right: the signer's own
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Where a signer is in a picture: x from 0 (left) to 1, y from 0 (top) to 1.

    Not mirrored. Points outside of the picture are guesses, below 0 or above 1.
    """

    head: Box
    shoulders: Pair
    elbows: Pair
    wrists: Pair
    hands: tuple[Box | None, Box | None]  # None: not seen
    face: tuple[Point, ...] = ()  # 7: nose, eyes, ears, corners of the mouth; left before right
    joints: tuple[tuple[Point, ...], tuple[Point, ...]] = ((), ())  # 21 of each hand that is seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an encoder detected in one picture."""

    aspect: float  # width of the picture divided by its height
    signer: Signer | None  # None: nobody


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    """An encoder's output for one clip: `features` (T, D) float32, a row a time step."""

    features: NDArray[np.float32]
    start_s: float
    end_s: float
    seen: Seen | None = None  # in the newest frame; None: this encoder detects no signers
    resting: bool | None = None  # hands at rest at the end; None: this encoder can't tell


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """The recogniser's output for one window."""

    stream: str
    probabilities: NDArray[np.float32]  # (G,), in the order of the bundle's glosses; sum + idle = 1
    idle: float  # probability that nobody signs a known gloss
    attention: NDArray[np.float32]  # (T,), sums to 1
    start_s: float
    end_s: float
    embedding: NDArray[np.float32] | None = None  # (E,), unit length; see `models.few_shot`
    seen: Seen | None = None  # in the newest frame; None: this encoder detects no signers
    resting: bool | None = None  # hands at rest at the end; None: this encoder can't tell
    stages_s: dict[str, float] = field(default_factory=dict)  # seconds spent, by stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A gloss and its probability."""

    gloss: str
    p: float

    def message(self) -> dict[str, Any]:
        """The candidate as JSON, in messages and in the output of `offline.predict`."""
        return {"gloss": self.gloss, "p": round(self.p, 4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One sign. A later one with the same `id` replaces it, until one is `final`."""

    id: int
    gloss: str
    p: float
    alternatives: tuple[Candidate, ...]
    start_s: float
    end_s: float
    final: bool

    def message(self) -> dict[str, Any]:
        """The sign as JSON: the message `sign`, and an entry of `signs` in `offline.predict`."""
        return {
            "type": "sign",
            "id": self.id,
            "gloss": self.gloss,
            "p": round(self.p, 4),
            "alternatives": [candidate.message() for candidate in self.alternatives],
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "final": self.final,
        }


Resize = Literal["fast", "exact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """An encoder's input and output; stored in a bundle's card under `encoder`.

    A clip has `frames` pictures at `fps` pictures a second of media time, so a window lasts
    `frames / fps` seconds. Pictures are scaled down to a short side of `short_side` px at most, by
    the rule `resize`: see `models.picture`.
    """

    kind: str  # "landmarks", "vjepa2"
    source: str  # package, folder or hub id that the weights came from
    revision: str  # pinned hash or version of that source
    dim: int  # D
    frames: int  # T in
    fps: float
    short_side: int  # px
    resize: Resize = "fast"

    def __post_init__(self) -> None:
        if self.dim < 1 or self.frames < 1 or self.short_side < 16 or not 0 < self.fps <= 120:
            raise ValueError(f"not a usable encoder: {self}")

    @property
    def window_s(self) -> float:
        return self.frames / self.fps

    @property
    def camera_size(self) -> tuple[int, int]:
        """Width and height, px, to ask a 4:3 camera for: no more than is used, and even."""
        return self.short_side * 4 // 3 // 2 * 2, self.short_side // 2 * 2


class Features(Protocol):
    """(B, S, D) float32 on the encoder's device: a NumPy array, or a tensor.

    They are complete: a reader by DLPack has no CUDA stream to wait for.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __dlpack__(self) -> Any: ...


class Encoder(Protocol):
    """Clips of many sessions in, one `Embedding` a clip out. Called from one thread at a time."""

    @property
    def spec(self) -> EncoderSpec: ...

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0"."""
        ...

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        """Encode `clips`, in order. A clip's result is the same alone and in any batch."""
        ...

    def forget(self, stream: str) -> None:
        """Drop the state of a stream that ended. Unknown streams are ignored."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class FrameEncoder(Encoder, Protocol):
    """An encoder that computes each frame of a stream once, whatever windows it is in."""

    def prepare(self, clips: Sequence[Clip]) -> None:
        """Compute the newest frames of streams before a window that has them is due."""
        ...


@runtime_checkable
class DeviceEncoder(Encoder, Protocol):
    """An encoder that can leave its features on its device, for a head that computes there too."""

    def encode_on_device(self, clips: Sequence[Clip]) -> Features:
        """(B, T, D) The features of `encode` for `clips`, in order."""
        ...
