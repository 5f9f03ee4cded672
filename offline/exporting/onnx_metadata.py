"""What an exported ONNX file says of itself, for those who run it without livegloss.

    card, glosses -> [onnx_metadata] -> the `metadata_props` of head.onnx, of the encoder's graph

Nothing of ours reads them: the bundle's card has the same. docs/reference/onnx.md lists them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.encoders import window_steps
from models.schema import EncoderSpec


def head_metadata(card: Mapping[str, Any], glosses: Sequence[str]) -> dict[str, str]:
    """The metadata of the head of a bundle with this card."""
    encoder, calibration = card["encoder"], card["calibration"]
    spec = EncoderSpec(**encoder)
    return {
        "name": card["name"],
        "description": "Gloss guesses for isolated signs; not a translation.",
        "licence": card["licence"],
        "version": f"livegloss {version('livegloss')}",
        "glosses": _json(list(glosses)),
        "idle_class": str(len(glosses)) if card["head"]["idle"] else "",
        "temperature": repr(float(calibration["temperature"])),
        "threshold": repr(float(calibration["threshold"])),
        "probabilities": "softmax(logits / temperature)",
        "inputs": _json({"features": ["B", "T", spec.dim], "mask": ["B", "T"]}),
        "features": "float32; raw features of the encoder, no normalisation",
        "mask": "bool; true for real steps, false for padding",
        "steps": str(window_steps(spec)),
        "steps_are": _STEPS.get(spec.kind, ""),
        "hop_s": repr(float(card["hop_s"])),
        **_window(spec),
    }


def encoder_metadata(spec: EncoderSpec, crop: int, steps: int) -> dict[str, str]:
    """The metadata of the graph of V-JEPA 2 for pictures of `crop` px, with `steps` features."""
    first = "" if spec.resize == "exact" else "by area, no smaller than that; "
    return {
        "description": "Encodes a clip of video into features for head.onnx.",
        "version": f"livegloss {version('livegloss')}",
        "inputs": _json({"pictures": ["B", spec.frames, crop, crop, 3]}),
        "pictures": "uint8, RGB; the graph divides by 255 and normalises",
        "resize": f"{first}short side to {spec.short_side} px, bilinear, antialiased; "
        f"then the middle {crop} x {crop} px",
        "outputs": _json({"features": ["B", steps, spec.dim]}),
        "steps": str(steps),
        "steps_are": _STEPS[spec.kind],
        **_window(spec),
    }


_STEPS = {
    "landmarks": "frames",
    "vjepa2": "means of the patches of two frames",
    "vjepa2-tokens": "patches of two frames, by time, row, column",
}


def _window(spec: EncoderSpec) -> dict[str, str]:
    local = Path(spec.source).is_absolute()  # whose folders are nobody's business
    return {
        "frames": str(spec.frames),
        "fps": repr(float(spec.fps)),
        "window_s": repr(spec.window_s),
        "encoder": spec.kind,
        "encoder_source": Path(spec.source).name if local else spec.source,
        "encoder_revision": spec.revision,
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
