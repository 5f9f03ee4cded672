"""Measure token thrift: what dropping still tubelets gains in time, and costs in answers.

    python -m offline.thrift --model models/mine.pt --index embeddings/index.csv --levels 0 1 2 4 8

    clips of the index -> full encoder and thrifty ones, in turn -> head -> a line a level

The head is one that `offline.train` made on features of V-JEPA 2, and the index the one that it
was trained on. Every clip is encoded by all of them before the next one, round by round, so that a
busy machine is as unfair to each. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from models.bench.report import machine
from models.card import spec_from
from models.schema import EncoderSpec
from models.vjepa2.picture_encoder import PictureEncoder
from models.vjepa2.preprocess import crop_pictures
from models.vjepa2.thrift import check_level, kept_tubelets
from models.vjepa2.thrifty_encoder import ThriftyEncoder
from models.vjepa2.torch_engine import torch_device
from models.vjepa2.weights import load_weights
from offline.checkpoint import Checkpoint, load_checkpoint
from offline.encoding.embedder import middle_window
from offline.encoding.store import read_index
from offline.evaluation.answers import clip_logits
from offline.evaluation.scores import mean_of
from offline.examples import Example, scored
from offline.splitting.copies import read_recordings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one level gives. `level` None: the full encoder."""

    level: float | None
    kept: float  # share of the tokens, the mean of the clips
    speed: float  # clips a second by the full encoder's, the median of the rounds
    speed_range: tuple[float, float]  # of the rounds
    cosine: float  # of a step's features with the full encoder's, the mean of all steps
    cosine_low: float  # the fifth percentile
    agree: float  # share of clips with the full encoder's first gloss
    agree_interval95: tuple[float, float]
    top1: float | None  # share of right first glosses, of signers that the head has not seen
    top1_interval95: tuple[float, float] | None


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        report = run(options)
    except (ValueError, OSError) as exc:
        print(f"offline.thrift: {exc}", file=sys.stderr)
        return 2
    print(table(report["lines"]))
    print(json.dumps({**report, "lines": [asdict(line) for line in report["lines"]]}))
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure as the command line says.

    Raises:
        ValueError: an option, the head or the index does not allow it.
        OSError: the encoder's weights are not there.
    """
    for level in options.levels:
        check_level(level)
    if options.rounds < 1 or options.threads < 1 or options.clips < 1:
        raise ValueError("--rounds, --threads and --clips must be at least 1")
    torch.set_num_threads(options.threads)
    trained = load_checkpoint(options.model)
    spec = spec_from(trained.card["encoder"])
    if spec.kind not in ("vjepa2", "vjepa2-tokens"):
        raise ValueError(f"{options.model}: a head on {spec.kind}, which has no tokens to drop")
    clips = _clips(options.index, trained.card, options.clips)
    device = torch_device(options.device)
    model = load_weights(spec, _DTYPES[options.dtype]).to(device)
    full = PictureEncoder(model, pooled=spec.kind == "vjepa2").to(device)
    encoders: list[PictureEncoder | ThriftyEncoder] = [
        full,
        *(ThriftyEncoder(full, level) for level in options.levels),
    ]

    videos = {e.video_id: Path(e.video) for e in read_index(options.index.parent).values()}
    pictures = [
        crop_pictures(
            [frame.image for frame in middle_window(videos[e.video_id], spec)], model.video_size[2]
        )
        for e in tqdm(clips, unit="clip", disable=None)
    ]  # each (T, H, W, 3)
    features, times = _encoded(encoders, pictures, options.rounds, device)

    glosses = trained.card["glosses"]
    labels = np.array([glosses.index(e.gloss) for e in clips])
    unseen = np.isin([e.signer for e in clips], trained.card["data"]["held_out_groups"])
    answers = [_answers(trained, rows, spec) for rows in features]
    lines = []
    for i, level in enumerate([None, *options.levels]):
        shape = model.shape
        keeps = [
            1.0 if level is None else kept_tubelets(p, shape.patch, shape.tubelet, level).mean()
            for p in pictures
        ]
        speeds = times[0] / times[i]
        alike = _cosines(features[0], features[i])
        agree, agree_interval = mean_of((answers[i] == answers[0]).astype(np.float64))
        right = (answers[i] == labels)[unseen].astype(np.float64)
        top1 = mean_of(right) if len(right) else None
        lines.append(
            Line(
                level=level,
                kept=float(np.mean(keeps)),
                speed=float(np.median(speeds)),
                speed_range=(float(speeds.min()), float(speeds.max())),
                cosine=float(alike.mean()),
                cosine_low=float(np.percentile(alike, 5)),
                agree=agree,
                agree_interval95=agree_interval,
                top1=None if top1 is None else top1[0],
                top1_interval95=None if top1 is None else top1[1],
            )
        )
    return {
        "lines": lines,
        "clips": len(clips),
        "clips_of_unseen_signers": int(unseen.sum()),
        "tokens": int(np.prod(model.grid)),
        "ms_full": round(1000 * float(np.median(times[0])) / len(clips), 2),
        "rounds": options.rounds,
        "dtype": options.dtype,
        **machine(device, options.threads),
    }


def table(lines: Sequence[Line]) -> str:
    """A Markdown table, one line a level."""
    rows = [
        "| level | tokens kept | speed | cosine (5 % below) | same answer | right, new signers |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        level = "full" if line.level is None else f"{line.level:g}"
        top1 = "" if line.top1 is None else _percent(line.top1, line.top1_interval95)
        rows.append(
            f"| {level} | {line.kept:.1%} | {line.speed:.2f} ({line.speed_range[0]:.2f}-"
            f"{line.speed_range[1]:.2f}) | {line.cosine:.4f} ({line.cosine_low:.4f}) | "
            f"{_percent(line.agree, line.agree_interval95)} | {top1} |"
        )
    return "\n".join(rows)


def _percent(share: float, interval: tuple[float, float] | None) -> str:
    low, high = interval or (share, share)
    return f"{share:.1%} ({100 * low:.1f}-{100 * high:.1f})"


def _clips(index: Path, card: dict[str, Any], most: int) -> list[Example]:
    """Clips of the head's glosses, those of signers that it has not seen first.

    Raises:
        ValueError: there is none.
    """
    known = [e for e in scored(read_recordings(index)) if e.gloss in card["glosses"]]
    if not known:
        raise ValueError(f"{index}: no clip of the head's glosses")
    new = set(card["data"]["held_out_groups"])
    return sorted(known, key=lambda e: (e.signer not in new, e.video_id))[:most]


@torch.inference_mode()
def _encoded(
    encoders: Sequence[PictureEncoder | ThriftyEncoder],
    pictures: Sequence[NDArray[np.uint8]],
    rounds: int,
    device: torch.device,
) -> tuple[list[list[Tensor]], NDArray[np.float64]]:
    """Each encoder's features (S, D) of each clip; seconds (encoders, rounds) for all clips."""
    features: list[list[Tensor]] = [[] for _ in encoders]
    times = np.zeros((len(encoders), rounds))
    for turn in tqdm(range(-1, rounds), unit="round", disable=None):  # the first warms up
        for clip in pictures:
            video = torch.from_numpy(clip)[None].to(device)
            for i, encoder in enumerate(encoders):
                began = time.perf_counter()
                made = encoder(video)[0].cpu()  # waits for a GPU
                if turn < 0:
                    features[i].append(made)
                else:
                    times[i, turn] += time.perf_counter() - began
    return features, times


