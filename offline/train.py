"""Train a head on an index of embedded videos.

    python -m offline.train --index embeddings/index.csv --batch 32 --epochs 10 --lr 1e-4

    index.csv + .npy -> [examples] -> [leaks] -> [selection] -> [trainer]
                     -> models/gloss_classifier_<time>.pt and .json

Beside the head it draws its loss and, for clips kept out, its confusions as PNG. The last line of
stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.card import spec_as_card
from models.few_shot import IDLE
from models.heads import HeadEnsemble
from offline.data.examples import Example, vocabulary
from offline.data.splits import refuse_leaks
from offline.evaluation.crossval import calibrate, fold_of_groups, split_fold, to_score
from offline.evaluation.figures import figures_of
from offline.options import add_training_options, named_groups, plan_from
from offline.scoring.clip_predictions import Answered, clip_logits
from offline.scoring.outcomes import outcomes_of
from offline.scoring.takes import background
from offline.training.checkpoint import save_checkpoint
from offline.training.progress import Progress, draw_confusion, draw_loss
from offline.training.selection import learn

_FOLDS = 5


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        result = run(args)
    except ValueError as exc:
        print(f"train: {exc}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as exc:
        if not _out_of_memory(exc):
            raise
        print(
            f"train: out of memory on a batch of {args.batch}: halve --batch, try fewer --lr and "
            "--weight-decay at once, or --device cpu",
            file=sys.stderr,
        )
        return 2
    print(json.dumps(result))
    return 0


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train as the command line says; what the last line tells.

    Raises:
        ValueError: the index or an option does not allow it.
    """
    torch.set_num_threads(args.threads)
    base = _read_json(args.card) if args.card else {}
    report = _read_json(args.report) if args.report else {}
    plan = plan_from(args)
    examples, glosses, spec, settings = plan.examples, plan.glosses, plan.spec, plan.settings
    away = named_groups(args.leave_out, examples, "--leave-out")
    left_out = [e for e in examples if e.group in away]
    train, test = _split(args, examples, glosses)
    train = [e for e in train if e.group not in away]
    test = [e for e in test if e.group not in away]
    if test:
        train = _without_leaks(args, train, test)
    words = vocabulary(train, glosses, args.open_set)
    print(
        f"{len(train)} clips to train on, {len(test)} kept out; {len(glosses)} glosses, "
        f"{words.classes} classes; {settings}",
        flush=True,
    )
    progress = Progress(args.tensorboard)
    fitted = learn(
        train,
        words,
        spec,
        args.hop_s,
        settings,
        resume=Path(args.resume) if args.resume else None,
        progress=progress,
    )
    heads = [one.head for one in fitted]
    losses = [loss for one in fitted for loss in one.losses]
    head = HeadEnsemble(heads, len(glosses), words.classes).eval()
    out = Path(args.out or f"models/gloss_classifier_{datetime.now(UTC):%Y%m%d-%H%M%S}.pt")

    answers = [
        Answered(example=e, fold=0, logits=clip_logits(head, e.rows, spec, args.hop_s))
        for e in test
    ]
    known = to_score(answers, glosses)
    metrics: dict[str, Any] = {}
    calibration: dict[str, Any] = {"temperature": 1.0, "threshold": 0.5}
    if report:
        calibration = dict(report["calibration"])
        metrics["cross_validation"] = {**report["scores"], **report["how"]}
        metrics["live"] = [
            row for row in report["live"] if row["threshold"] == calibration["threshold"]
        ]
    elif known:
        calibration["temperature"] = calibrate(answers, plan)
    if args.threshold is not None:
        calibration["threshold"] = args.threshold
    if settings.chooses:
        metrics["chosen_from"] = [one.candidates for one in fitted]
    if known:
        outcomes = outcomes_of(known, glosses, spec, args.hop_s, calibration["temperature"])
        metrics["kept_out"] = figures_of(outcomes)
    card = {
        "name": out.stem,
        "encoder": spec_as_card(spec),
        "window_s": spec.window_s,
        "hop_s": args.hop_s,
        "calibration": calibration,
        "licence": "not stated",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **base,
        "data": {**base.get("data", {}), **_about(train, test, known, left_out)},
        "metrics": metrics,
        "glosses": list(glosses),
        "classes": words.classes,
    }
    save_checkpoint(out, heads, card, background(head, train, words, spec, args.hop_s))
    if args.resume:
        for i in range(settings.heads):
            Path(f"{args.resume}.{i}").unlink(missing_ok=True)
    draw_loss(losses, out.with_name(f"{out.stem}_loss.png"))
    if known:
        picture = out.with_name(f"{out.stem}_confusion.png")
        draw_confusion(outcomes.labels, outcomes.answers, glosses, picture)
    return {
        "model": str(out),
        "clips": len(train),
        "classes": words.classes,
        "glosses": len(glosses),
        "loss": round(float(np.mean(losses[-20:])), 4),
        "waited_for_rows": round(max(one.waited for one in fitted), 3),
        **{f"kept_out_{k}": v for k, v in metrics.get("kept_out", {}).items() if k != "per_gloss"},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_training_options(parser)
    parser.add_argument(
        "--split",
        choices=("official", "grouped", "none"),
        default="grouped",
        help="official: the labels' own; grouped: keep one fold of signers out; none: train on all",
    )
    parser.add_argument(
        "--fold", type=int, default=0, help="which of five --split grouped keeps out"
    )
    parser.add_argument("--hold-out-groups", help="signers to keep out, with commas between")
    parser.add_argument("--leave-out", help="signers neither to train on nor to score")
    parser.add_argument(
        "--copies",
        choices=("refuse", "leave-out", "allow"),
        default="refuse",
        help="of kept-out videos among those to train on, under another id",
    )
    parser.add_argument("--card", help="JSON file with fields for the card: name, data, licence …")
    parser.add_argument("--report", help="JSON report of offline.evaluate: calibration and figures")
    parser.add_argument("--threshold", type=float, help="probability at which a gloss counts, live")
    parser.add_argument("--out", help="the .pt to write")
    parser.add_argument(
        "--resume", help="file for the state of training, removed at the end; goes on from it"
    )
    parser.add_argument("--tensorboard", help="folder for TensorBoard's events")
    return parser


def _about(
    train: Sequence[Example],
    test: Sequence[Example],
    known: Sequence[Answered],
    left_out: Sequence[Example],
) -> dict[str, Any]:
    """What the card says of who and what is in the data."""
    return {
        "clips": len(train),
        "clips_without_signing": sum(e.gloss == IDLE for e in train),
        "signer_groups": len({e.group for e in train if e.gloss != IDLE}),
        "held_out_groups": sorted({e.signer for e in (*test, *left_out)}),
        "held_out_clips": [
            {"video": a.example.video, "gloss": a.example.gloss}
            for a in sorted(known, key=lambda a: (a.example.gloss, a.example.video_id))
        ],
    }


def _read_json(path: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ValueError(f"{path}: no JSON to read: {exc}") from exc
    return value


def _without_leaks(
    args: argparse.Namespace, train: Sequence[Example], test: Sequence[Example]
) -> list[Example]:
    """What to train on. Raises ValueError for what stands on both sides."""
    if args.copies == "leave-out":
        theirs = {e.recording for e in test}
        kept = [e for e in train if not e.duplicate_of or e.duplicate_of not in theirs]
        print(f"{len(train) - len(kept)} clips left out: they are copies of what is kept out")
        train = kept
    refuse_leaks(
        train,
        test,
        grouped=args.split != "official" or args.hold_out_groups is not None,
        duplicates=args.copies != "allow",
    )
    return list(train)


def _split(
    args: argparse.Namespace, examples: Sequence[Example], glosses: Sequence[str]
) -> tuple[list[Example], list[Example]]:
    if args.hold_out_groups:
        groups = named_groups(args.hold_out_groups, examples, "--hold-out-groups")
        return (
            [e for e in examples if e.group not in groups],
            [e for e in examples if e.group in groups],
        )
    if args.split == "none":
        return list(examples), []
    if args.split == "official":
        train = [e for e in examples if e.split in ("train", "extra")]
        test = [e for e in examples if e.split in ("val", "test")]
        return train, test
    if not 0 <= args.fold < _FOLDS:
        raise ValueError(f"--fold must be 0 to {_FOLDS - 1}")
    return split_fold(
        examples, fold_of_groups(examples, glosses, _FOLDS, args.fold_seed), args.fold
    )


def _out_of_memory(exc: BaseException) -> bool:
    """True for what NumPy, torch on a GPU and torch on a CPU (by its words alone) say of it."""
    return isinstance(exc, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(
        exc
    )


if __name__ == "__main__":
    sys.exit(main())
