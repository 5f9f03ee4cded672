"""Messages <-> JSON: what the data channels `results` and `predictions` and the event stream carry.

    page -> text -> [parse] -> ClientMessage -> session
    pipeline, session -> ServerMessage -> [encode] -> text -> page

One JSON object a message, its kind in `type`. Version 1; field by field in the project's contract.
Beyond the contract:

* `prediction` has `seen` if the encoder can locate the signer in the window's newest picture: null
  (nobody), or {`head`: BOX, `shoulders`, `elbows`, `wrists`: [[x, y], [x, y]] (left, right),
  `hands`: [BOX or null, BOX or null], `face`, `joints`}. A BOX is [left, top, right, bottom]. All
  are fractions of the picture, not mirrored. What lies outside is guessed, at most one picture
  away. `face` has [x, y] of nose, eyes, ears and corners of the mouth, left before right. `joints`
  has, for each hand, null or the 21 points of MediaPipe's hand, x and y by turns, as fractions of
  the hand's BOX: base64 of 42 bytes, 0 to 255.
* `stats` has `hop_s`, the seconds between windows now, and `added_hop_s`, the part of it that is
  due to the server's load: usually 0. They are also sent as soon as they change.
* `hint` holds until another comes; the code `ok` says that the last one is over. `edge` (left,
  top, right, bottom or null) is the edge of the picture at which something is cut off.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.bundle import Bundle
from models.decoder import top_candidates
from models.schema import Box, Point, Prediction, Seen, Sign

PROTOCOL_VERSION = 1
MAX_TOP_K = 50

Message = dict[str, Any]  # a message as a JSON object


class MessageError(ValueError):
    """The client's message can't be used; the text says why, `code` names the reason."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class ClientMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """What a page sends."""


class SettingsChange(ClientMessage, frozen=True, tag="settings"):
    """The page moved a slider. None: leave as it is."""

    threshold: Annotated[float, Meta(ge=0.01, le=1)] | None = None
    # A whole number; 3.0 is one in JSON, too.
    top_k: Annotated[float, Meta(ge=1, le=MAX_TOP_K, multiple_of=1)] | None = None


class TakeStart(ClientMessage, frozen=True, tag="take"):
    """The signer begins a sign that is to be taught. `id` is the page's name for the recording."""

    id: Annotated[str, Meta(min_length=1, max_length=40)]


class Clear(ClientMessage, frozen=True, tag="clear"):
    """Close the sign under way and start over."""


class Ping(ClientMessage, frozen=True, tag="ping"):
    """Send a `pong` with the same `t`, a time on the page's clock, at once."""

    t: Annotated[float, Meta(ge=-1e18, le=1e18)]


class Bye(ClientMessage, frozen=True, tag="bye"):
    """The page is leaving."""


_CLIENT_KINDS: dict[str, type[ClientMessage]] = {
    str(kind.__struct_config__.tag): kind for kind in (SettingsChange, TakeStart, Clear, Ping, Bye)
}


def parse(data: str | bytes) -> ClientMessage:
    """Read a client's message, strictly: unknown kinds and fields are errors.

    Raises:
        MessageError: with a code, and a sentence for the person who wrote the client.
    """
    if isinstance(data, bytes):
        raise MessageError("not-text", "messages are text, one JSON object each")
    try:
        message = msgspec.json.decode(data)  # strict: no NaN, no half of a surrogate pair
    except msgspec.ValidationError as error:
        raise MessageError("bad-field", str(error)) from None
    except (ValueError, RecursionError):
        raise MessageError("not-json", "the message is not JSON") from None
    if not isinstance(message, dict):
        raise MessageError("not-object", "a message is a JSON object with a field 'type'")
    tag = message.get("type")
    kind = _CLIENT_KINDS.get(tag) if isinstance(tag, str) else None
    if kind is None:
        raise MessageError("unknown-type", f"type is one of {', '.join(_CLIENT_KINDS)}")
    unknown = message.keys() - {"type", *kind.__struct_fields__}
    if unknown:
        raise MessageError("unknown-field", f"unknown field '{min(unknown)[:40]}'")
    try:
        return msgspec.convert(message, kind)
    except msgspec.ValidationError as error:
        raise MessageError("bad-field", f"{tag}: {error}") from None


class ServerMessage(msgspec.Struct, frozen=True, tag_field="type"):
    """What the server sends."""


class Hello(ServerMessage, frozen=True, tag="hello"):
    """The first message on a connection: the model and the limits."""

    protocol: int
    session: str
    model: dict[str, Any]
    limits: dict[str, float]


