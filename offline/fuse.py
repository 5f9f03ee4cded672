"""Two or more trained bundles -> one bundle that fuses their predictions, late, by learnt weights.

    python -m offline.fuse --part bundles/landmarks data/landmarks/index.csv \\
        --part bundles/vjepa2 data/vjepa2/index.csv --out bundles/both

    indexes -> clips that no part was trained on -> each part's probabilities of each clip
            -> weights that make the labels likeliest -> bundle (`exporting.bundle_export`)

Weights (`models.fusion`) are learnt from clips that the cards of all parts list as held out: train
the parts with the same `--split official` or `grouped`, and the same glosses. Scores come from five
folds by signer, so that weights are scored on signers they were not learnt from; `--score SPLIT`
keeps that split for the scores alone. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.bundle import Bundle, open_bundle
from models.classifier import Classifier, softmax
from models.command_line import read_command_line, say, until_interrupted
from models.few_shot import IDLE
from models.fusion import fuse, log_probabilities
from models.schema import Embedding
from offline.data.examples import Example, read_examples
from offline.data.index import ORIGINAL
from offline.data.labels import EXTRA
from offline.data.splits import grouped_folds
from offline.scoring.metrics import ranks, share_within

_FOLDS = 5
_MAX_WEIGHT = 100.0  # the card allows no more


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseOptions:
    part: Annotated[tuple[tuple[Path, Path], ...], tyro.conf.arg(metavar="BUNDLE INDEX.csv")]
    """a trained bundle and the index of its rows; twice or more"""
    out: Path  # the new bundle's folder
    name: str = "fused"  # the new bundle's name
    score: str | None = None  # clips of this split are for the scores alone

    def __post_init__(self) -> None:
        if len(self.part) < 2:
            raise ValueError("give --part twice or more")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when the parts can't be fused, and says why."""
    options = read_command_line(
        FuseOptions, argv, prog="python -m offline.fuse", description=__doc__
    )
    from offline.exporting.bundle_export import write_fused  # torch

    try:
        parts = [open_bundle(bundle) for bundle, _ in options.part]
        weights, scores = fit_fusion(parts, [index for _, index in options.part], options.score)
        bundle = write_fused(options.out, options.name, parts, weights, scores)
    except (ValueError, OSError) as exc:
        say(f"offline.fuse: {exc}", file=sys.stderr)
        return 2
    for part, weight in zip(parts, weights, strict=True):
        say(f"{part.name}: weight {weight:.3f}")
    print(json.dumps({"bundle": str(bundle.path), "weights": weights, **scores}))
    return 0


def fit_fusion(
    parts: Sequence[Bundle], indexes: Sequence[Path], score: str | None
) -> tuple[list[float], dict[str, Any]]:
    """The weights (P,), and scores on clips that they were not learnt from, which are also printed.

    Scores are top-1 and top-5 of each part and of all fused, on clips that show a sign.

    Raises:
        ValueError: there are no clips to learn from or to score.
    """
    clips, labels, probabilities = predict_held_out(parts, indexes)
    in_split = np.array([score is not None and clip.split == score for clip in clips])
    train, test = np.flatnonzero(~in_split), np.flatnonzero(in_split)
    if not train.size or (score and not test.size):
        raise ValueError(f"no clips {'of' if train.size else 'but those of'} --score {score}")
    weights = learn_weights(probabilities[:, train], labels[train])
    if test.size:
        fused = fuse(list(probabilities[:, test]), weights)
    else:
        test = train  # all clips, in folds
        groups = [clip.group for clip in clips]
        folds = min(_FOLDS, len(set(groups)))
        fold_of = np.array(grouped_folds([clip.gloss for clip in clips], groups, folds))
        fused = np.zeros_like(probabilities[0])
        for fold in range(folds):
            inside = fold_of == fold
            of_rest = learn_weights(probabilities[:, ~inside], labels[~inside])
            fused[inside] = fuse(list(probabilities[:, inside]), of_rest)
    signs = [n for n, clip in enumerate(test) if clips[clip].gloss != IDLE]
    scores: dict[str, Any] = {}
    names = [*(part.name for part in parts), "fused"]
    for name, of_test in zip(names, [*probabilities[:, test], fused], strict=True):
        rank = ranks(of_test[signs, : len(parts[0].glosses)], labels[test][signs])
        (top1, (low, high)), (top5, _) = share_within(rank, 1), share_within(rank, 5)
        scores[name] = {
            "clips": len(signs),
            "top1": round(top1, 4),
            "top1_interval95": [round(low, 4), round(high, 4)],
            "top5": round(top5, 4),
        }
        interval = f"{low:.1%} to {high:.1%}"
        say(f"{name}: top-1 {top1:.1%} ({interval}), top-5 {top5:.1%}, {len(signs)} clips")
    return weights, scores


