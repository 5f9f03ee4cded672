"""Indexes with embeddings in them, made up: small ones for tests, and one as large as WLASL's.

    python -m tests.offline.indexes FOLDER     (21,083 videos in three variants: 1.6 GB, a minute)

docs/training.md and docs/evaluation.md state times and memory on the large one.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout
from offline.data.examples import Example

GLOSSES = ("down", "up")


def landmark_rows(gloss: str, draw: np.random.Generator, steps: int = 30) -> NDArray[np.float32]:
    """A right hand that rises, moves up or down in front of the chest, and falls again."""
    rows = np.zeros((steps, layout.DIM), np.float32)
    body = np.zeros((13, 2), np.float32)
    body[:7] = draw.normal([0, -0.8], 0.05, (7, 2))
    body[7], body[8] = [0.5, 0], [-0.5, 0]
    body[9:] = [[0.7, 0.8], [-0.7, 0.8], [0.6, 1.4], [-0.6, 1.4]]
    rows[:, layout.BODY] = body.ravel()
    first, last = 6 + int(draw.integers(4)), 24 - int(draw.integers(4))
    shape = draw.normal(0, 0.02, (21, 3)) + np.linspace(0, 0.3, 21)[:, None] * np.array(
        [0.2, -1, 0.1]
    )
    for step in range(first, last) if gloss != "idle" else ():
        part = (step - first) / (last - first)
        y = 0.7 - part if gloss == "up" else part - 0.3
        hand = shape + np.array([-0.2, y, 0]) + draw.normal(0, 0.01, (21, 3))
        rows[step, layout.RIGHT_HAND] = hand.ravel()
        rows[step, layout.RIGHT_SEEN] = 1
    return rows


def example(video_id: str, signer: str = "", gloss: str = "tree") -> Example:
    """One original clip, of a signer of its own unless named."""
    return Example(
        video_id=video_id,
        video=f"{video_id}.mp4",
        gloss=gloss,
        group=signer or f"video:{video_id}",
        signer=signer,
        split="",
        variant="original",
        stored=np.zeros((2, 3), np.float32),
    )


def write_index(
    folder: Path, *, kind: str = "landmarks", dtype: type[np.floating] = np.float32
) -> Path:
    """Two glosses by six signers, two clips of nobody signing, a captioned one, other signs."""
    draw = np.random.default_rng(0)
    lines = []
    for number in range(31):
        gloss, signer, split = GLOSSES[number % 2], f"signer {number // 2 % 6}", ""
        if number in (24, 25):
            gloss, signer = "idle", f"idle/{number}"
        elif number == 26:
            split = "extra"
        elif number > 26:
            gloss = f"other {number % 3}"
        if kind == "landmarks":
            rows = landmark_rows(gloss, draw)
        else:
            rows = draw.normal(number % 2, 0.4, (3 + number % 4, 16)).astype(np.float32)
        np.save(folder / f"{number}.npy", rows.astype(dtype))
        lines.append(
            {
                "video_id": f"clip-{number}",
                "gloss": gloss,
                "path_to_npy_file": f"{number}.npy",
                "signer": signer,
                "split": split,
            }
        )
    return _listed(folder, lines, kind, layout.DIM if kind == "landmarks" else 16)


def write_large_index(
    folder: Path,
    *,
    videos: int = 21_083,
    glosses: int = 2000,
    signers: int = 119,
    variants: Sequence[str] = ("original", "gaussian", "bw"),
    shape: tuple[int, int] = (8, 1408),
) -> Path:
    """An index with WLASL's numbers and split, of rows `shape` in float16 as ViT-g's would be.

    A gloss is a direction, a signer another, and the rest is noise, so that heads learn something.
    """
    draw = np.random.default_rng(0)
    (folder / "embeddings").mkdir(parents=True, exist_ok=True)
    gloss_is = draw.normal(0, 0.25, (glosses, shape[1])).astype(np.float32)
    signer_is = draw.normal(0, 0.25, (signers, shape[1])).astype(np.float32)
    splits = draw.choice(["train", "val", "test"], videos, p=[0.68, 0.18, 0.14])
    lines = []
    for video in range(videos):
        gloss, signer = video % glosses, int(draw.integers(signers))
        clip = draw.normal(gloss_is[gloss] + signer_is[signer], 1.0, shape)
        for variant in variants:
            name = f"embeddings/{video:05}.{variant}.npy"
            np.save(folder / name, (clip + draw.normal(0, 0.1)).astype(np.float16))
            lines.append(
                {
                    "video_id": f"{video:05}",
                    "gloss": f"gloss {gloss}",
                    "path_to_npy_file": name,
                    "variant": variant,
                    "signer": f"wlasl:{signer}",
                    "split": str(splits[video]),
                }
            )
    return _listed(folder, lines, "vjepa2", shape[1])


def _listed(folder: Path, lines: Sequence[dict[str, str]], kind: str, dim: int) -> Path:
    """`index.csv` of the lines, and the report beside it that tells of the encoder."""
    index = folder / "index.csv"
    with index.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    encoder = {
        "kind": kind,
        "source": "made up",
        "revision": "1",
        "dim": dim,
        "frames": 16,
        "fps": 15.0,
        "short_side": 320,
    }
    (folder / "encode_report.json").write_text(json.dumps({"encoder": encoder}), encoding="utf-8")
    return index


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(write_large_index(parser.parse_args().folder))
