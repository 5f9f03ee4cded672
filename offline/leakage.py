"""How much a careless split flatters: the same clips, trained and scored over three kinds of folds.

    python -m offline.leakage --index data/mine/index.csv --head landmarks --min-clips 4

    examples -> folds by row | by video | by signer group -> trainer -> top-1

`row` deals each variant of a video by itself, so that a blurred copy of what is asked may have been
learnt; `video` keeps variants together, but not signers; `signer` is what all other commands do.
Only original variants are scored, and the same ones each time. The index needs variants: encode
with `--variants original,gaussian,bw`. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.answers import clip_answer, clip_logits
from offline.evaluation.crossval import Plan, fold_of_groups, in_workers, train_head
from offline.evaluation.scores import ranks, share_within
from offline.examples import ORIGINAL, Example, scored
from offline.labels import EXTRA, IDLE
from offline.options import add_training_options, plan_from


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m offline.leakage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_training_options(parser)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="folds trained at the same time")
    args = parser.parse_args(argv)
    try:
        plan = plan_from(args)
        result = measure(plan, args.folds, args.fold_seed, args.jobs)
    except ValueError as exc:
        print(f"leakage: {exc}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


def measure(plan: Plan, folds: int, seed: int, jobs: int) -> dict[str, Any]:
    """Top-1 with its 95 % interval over clips, for each way to deal the rows into folds.

    Raises:
        ValueError: no video has a second variant, or there are too few signers for the folds.
    """
    rows = [e for e in plan.examples if e.gloss in plan.glosses and e.gloss != IDLE]
    rows = [e for e in rows if e.split != EXTRA]
    videos = {e.video_id for e in rows if e.variant != ORIGINAL}
    rows = [e for e in rows if e.video_id in videos]
    if not rows:
        raise ValueError("no video has a second variant: encode with --variants original,gaussian")
    groups = fold_of_groups(rows, plan.glosses, folds, seed)
    ways = {
        "row": _dealt([(e.video_id, e.variant) for e in rows], folds, seed),
        "video": _dealt([e.video_id for e in rows], folds, seed),
        "signer": [groups[e.group] for e in rows],
    }
    result: dict[str, Any] = {
        "clips": len(scored(rows)),
        "rows": len(rows),
        "glosses": len({e.gloss for e in rows}),
        "folds": folds,
    }
    for way, fold in ways.items():
        work = [(plan, *_sides(rows, fold, k)) for k in range(folds)]
        rank = np.concatenate(list(in_workers(_ranks, work, jobs)))
        value, interval = share_within(rank, 1)
        result[way] = {"top1": round(value, 4), "interval95": [round(x, 4) for x in interval]}
        print(f"folds by {way}: top-1 {value:.1%}", flush=True)
    return result


def _dealt(keys: Sequence[Hashable], folds: int, seed: int) -> list[int]:
    """The fold of each row: at random, rows of one key together, all folds about as large."""
    distinct = list(dict.fromkeys(keys))
    order = np.random.default_rng(seed).permutation(len(distinct)).tolist()
    fold_of = {distinct[i]: place % folds for place, i in enumerate(order)}
    return [fold_of[key] for key in keys]


def _sides(
    rows: Sequence[Example], fold: Sequence[int], tested: int
) -> tuple[list[Example], list[Example]]:
    train = [e for e, f in zip(rows, fold, strict=True) if f != tested]
    return train, scored([e for e, f in zip(rows, fold, strict=True) if f == tested])


def _ranks(plan: Plan, train: Sequence[Example], test: Sequence[Example]) -> NDArray[np.int64]:
    """How many glosses were thought likelier than the right one, for each clip."""
    head, _ = train_head(plan, train, plan.glosses)
    count, spec, hop_s = len(plan.glosses), plan.spec, plan.hop_s
    logits = (clip_logits(head, e.rows, spec, hop_s) for e in test)
    p = np.stack([clip_answer(one, count, spec, hop_s, 1.0) for one in logits])
    return ranks(p, np.array([plan.glosses.index(e.gloss) for e in test]))


if __name__ == "__main__":
    sys.exit(main())
