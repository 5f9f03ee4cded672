"""Bundles and their weights -> one bundle that holds them all, as `models.fusion` opens it.

[fuse] -> folder with a bundle a part, and a card that names their encoders
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.bundle import Bundle, write_bundle
from models.card import CARD, FUSED, spec_as_card
from models.schema import EncoderSpec


def write_fused(
    out: Path,
    name: str,
    parts: Sequence[Bundle],
    weights: Sequence[float],
    scores: dict[str, Any],
) -> Bundle:
    """Write the bundle of `parts` and open it.

    Raises:
        ValueError, OSError: they make none, or there is no room.
    """
    spec = fused_spec([part.encoder for part in parts])
    folders = [f"{n}-{part.encoder.kind}" for n, part in enumerate(parts, 1)]
    files: dict[str, bytes | Path] = {}
    for part, folder in zip(parts, folders, strict=True):
        files |= {f"{folder}/{file}": part.path / file for file in (CARD, *part.card["files"])}
    data = parts[0].card["data"]
    first = data if isinstance(data, dict) else {}  # what the page tells of who is in the data
    alone = {one: figures for one, figures in scores.items() if one != "fused"}
    card = {
        "name": name,
        "encoder": spec_as_card(spec),
        "head": {"kind": FUSED, "args": {}, "idle": parts[0].idle},
        "window_s": spec.window_s,
        "hop_s": max(part.hop_s for part in parts),
        "calibration": {"temperature": 1.0, "threshold": max(part.threshold for part in parts)},
        "data": {
            **first,
            "parts": dict(zip(folders, (one.card["data"] for one in parts), strict=True)),
        },
        "licence": "; ".join(dict.fromkeys(part.card["licence"] for part in parts)),
        "metrics": {"kept_out": scores["fused"], "alone": alone} if scores else {},
        "versions": {"python": platform.python_version()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "fusion": [
            {"bundle": folder, "weight": weight, "encoder": part.card["encoder"]}
            for folder, weight, part in zip(folders, weights, parts, strict=True)
        ],
    }
    return write_bundle(out, card=card, glosses=parts[0].glosses, files=files)


def fused_spec(specs: Sequence[EncoderSpec]) -> EncoderSpec:
    """Of a window that holds those of all parts: the longest, at the highest rate, the largest."""
    fps = max(spec.fps for spec in specs)
    return EncoderSpec(
        kind="+".join(spec.kind for spec in specs),
        source="its parts",
        revision=" ".join(spec.revision for spec in specs),
        dim=sum(spec.dim for spec in specs),
        frames=math.ceil(max(spec.window_s for spec in specs) * fps - 1e-6),
        fps=fps,
        short_side=max(spec.short_side for spec in specs),
    )
