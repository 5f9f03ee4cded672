"""A bundle's card: what `card.json` must say, checked field by field. Pure; reads no files.

    card.json -> [card] -> Card, used by `models.bundle`

A bundle of several recognisers (see `models.fusion`) has head kind "fused" and a `fusion` that
lists their folders; its own `encoder` is then the window that holds the windows of all of them.
"""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections import Counter
from pathlib import PurePosixPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from models.few_shot import FLOOR, TEMPERATURE
from models.schema import EncoderSpec

FORMAT = 1
CARD = "card.json"
HEAD = "head.onnx"
LABELS = "labels.json"
BACKGROUND = "background.npy"  # see `models.few_shot`; a bundle may have none
FIGURES = "figures.msgpack"  # see `models.drawn_figure`; a bundle may have none
NO_HEAD = "none"  # the kind of head of a bundle that knows only the signs it is taught
FUSED = "fused"  # the kind of head of a bundle of several recognisers

_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Fields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A JSON object of the card: fields without a default must be there, others must not."""


class _Head(_Fields):
    """`head`: the kind of head and its arguments, see `models.heads`."""

    kind: str
    args: dict[str, Any]
    idle: bool  # one more logit than glosses: nobody signs
    # SHA-256 of head.onnx before its metadata was written in; "": of the file as it is. It names
    # the space of taught signs, see `models.few_shot`.
    weights: str = ""

    def __post_init__(self) -> None:
        if self.weights and not _SHA256.fullmatch(self.weights):
            raise ValueError("`head.weights` is no SHA-256 in lower-case hex")


class _FewShot(_Fields):
    """`calibration.taught`: see `models.few_shot.EmbeddingSpace`."""

    temperature: Annotated[float, Meta(ge=0.001, le=10)]
    floor: Annotated[float, Meta(ge=-1, le=1)]


class _Calibration(_Fields):
    """`calibration`: see `models.bundle.Bundle`."""

    temperature: Annotated[float, Meta(ge=0.01, le=100)]
    threshold: Annotated[float, Meta(gt=0, le=1)]
    taught: _FewShot = msgspec.field(
        default_factory=lambda: _FewShot(temperature=TEMPERATURE, floor=FLOOR)
    )


class _Part(_Fields):
    """An entry of `fusion`: a bundle in a folder of this one."""

    bundle: str
    weight: Annotated[float, Meta(ge=0, le=100)]
    encoder: EncoderSpec


class Card(_Fields):
    """All fields of `card.json`."""

    format: int
    name: str
    encoder: EncoderSpec
    head: _Head
    window_s: float
    hop_s: float
    calibration: _Calibration
    data: dict[str, Any] | list[Any]
    licence: str
    metrics: dict[str, Any]
    versions: dict[str, Any]
    created: str
    files: dict[str, str]  # path in the bundle -> SHA-256
    fusion: list[_Part] = []

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"`format` is {self.format}; this livegloss reads format {FORMAT}")
        if not self.name.strip() or len(self.name) > 200:
            raise ValueError("`name` must have 1 to 200 characters")
        _check_text("name", self.name)
        window_s = self.encoder.window_s
        if not math.isclose(self.window_s, window_s, rel_tol=1e-6):
            raise ValueError(
                f"`window_s` is {self.window_s}, but encoder.frames / encoder.fps is {window_s}"
            )
        if not 0 < self.hop_s <= window_s:
            raise ValueError(f"`hop_s` is {self.hop_s}, not within 0 to the window's {window_s}")
        for path, digest in self.files.items():
            _check_path(path)
            if not _SHA256.fullmatch(digest):
                raise ValueError(f"`files`: {path!r} has no SHA-256 in lower-case hex")
        if (self.head.kind == FUSED) != (len(self.fusion) > 1):
            raise ValueError(f"`fusion` must list two parts or more if head.kind is {FUSED}")
        for part in self.fusion:
            _check_path(part.bundle)
        heads = [] if self.head.kind in (NO_HEAD, FUSED) else [HEAD]
        for needed in (LABELS, *heads, *(f"{part.bundle}/{CARD}" for part in self.fusion)):
            if needed not in self.files:
                raise ValueError(f"`files` does not list {needed}")


def check_card(fields: object) -> Card:
    """The card, once it has all fields that it needs and no others.

    Raises:
        ValueError: one line that names the field.
    """
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    card = msgspec.convert(fields, Card)
    for holder in (fields, *fields.get("fusion", [])):
        _check_encoder_names(holder["encoder"])
    return card


def spec_from(encoder: object) -> EncoderSpec:
    """The `encoder` object of a card as an `EncoderSpec`.

    Raises:
        ValueError: a field is missing, unknown, of the wrong type or out of range.
    """
    if not isinstance(encoder, dict):
        raise ValueError("`encoder` must be an object")
    _check_encoder_names(encoder)
    try:
        return msgspec.convert(encoder, EncoderSpec)
    except msgspec.ValidationError as exc:
        raise ValueError(f"`encoder`: {exc}") from exc


def spec_as_card(spec: EncoderSpec) -> dict[str, Any]:
    """An `EncoderSpec` as the `encoder` object of a card, which states only another `resize`."""
    fields = dataclasses.asdict(spec)
    if spec.resize == "fast":  # livegloss before 2026-12 does not know the field
        del fields["resize"]
    return fields


def _check_encoder_names(encoder: dict[str, Any]) -> None:
    """msgspec ignores unknown fields of a dataclass; a card may have none."""
    for name in encoder.keys() - {field.name for field in dataclasses.fields(EncoderSpec)}:
        raise ValueError(f"unknown field `encoder.{name}`")


def _check_text(field: str, text: str) -> None:
    """Raise ValueError if `text` has control characters, which steer terminals."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError(f"`{field}` has {text!r}, with a control character in it")


def _check_path(path: str) -> None:
    """Raise ValueError unless `path` is a plain relative POSIX path that stays in its folder."""
    parts = PurePosixPath(path).parts
    plain = path and not path.startswith("/") and "\\" not in path and "\0" not in path
    if not plain or ".." in parts or ":" in path or "/".join(parts) != path or path == CARD:
        raise ValueError(f"`files` lists {path!r}, which is no plain path inside the bundle")


class _Labels(_Fields):
    glosses: list[str]


def check_glosses(labels: object, *, headless: bool = False) -> tuple[str, ...]:
    """The glosses of `labels.json`, {"glosses": [...]}: distinct names in the form NFC of Unicode,
    none if `headless`.

    Raises:
        ValueError: one line that says what is wrong.
    """
    glosses = [
        unicodedata.normalize("NFC", gloss) for gloss in msgspec.convert(labels, _Labels).glosses
    ]
    if bool(glosses) == headless:
        raise ValueError(f"`glosses` must be {'an empty' if headless else 'a non-empty'} list")
    for gloss, count in Counter(glosses).items():
        if not gloss.strip():
            raise ValueError(f"`glosses` has {gloss!r}, which is no name")
        _check_text("glosses", gloss)
        if count > 1:
            raise ValueError(f"`glosses` has {gloss!r} twice")
    return tuple(glosses)
