"""Two trained bundles -> one that runs both on the same windows and weighs what they say.

    python -m offline.fuse --part bundles/landmarks data/landmarks/index.csv \\
        --part bundles/vjepa2 data/vjepa2/index.csv --out bundles/both

    both indexes -> clips that neither part was trained on -> each part's answer to each
                 -> weights that make the right one likeliest -> bundle

The weights (`models.fusion`) are learnt from clips that the cards of all parts list as kept out:
train the parts with the same `--split official` or `grouped`, and the same glosses. Figures are of
signers that their weights have not seen (five folds); `--score SPLIT` keeps that split for figures
alone. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.bundle import Bundle, open_bundle
from models.classifier import Classifier, softmax
from models.few_shot import IDLE
from models.fusion import fuse, log_probabilities
from models.schema import Embedding
from offline.data.examples import Example, read_examples
from offline.data.index import ORIGINAL
from offline.data.labels import EXTRA
from offline.data.splits import grouped_folds
from offline.exporting.fused_bundle import write_fused
from offline.scoring.clip_predictions import middle_rows
from offline.scoring.metrics import ranks, share_within

_FOLDS = 5
_MOST = 100.0  # a weight; the card allows no more


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 when the parts can't be fused, and says why."""
    parser = argparse.ArgumentParser(
        prog="python -m offline.fuse", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    add = parser.add_argument
    add("--part", nargs=2, action="append", metavar=("BUNDLE", "INDEX.csv"), required=True)
    add("--out", type=Path, required=True, help="the bundle's folder")
    add("--name", default="fused", help="the bundle's name (fused)")
    add("--score", metavar="SPLIT", help="clips of this split are for the figures alone")
    options = parser.parse_args(argv)
    try:
        parts = [open_bundle(bundle) for bundle, _ in options.part]
        answers = read_answers(parts, [Path(index) for _, index in options.part])
        weights, scores = fit_fusion(answers, options.score)
        bundle = write_fused(options.out, options.name, parts, weights, scores)
    except (ValueError, OSError) as exc:
        print(f"offline.fuse: {exc}", file=sys.stderr)
        return 2
    for part, weight in zip(bundle.parts, weights, strict=True):
        print(f"{part.bundle.name}: weight {weight:.3f}")
    print(json.dumps({"bundle": str(bundle.path), "weights": weights, **scores}))
    return 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What P parts say of the same N clips, none of which they were trained on."""

    names: list[str]  # of the parts
    glosses: int  # so many classes come first; another may be idle
    clips: list[Example]
    labels: NDArray[np.int64]  # (N,)
    probabilities: NDArray[np.float32]  # (P, N, K)

    def of(self, chosen: Sequence[int]) -> Answers:
        return Answers(
            names=self.names,
            glosses=self.glosses,
            clips=[self.clips[n] for n in chosen],
            labels=self.labels[chosen],
            probabilities=self.probabilities[:, chosen],
        )


def read_answers(parts: Sequence[Bundle], indexes: Sequence[Path]) -> Answers:
    """What each of `parts` says of the clips that all of them know and none learnt from.

    Raises:
        ValueError: there are fewer than two parts, they have other classes, or there is no such
            clip.
    """
    if len(parts) < 2:
        raise ValueError("give --part twice or more")
    first = parts[0]
    for part in parts:
        if part.head_path is None:
            raise ValueError(f"{part.path}: has no trained head of its own")
        if (part.glosses, part.idle) != (first.glosses, first.idle):
            raise ValueError(f"{part.path}: knows other classes than {first.path}")
    found = [_kept_out(p, read_examples(i)) for p, i in zip(parts, indexes, strict=True)]
    common = sorted(set.intersection(*(set(clips) for clips in found)))
    if not common:
        raise ValueError(
            "no clip was kept out of the training of all parts: train them with the same --split "
            "official or grouped, on indexes of the same videos"
        )
    classes = {gloss: number for number, gloss in enumerate((*first.glosses, IDLE))}
    rows = [[clips[name].rows for name in common] for clips in found]
    return Answers(
        names=[part.name for part in parts],
        glosses=len(first.glosses),
        clips=[found[0][name] for name in common],
        labels=np.array([classes[found[0][name].gloss] for name in common]),
        probabilities=np.stack([_said(p, r) for p, r in zip(parts, rows, strict=True)]),
    )


def _kept_out(part: Bundle, examples: Sequence[Example]) -> dict[str, Example]:
    """The clips whose class `part` has and that its card lists as kept out, by their ids."""
    data = part.card["data"] if isinstance(part.card["data"], dict) else {}
    videos = {one.get("video") for one in data.get("held_out_clips", [])}
    groups = set(data.get("held_out_groups", []))
    return {
        one.video_id: one
        for one in examples
        if one.variant == ORIGINAL and one.split != EXTRA
        if (one.gloss in part.glosses and one.video in videos)
        or (one.gloss == IDLE and part.idle and one.group in groups)
    }


def _said(part: Bundle, rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(N, K) What the part's head says of the middle of each clip."""
    head = Classifier(part, "cpu")
    clips = [middle_rows(one, part.encoder) for one in rows]
    said = [head.classify([Embedding(features=one, start_s=0.0, end_s=0.0)]) for one in clips]
    return np.concatenate([one.probabilities for one in said])


def fit_fusion(answers: Answers, score: str | None) -> tuple[list[float], dict[str, Any]]:
    """The weights (P,), and figures of clips that they were not learnt from.

    Raises:
        ValueError: there are no clips for the one or the other.
    """
    kept = [n for n, clip in enumerate(answers.clips) if score and clip.split == score]
    fitted = answers.of([n for n in range(len(answers.clips)) if n not in set(kept)])
    if not fitted.clips or (score and not kept):
        raise ValueError(f"no clips {'of' if fitted.clips else 'but those of'} --score {score}")
    weights = learn_weights(fitted.probabilities, fitted.labels)
    if kept:
        scored = answers.of(kept)
        return weights, _scores(scored, fuse(list(scored.probabilities), weights))
    groups = [clip.group for clip in fitted.clips]
    folds = min(_FOLDS, len(set(groups)))
    fold_of = np.array(grouped_folds([clip.gloss for clip in fitted.clips], groups, folds))
    together = np.zeros_like(fitted.probabilities[0])
    for fold in range(folds):
        rest, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        of_rest = learn_weights(fitted.probabilities[:, rest], fitted.labels[rest])
        together[test] = fuse(list(fitted.probabilities[:, test]), of_rest)
    return weights, _scores(fitted, together)


def learn_weights(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> list[float]:
    """Weights (P,), none negative, that make `labels` (N,) likeliest, of (P, N, K).

    One clip's worth holds them to the parts' plain mean, so that parts which are never wrong do not
    get weights without end. The loss is convex: there is one best answer.
    """
    logs = log_probabilities(probabilities).astype(np.float64)
    parts, count, _ = logs.shape
    mean = 1 / parts
    right = logs[:, np.arange(count), labels]  # P, N

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        p = softmax(np.asarray(np.tensordot(weights, logs, 1), np.float32)).astype(np.float64)
        surprise = -np.log(np.maximum(p[np.arange(count), labels], 1e-12)).sum()
        slope = (logs * p).sum((1, 2)) - right.sum(1) + (weights - mean)
        return float(surprise + np.square(weights - mean).sum() / 2), slope

    found = minimize(loss, np.full(parts, mean), jac=True, bounds=[(0, _MOST)] * parts)
    return [round(float(weight), 4) for weight in found.x]


def _scores(answers: Answers, together: NDArray[np.float32]) -> dict[str, Any]:
    """How often each part alone and all together have the right gloss first, and among five."""
    signs = [n for n, clip in enumerate(answers.clips) if clip.gloss != IDLE]
    labels = answers.labels[signs]
    told: dict[str, Any] = {}
    for name, said in zip(
        [*answers.names, "fused"], [*answers.probabilities, together], strict=True
    ):
        rank = ranks(said[signs, : answers.glosses], labels)
        top1, top5 = share_within(rank, 1), share_within(rank, 5)
        low, high = top1[1]
        told[name] = {
            "clips": len(signs),
            "top1": round(top1[0], 4),
            "top1_interval95": [round(low, 4), round(high, 4)],
            "top5": round(top5[0], 4),
        }
        print(
            f"{name}: right first {top1[0]:.1%} ({low:.1%} to {high:.1%}), among five "
            f"{top5[0]:.1%}, of {len(signs)} clips",
            flush=True,
        )
    return told


if __name__ == "__main__":
    raise SystemExit(main())
