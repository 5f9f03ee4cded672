"""A bundle's card: what `card.json` must say, checked field by field. Pure; no files are touched.

{"format": 1, "name": …, "encoder": {EncoderSpec}, "head": {"kind", "args", "idle"},
 "window_s": …, "hop_s": …, "calibration": {"temperature", "threshold"[, "taught"]}, "data": {…},
 "licence": …, "metrics": {…}, "versions": {…}, "created": …, "files": {path: sha256}}

A bundle of several recognisers, each a bundle in a folder of its own (see `models.fusion`), has
head kind "fused" and `"fusion": [{"bundle": folder, "weight": …, "encoder": {EncoderSpec}}, …]`;
its own `encoder` is the window that holds the windows of all.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from models.schema import EncoderSpec

FORMAT = 1
HEAD = "head.onnx"
LABELS = "labels.json"
BACKGROUND = "background.npy"  # see `models.few_shot`; a bundle may have none
NO_HEAD = "none"  # the kind of head of a bundle that knows only what it is taught
FUSED = "fused"  # the kind of head of a bundle of several recognisers
CARD = "card.json"

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "name": str,
    "encoder": dict,
    "head": dict,
    "window_s": (int, float),
    "hop_s": (int, float),
    "calibration": dict,
    "data": (dict, list),
    "licence": str,
    "metrics": dict,
    "versions": dict,
    "created": str,
    "files": dict,
}
_ENCODER: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "source": str,
    "revision": str,
    "dim": int,
    "frames": int,
    "fps": (int, float),
    "short_side": int,
}
_HEAD: dict[str, type | tuple[type, ...]] = {"kind": str, "args": dict, "idle": bool}
_CALIBRATION: dict[str, type | tuple[type, ...]] = {
    "temperature": (int, float),
    "threshold": (int, float),
}
_TAUGHT: dict[str, type | tuple[type, ...]] = {
    "temperature": (int, float),
    "floor": (int, float),
}
_PART: dict[str, type | tuple[type, ...]] = {
    "bundle": str,
    "weight": (int, float),
    "encoder": dict,
}
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_card(card: object) -> dict[str, Any]:
    """`card` itself, once it says all that a card must and nothing that it may not.

    Raises:
        ValueError: one line that names the field.
    """
    if not isinstance(card, dict):
        raise ValueError("not a JSON object")
    _check_fields(card, _FIELDS, "", {"fusion": list})
    if card["format"] != FORMAT:
        raise ValueError(f"`format` is {card['format']}; this livegloss reads format {FORMAT}")
    if not card["name"].strip() or len(card["name"]) > 200:
        raise ValueError("`name` must have 1 to 200 characters")
    spec = spec_from(card["encoder"])
    _check_fields(card["head"], _HEAD, "head.")
    _check_fields(card["calibration"], _CALIBRATION, "calibration.", {"taught": dict})
    if "taught" in card["calibration"]:
        taught = card["calibration"]["taught"]
        _check_fields(taught, _TAUGHT, "calibration.taught.")
        if not 0.001 <= taught["temperature"] <= 10 or not -1 <= taught["floor"] <= 1:
            raise ValueError(f"`calibration.taught` is out of range: {taught}")
    temperature, threshold = card["calibration"]["temperature"], card["calibration"]["threshold"]
    if not 0.01 <= temperature <= 100:
        raise ValueError(f"`calibration.temperature` is {temperature}, not within 0.01 to 100")
    if not 0 < threshold <= 1:
        raise ValueError(f"`calibration.threshold` is {threshold}, not within 0 to 1")
    if not math.isclose(card["window_s"], spec.window_s, rel_tol=1e-6):
        raise ValueError(
            f"`window_s` is {card['window_s']}, but encoder.frames / encoder.fps is {spec.window_s}"
        )
    if not 0 < card["hop_s"] <= spec.window_s:
        raise ValueError(
            f"`hop_s` is {card['hop_s']}, not within 0 to the window's {spec.window_s}"
        )
    for path, digest in card["files"].items():
        check_path(path)
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError(f"`files`: {path!r} has no SHA-256 in lower-case hex")
    _check_fusion(card)
    without = card["head"]["kind"] in (NO_HEAD, FUSED)
    for needed in (LABELS,) if without else (HEAD, LABELS):
        if needed not in card["files"]:
            raise ValueError(f"`files` does not list {needed}")
    return card


def check_glosses(labels: object, *, none: bool = False) -> tuple[str, ...]:
    """The glosses of `labels.json`: a list of unlike, non-empty names; of `none` of them, if so.

    Raises:
        ValueError: one line that says what is wrong.
    """
    if not isinstance(labels, dict) or set(labels) != {"glosses"}:
        raise ValueError('must be {"glosses": [...]} and nothing else')
    glosses = labels["glosses"]
    if not isinstance(glosses, list) or bool(glosses) == none:
        raise ValueError(f"`glosses` must be {'an empty' if none else 'a non-empty'} list")
    seen: set[str] = set()
    for gloss in glosses:
        if not isinstance(gloss, str) or not gloss.strip():
            raise ValueError(f"`glosses` has {gloss!r}, which is no name")
        if gloss in seen:
            raise ValueError(f"`glosses` has {gloss!r} twice")
        seen.add(gloss)
    return tuple(glosses)


def spec_from(encoder: object) -> EncoderSpec:
    """The `encoder` object of a card as an `EncoderSpec`.

    Raises:
        ValueError: a field is missing, unknown, of the wrong type or out of range.
    """
    if not isinstance(encoder, dict):
        raise ValueError("`encoder` must be an object")
    _check_fields(encoder, _ENCODER, "encoder.")
    return EncoderSpec(**{**encoder, "fps": float(encoder["fps"])})


def spec_as_card(spec: EncoderSpec) -> dict[str, Any]:
    """An `EncoderSpec` as the `encoder` object of a card."""
    return dataclasses.asdict(spec)


def _check_fusion(card: Mapping[str, Any]) -> None:
    parts = card.get("fusion", [])
    if (card["head"]["kind"] == FUSED) != (len(parts) > 1):
        raise ValueError(f"`fusion` must list two parts or more, for a head of kind {FUSED} alone")
    for part in parts:
        if not isinstance(part, dict):
            raise ValueError("`fusion` must list objects")
        _check_fields(part, _PART, "fusion.")
        spec_from(part["encoder"])
        check_path(part["bundle"])
        if not 0 <= part["weight"] <= 100:
            raise ValueError(f"`fusion.weight` is {part['weight']}, not within 0 to 100")
        if f"{part['bundle']}/{CARD}" not in card["files"]:
            raise ValueError(f"`files` does not list {part['bundle']}/{CARD}")


def check_path(path: str) -> None:
    """Raise ValueError unless `path` is a plain relative POSIX path that stays in its folder."""
    parts = PurePosixPath(path).parts
    plain = path and not path.startswith("/") and "\\" not in path and "\0" not in path
    if not plain or ".." in parts or ":" in path or "/".join(parts) != path or path == CARD:
        raise ValueError(f"`files` lists {path!r}, which is no plain path inside the bundle")


def _check_fields(
    value: Mapping[Any, Any],
    fields: Mapping[str, type | tuple[type, ...]],
    where: str,
    optional: Mapping[str, type | tuple[type, ...]] = MappingProxyType({}),
) -> None:
    for unknown in value.keys() - fields.keys() - optional.keys():
        raise ValueError(f"unknown field `{where}{unknown}`")
    for name, kind in {**fields, **optional}.items():
        if name not in value:
            if name in optional:
                continue
            raise ValueError(f"field `{where}{name}` is missing")
        got = value[name]
        # bool is an int to Python, not to JSON; NaN and infinity are no JSON at all.
        wrong_bool = isinstance(got, bool) and kind is not bool
        if wrong_bool or not isinstance(got, kind):
            raise ValueError(f"`{where}{name}` has the wrong type: {type(got).__name__}")
        if isinstance(got, float) and not math.isfinite(got):
            raise ValueError(f"`{where}{name}` is not finite")