def _answers(trained: Checkpoint, rows: Sequence[Tensor], spec: EncoderSpec) -> NDArray[np.int64]:
    """(N,) The head's first gloss for each clip."""
    count = len(trained.card["glosses"])
    hop_s = trained.card["hop_s"]
    logits = [clip_logits(trained.head, one.numpy(), spec, hop_s)[0, :count] for one in rows]
    return np.array([one.argmax() for one in logits])


def _cosines(one: Sequence[Tensor], other: Sequence[Tensor]) -> NDArray[np.float64]:
    """Of each step of each clip."""
    a, b = torch.cat(list(one)).double(), torch.cat(list(other)).double()
    cosines: NDArray[np.float64] = torch.nn.functional.cosine_similarity(a, b).numpy()
    return cosines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline.thrift",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="a .pt of offline.train, on V-JEPA 2's features")
    add("--index", type=Path, required=True, help="index.csv that it was trained on")
    add("--levels", type=float, nargs="+", default=[0, 1, 2, 4, 8], help="(default: 0 1 2 4 8)")
    add("--clips", type=int, default=200, help="at most so many (200)")
    add("--rounds", type=int, default=5, help="timed rounds over all clips (5)")
    add("--dtype", choices=_DTYPES, default="float32")
    add("--threads", type=int, default=1)
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


if __name__ == "__main__":
    sys.exit(main())