def predict_held_out(
    parts: Sequence[Bundle], indexes: Sequence[Path]
) -> tuple[list[Example], NDArray[np.int64], NDArray[np.float32]]:
    """Predictions of `parts` for the clips that all of them know and none was trained on.

    A head gets the window in the middle of each clip.

    Returns:
        The clips, their labels (N,), where idle comes last, and probabilities (P, N, K).

    Raises:
        ValueError: a part has no head or other classes than the first, or there is no such clip.
    """
    from offline.scoring.clip_predictions import middle_rows  # torch

    first = parts[0]
    for part in parts:
        if part.head_path is None:
            raise ValueError(f"{part.path}: has no trained head of its own")
        if (part.glosses, part.idle) != (first.glosses, first.idle):
            raise ValueError(f"{part.path}: knows other classes than {first.path}")
    held_out = [_held_out(p, read_examples(i)) for p, i in zip(parts, indexes, strict=True)]
    common = sorted(set.intersection(*(set(clips) for clips in held_out)))
    if not common:
        raise ValueError(
            "no clip was held out of the training of all parts: train them with the same --split "
            "official or grouped, on indexes of the same videos"
        )
    classes = {gloss: number for number, gloss in enumerate((*first.glosses, IDLE))}
    clips = [held_out[0][video_id] for video_id in common]
    probabilities = []
    for part, examples in zip(parts, held_out, strict=True):
        head = Classifier(part, "cpu")
        chosen = [examples[video_id] for video_id in common]
        rows = [middle_rows(e.rows, part.encoder, e.windows) for e in chosen]
        windows = [Embedding(features=window, start_s=0.0, end_s=0.0) for window in rows]
        outputs = [head.classify([window]).probabilities for window in windows]
        probabilities.append(np.concatenate(outputs))
    return clips, np.array([classes[clip.gloss] for clip in clips]), np.stack(probabilities)


def _held_out(part: Bundle, examples: Sequence[Example]) -> dict[str, Example]:
    """By video id, the clips of the part's classes that its card lists as held out."""
    data = part.card["data"] if isinstance(part.card["data"], dict) else {}
    videos = {clip.get("video") for clip in data.get("held_out_clips", [])}
    groups = set(data.get("held_out_groups", []))
    return {
        example.video_id: example
        for example in examples
        if example.variant == ORIGINAL and example.split != EXTRA
        if (example.gloss in part.glosses and example.video in videos)
        or (example.gloss == IDLE and part.idle and example.group in groups)
    }


def learn_weights(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> list[float]:
    """Weights (P,), none negative, under which (P, N, K) fused make `labels` (N,) likeliest.

    A prior pulls them to the plain mean of the parts as strongly as one clip does: without it parts
    that are never wrong would get endless weights. The loss is convex: it has one minimum.
    """
    logs = log_probabilities(probabilities).astype(np.float64)
    parts, count, _ = logs.shape
    mean = 1 / parts
    right = logs[:, np.arange(count), labels]  # P, N

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        p = softmax(np.asarray(np.tensordot(weights, logs, 1), np.float32)).astype(np.float64)
        cross_entropy = -np.log(np.maximum(p[np.arange(count), labels], 1e-12)).sum()
        gradient = (logs * p).sum((1, 2)) - right.sum(1) + (weights - mean)
        return float(cross_entropy + np.square(weights - mean).sum() / 2), gradient

    bounds = [(0, _MAX_WEIGHT)] * parts
    found = minimize(loss, np.full(parts, mean), jac=True, bounds=bounds)
    return [round(float(weight), 4) for weight in found.x]


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.fuse"))