class PredictionMessage(ServerMessage, frozen=True, tag="prediction"):
    """What the model says of one window."""

    seq: int
    top: list[dict[str, Any]]  # {gloss, p}, likeliest first
    idle: float
    attention: list[float]
    window: dict[str, float]  # start_s, end_s: media time
    rtp_end: int  # RTP timestamp of the newest frame
    latency_ms: dict[str, float]  # total, and one entry a stage
    dropped: dict[str, int]  # frames, windows
    seen: dict[str, Any] | UnsetType | None = UNSET


class SignMessage(ServerMessage, frozen=True, tag="sign"):
    """A sign; a later message with the same `id` replaces it until `final`."""

    id: int
    gloss: str
    p: float
    alternatives: list[dict[str, Any]]
    start_s: float
    end_s: float
    final: bool


class TakeMessage(ServerMessage, frozen=True, tag="take"):
    """A recorded take of a sign."""

    id: str  # the page's name for it
    space: str  # id of the embedding space
    embedding: str  # base64 of little-endian float16, unit length
    start_s: float  # media time
    end_s: float


class Hint(ServerMessage, frozen=True, tag="hint"):
    """A code for programs, a text for people, and the picture's edge at which something is cut."""

    code: str
    text: str
    edge: str | None = None  # left, top, right, bottom; the picture's, not mirrored


class Stats(ServerMessage, frozen=True, tag="stats"):
    """Counts and rates of the session."""

    frames_per_s: float
    frames: int
    dropped: int
    windows_replaced: int
    key_frames_asked: int
    hop_s: float
    added_hop_s: float


class Pong(ServerMessage, frozen=True, tag="pong"):
    """The `t` of a `ping`."""

    t: float


class ErrorMessage(ServerMessage, frozen=True, tag="error"):
    """Something went wrong: a code for programs, a sentence for people."""

    code: str
    message: str


def to_json(message: ServerMessage) -> Message:
    """The message as a JSON object."""
    json_object: Message = msgspec.to_builtins(message, enc_hook=float)  # NumPy's floats
    return json_object


def encode(message: ServerMessage) -> str:
    """Compact JSON. Raises ValueError for NaN and infinity, which JSON does not know."""
    return json.dumps(to_json(message), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def hello(session: str, bundle: Bundle, hop_s: float, limits: Mapping[str, float]) -> Hello:
    model = {
        "name": bundle.name,
        "encoder": bundle.encoder.kind,
        "glosses": list(bundle.glosses),
        "space": bundle.space.id,
        "window_s": round(bundle.encoder.window_s, 3),
        "hop_s": round(hop_s, 3),
    }
    return Hello(PROTOCOL_VERSION, session, model, dict(limits))


def prediction_message(
    prediction: Prediction,
    glosses: Sequence[str],
    *,
    seq: int,
    top_k: int,
    rtp_end: int,
    latency_ms: Mapping[str, float],
    dropped: Mapping[str, int],
) -> PredictionMessage:
    seen = prediction.seen
    return PredictionMessage(
        seq=seq,
        top=[one.message() for one in top_candidates(glosses, prediction.probabilities, top_k)],
        idle=round(prediction.idle, 4),
        attention=[round(float(weight), 4) for weight in prediction.attention],
        window={"start_s": round(prediction.start_s, 3), "end_s": round(prediction.end_s, 3)},
        rtp_end=rtp_end,
        latency_ms={stage: round(ms, 1) for stage, ms in latency_ms.items()},
        dropped=dict(dropped),
        seen=UNSET if seen is None else _seen(seen),
    )


def _seen(seen: Seen) -> Message | None:
    signer = seen.signer
    if signer is None:
        return None
    return {
        "head": _near(signer.head),
        "shoulders": [_near(point) for point in signer.shoulders],
        "elbows": [_near(point) for point in signer.elbows],
        "wrists": [_near(point) for point in signer.wrists],
        "hands": [None if box is None else _near(box) for box in signer.hands],
        "face": [_near(point) for point in signer.face],
        "joints": [_within(*hand) for hand in zip(signer.joints, signer.hands, strict=True)],
    }


def _within(points: Sequence[Point], box: Box | None) -> str | None:
    """Points as fractions of their box: base64 of bytes, x and y by turns."""
    if box is None or not points:
        return None
    left, top, right, bottom = box
    wide, high = max(right - left, 1e-6), max(bottom - top, 1e-6)
    parts = [part for x, y in points for part in ((x - left) / wide, (y - top) / high)]
    return base64.b64encode(bytes(round(255 * min(max(part, 0), 1)) for part in parts)).decode()


def _near(fractions: Iterable[float]) -> list[float]:
    """Fractions of the picture, at most one picture away from it."""
    return [round(min(max(fraction, -1.0), 2.0), 3) for fraction in fractions]


def to_sign_message(sign: Sign) -> SignMessage:
    """The message of `models.schema.Sign`, which `offline.predict` lists, too."""
    fields = sign.message()
    del fields["type"]
    return SignMessage(**fields)
