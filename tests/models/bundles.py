"""Makes small real bundles, and files of them, for tests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle, write_bundle
from models.card import spec_as_card
from models.schema import EncoderSpec
from tests.models.heads_onnx import mean_head

SPEC = EncoderSpec(
    kind="landmarks", source="test", revision="1", dim=3, frames=8, fps=8.0, short_side=32
)


def small_card(**changes: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "encoder": spec_as_card(SPEC),
        "head": {"kind": "gloss", "args": {}, "idle": True},
        "window_s": 1.0,
        "hop_s": 0.25,
        "calibration": {"temperature": 2.0, "threshold": 0.4},
        "data": {"clips": 0},
        "licence": "MIT",
        "metrics": {},
        "versions": {},
        "created": "2026-11-23T00:00:00+00:00",
        **changes,
    }


def small_bundle(path: Path, **changes: Any) -> Bundle:
    """Glosses `a` and `b` and idle; the logits are the mean features."""
    head = mean_head(np.eye(3, dtype=np.float32))
    return write_bundle(
        path, card=small_card(**changes), glosses=["a", "b"], files={"head.onnx": head}
    )


def npy(array: np.ndarray[Any, Any]) -> bytes:
    """The content of a .npy file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()
