"""Two parts of a fused recogniser that confuse different glosses: bundles, rows and encoders.

Of the glosses a, b, c and d the first part distinguishes a and b but not c and d, the second c and
d but not a and b. A picture's pixels are the number of the gloss that it shows.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, write_bundle
from models.card import spec_as_card
from models.schema import Clip, Embedding, EncoderSpec, Frame
from tests.models.bundles import small_card
from tests.models.heads_onnx import mean_head

GLOSSES = ("a", "b", "c", "d")
SPECS = (
    EncoderSpec(
        kind="landmarks", source="t", revision="1", dim=4, frames=12, fps=10.0, short_side=32
    ),
    EncoderSpec(kind="vjepa2", source="t", revision="2", dim=4, frames=4, fps=4.0, short_side=48),
)
_SIGNERS = 6
_CLIPS = 48


def features(part: int, gloss: int) -> NDArray[np.float32]:
    """(4,) The features of `part` for a frame of `gloss`: one class, or two that it confuses."""
    own = {0: (0, 1), 1: (2, 3)}[part]
    row = np.zeros(4, np.float32)
    if gloss in own:
        row[gloss] = 3
    else:
        row[[n for n in range(4) if n not in own]] = 2
    return row


def part_bundle(folder: Path, part: int, **changes: Any) -> Bundle:
    """A trained part; all clips of `part_index` were held out of its training."""
    spec = SPECS[part]
    kept = [{"video": f"{n}.mp4", "gloss": GLOSSES[n % 4]} for n in range(_CLIPS)]
    card = small_card(
        name=f"part {part}",
        encoder=spec_as_card(spec),
        head={"kind": "gloss", "args": {}, "idle": False},
        window_s=spec.window_s,
        calibration={"temperature": 1.0, "threshold": 0.3 + part / 10},
        data={"held_out_clips": kept, "held_out_groups": []},
    )
    head = mean_head(np.eye(4, dtype=np.float32))
    files: dict[str, bytes | Path] = {"head.onnx": head}
    return write_bundle(folder, card={**card, **changes}, glosses=GLOSSES, files=files)


def part_index(folder: Path, part: int) -> Path:
    """Features of `part`, with noise, of clips of all glosses by six signers."""
    folder.mkdir()
    draw = np.random.default_rng(part)
    lines = []
    for n in range(_CLIPS):
        steps = 15 + n % 3 if part == 0 else 2
        rows = features(part, n % 4) + draw.normal(0, 0.5, (steps, 4)).astype(np.float32)
        np.save(folder / f"{n}.npy", rows.astype(np.float32))
        where = {"path_to_npy_file": f"{n}.npy", "video": f"videos/{n}.mp4"}
        who = {"signer": f"signer {n // 4 % _SIGNERS}", "split": "test" if n > 39 else "val"}
        lines.append({"video_id": f"clip-{n}", "gloss": GLOSSES[n % 4], **where, **who})
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return folder / "index.csv"


class PartEncoder:
    """Returns `features` of each frame of a clip, and records the clips that it gets."""

    device = "cpu"

    def __init__(self, part: int) -> None:
        self.spec = SPECS[part]
        self.given: list[Clip] = []
        self.closed = False
        self._part = part

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        self.given += clips
        return [
            Embedding(
                features=np.stack([self._row(frame) for frame in clip.frames]),
                start_s=clip.start_s,
                end_s=clip.end_s,
            )
            for clip in clips
        ]

    def _row(self, frame: Frame) -> NDArray[np.float32]:
        number = int(frame.image[0, 0, 0])
        return features(self._part, number) if number < 4 else np.full(4, np.nan, np.float32)

    def forget(self, stream: str) -> None: ...

    def close(self) -> None:
        self.closed = True
