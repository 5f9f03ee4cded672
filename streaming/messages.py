"""Messages <-> JSON: what goes over the data channel `results` and its server-sent twin.

One JSON object a message, told apart by `type`. No I/O here: dictionaries out, validated client
messages in. Field by field in the project's contract; version 1. Beyond the contract:

* `prediction` has `seen` where the encoder can tell where the signer was in the window's newest
  picture: null (nobody), or {`head`: BOX, `shoulders`, `elbows`, `wrists`: [[x, y], [x, y]] (left,
  right), `hands`: [BOX or null, BOX or null]}. A BOX is [left, top, right, bottom]; all are
  fractions of the picture, not mirrored. What lies outside is guessed, one picture away at most.
* `stats` has `hop_s`, the seconds from one window to the next now, and `added_hop_s`, how much of
  that is due to the load on the server: 0 as a rule. They also come as soon as that has changed.
* `hint` stands until another comes; its code `ok` says that the last one is over. `edge` (left,
  top, right, bottom or null) is the picture's edge at which something is cut off.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.bundle import Bundle
from models.decoder import candidate_messages, candidates, sign_message
from models.schema import Prediction, Sign, Signer
from streaming.hints import Hint
from streaming.takes import Take, pack

PROTOCOL_VERSION = 1
_TAKE_ID = 40  # characters

Message = dict[str, Any]


class MessageError(ValueError):
    """The client's message can't be used; the text says why, `code` names the reason."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """The page moved a slider. None: leave as it is."""

    threshold: float | None = None
    top_k: int | None = None


@dataclass(frozen=True, slots=True)
class Clear:
    """Close the sign under way and start over."""


@dataclass(frozen=True, slots=True)
class BeginTake:
    """The signer begins a sign that is to be taught."""

    id: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer at once with the same `t`; it is on the page's clock."""

    t: float


@dataclass(frozen=True, slots=True)
class Bye:
    """The page is leaving."""


ClientMessage = SettingsChange | BeginTake | Clear | Ping | Bye


def encode(message: Message) -> str:
    """Compact JSON. NaN and infinity never leave the house: they raise ValueError."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def parse(data: str | bytes) -> ClientMessage:
    """Read a client's message, strictly: unknown types and fields are errors.

    Raises:
        MessageError: with a code and a sentence for the person who wrote the client.
    """
    if isinstance(data, bytes):
        raise MessageError("not-text", "messages are text, one JSON object each")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        raise MessageError("not-json", "the message is not JSON") from None
    if not isinstance(message, dict):
        raise MessageError("not-object", "a message is a JSON object with a field 'type'")
    kind = message.pop("type", None)
    match kind:
        case "settings":
            change = SettingsChange(
                threshold=_number(message, "threshold", 0.01, 1.0),
                top_k=_whole(message, "top_k", 1, 50),
            )
            _nothing_left(message)
            return change
        case "take":
            id = message.pop("id", None)
            if not isinstance(id, str) or not 1 <= len(id) <= _TAKE_ID:
                raise MessageError("bad-field", f"take needs an id of 1 to {_TAKE_ID} characters")
            _nothing_left(message)
            return BeginTake(id)
        case "ping":
            t = _number(message, "t", -1e18, 1e18)
            if t is None:
                raise MessageError("bad-field", "ping needs a number 't'")
            _nothing_left(message)
            return Ping(t)
        case "clear":
            _nothing_left(message)
            return Clear()
        case "bye":
            _nothing_left(message)
            return Bye()
    raise MessageError("unknown-type", "type is one of settings, take, clear, ping, bye")


def _number(message: dict[str, Any], name: str, low: float, high: float) -> float | None:
    value = message.pop(name, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise MessageError("bad-field", f"{name} is a number from {low:g} to {high:g}")
    return float(value)


def _whole(message: dict[str, Any], name: str, low: int, high: int) -> int | None:
    value = _number(message, name, low, high)
    if value is not None and not value.is_integer():
        raise MessageError("bad-field", f"{name} is a whole number")
    return None if value is None else int(value)


def _nothing_left(message: dict[str, Any]) -> None:
    if message:
        raise MessageError("unknown-field", f"unknown field '{sorted(message)[0][:40]}'")


def hello(session: str, bundle: Bundle, hop_s: float, limits: Mapping[str, float]) -> Message:
    return {
        "type": "hello",
        "protocol": PROTOCOL_VERSION,
        "session": session,
        "model": {
            "name": bundle.name,
            "encoder": bundle.encoder.kind,
            "glosses": list(bundle.glosses),
            "space": bundle.space.id,
            "window_s": round(bundle.encoder.window_s, 3),
            "hop_s": round(hop_s, 3),
        },
        "limits": dict(limits),
    }


def prediction(
    said: Prediction,
    glosses: Sequence[str],
    *,
    seq: int,
    top_k: int,
    rtp_end: int,
    latency_ms: Mapping[str, float],
    dropped: Mapping[str, int],
) -> Message:
    message = {
        "type": "prediction",
        "seq": seq,
        "top": candidate_messages(candidates(glosses, said.probabilities, top_k)),
        "idle": round(said.idle, 4),
        "attention": [round(float(weight), 4) for weight in said.attention],
        "window": {"start_s": round(said.start_s, 3), "end_s": round(said.end_s, 3)},
        "rtp_end": rtp_end,
        "latency_ms": {stage: round(ms, 1) for stage, ms in latency_ms.items()},
        "dropped": dict(dropped),
    }
    if said.seen is not None:
        message["seen"] = None if said.seen.signer is None else _signer(said.seen.signer)
    return message


def _signer(signer: Signer) -> Message:
    return {
        "head": _near(signer.head),
        "shoulders": [_near(point) for point in signer.shoulders],
        "elbows": [_near(point) for point in signer.elbows],
        "wrists": [_near(point) for point in signer.wrists],
        "hands": [None if box is None else _near(box) for box in signer.hands],
    }


def _near(fractions: Iterable[float]) -> list[float]:
    return [round(min(max(fraction, -1.0), 2.0), 3) for fraction in fractions]


def sign(said: Sign) -> Message:
    return sign_message(said)


def take(recorded: Take, space: str) -> Message:
    return {
        "type": "take",
        "id": recorded.id,
        "space": space,
        "embedding": pack(recorded.embedding),
        "start_s": round(recorded.start_s, 3),
        "end_s": round(recorded.end_s, 3),
    }


def hint(said: Hint) -> Message:
    return {"type": "hint", "code": said.code, "text": said.text, "edge": said.edge}


def stats(numbers: Mapping[str, float]) -> Message:
    return {"type": "stats", **{k: v for k, v in numbers.items() if math.isfinite(v)}}


def pong(t: float) -> Message:
    return {"type": "pong", "t": t}


def error(code: str, text: str) -> Message:
    return {"type": "error", "code": code, "message": text}
