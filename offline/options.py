"""The options by which `offline.train`, `evaluate` and `fewshot` describe a training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from models.heads import HEADS
from offline.data.duplicates import read_recordings
from offline.data.examples import Example, common_glosses, read_spec
from offline.evaluation.crossval import TrainingPlan
from offline.training.config import TrainSettings

_USUAL = TrainSettings()
_SHARES = {  # settings from 0 to 1
    "warmup": "share of the steps in which the learning rate rises",
    "smoothing": "of labels: the share that all classes get alike",
    "mixup": "share of batches in which clips are mixed",
    "average": "of weights: how much of the average stays at a step",
    "balance": "0: clips are drawn alike; 1: classes are drawn alike",
}


def plan_from(args: argparse.Namespace) -> TrainingPlan:
    """The training that the options describe, with its examples read.

    Raises:
        ValueError: the index or an option does not allow it.
    """
    examples = without_cards(read_recordings(args.index), args)
    return TrainingPlan(
        examples=examples,
        glosses=_chosen_glosses(args, examples),
        spec=read_spec(args.index),
        hop_s=args.hop_s,
        open_set=args.open_set,
        settings=_settings_from(args),
        threads=args.threads,
    )


def without_cards(examples: Sequence[Example], args: argparse.Namespace) -> list[Example]:
    """The examples that `--cards` lets in."""
    return [e for e in examples if args.cards == "keep" or not e.title_card]


def add_training_options(parser: argparse.ArgumentParser, index_required: bool = True) -> None:
    """What `plan_from` reads, for all three."""
    parser.add_argument(
        "--index", required=index_required, help="index.csv that offline.encode wrote"
    )
    parser.add_argument("--head", choices=HEADS, default="gloss")
    parser.add_argument("--batch", type=_positive, default=32)
    parser.add_argument("--epochs", type=float, default=10)
    several = "several: a head for each, on the same batches; the best on signers held back is kept"
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-4], help=several)
    parser.add_argument("--weight-decay", type=float, nargs="+", default=[0.05], help=several)
    parser.add_argument(
        "--patience",
        type=int,
        default=0,
        help="end after so many epochs without a better head, by signers held back (0: never)",
    )
    for name, what in _SHARES.items():
        parser.add_argument(
            f"--{name}", type=float, default=getattr(_USUAL, name), help=f"{what} (%(default)s)"
        )
    parser.add_argument("--dropout", type=float, default=None)
    parser.add_argument("--heads", type=_positive, default=1, help="how many answer together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--glosses", help="file with the glosses to recognise, one a line")
    parser.add_argument("--min-clips", type=_positive, default=2, help="a gloss must have so many")
    parser.add_argument(
        "--open-set",
        action="store_true",
        help="learn idle too: nobody signs, or something outside the glosses",
    )
    parser.add_argument(
        "--cards",
        choices=("keep", "leave-out"),
        default="keep",
        help="clips that a title card or another scene cuts across: their labels are often wrong",
    )
    parser.add_argument("--hop-s", type=float, default=0.1, help="seconds between windows")
    parser.add_argument("--fold-seed", type=int, default=0)
    parser.add_argument("--threads", type=_positive, default=2)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def _chosen_glosses(args: argparse.Namespace, examples: Sequence[Example]) -> tuple[str, ...]:
    """The glosses that `--glosses` lists, one a line, or those with `--min-clips` clips."""
    if not args.glosses:
        return common_glosses(examples, args.min_clips)
    try:
        lines = Path(args.glosses).read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise ValueError(f"{args.glosses}: can't be read: {exc.strerror}") from exc
    names = [line.strip() for line in lines if line.strip()]
    missing = set(names) - {e.gloss for e in examples}
    if missing or len(set(names)) < len(names) or not names:
        wrong = f"no clip of {sorted(missing)[:5]}" if missing else "glosses twice, or none at all"
        raise ValueError(f"{args.glosses}: {wrong}")
    return tuple(names)


def named_groups(names: str | None, examples: Sequence[Example], option: str) -> set[str]:
    """The groups of the signers that `option` names with commas between: as labelled, or joined.

    Raises:
        ValueError: there is no clip of one.
    """
    wanted = set(names.split(",")) if names else set()
    unknown = wanted - {name for e in examples for name in (e.signer, e.group)}
    if unknown:
        raise ValueError(f"{option}: no clip of {', '.join(sorted(unknown))}")
    return {e.group for e in examples if wanted & {e.signer, e.group}}


def _settings_from(args: argparse.Namespace) -> TrainSettings:
    extra = {"dropout": args.dropout} if args.dropout is not None else {}
    return TrainSettings(
        head=args.head,
        batch=args.batch,
        epochs=args.epochs,
        lr=tuple(args.lr),
        weight_decay=tuple(args.weight_decay),
        patience=args.patience,
        device=_device(args.device),
        **{name: getattr(args, name) for name in _SHARES},
        heads=args.heads,
        seed=args.seed,
        extra=extra,
    )


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as exc:  # torch asserts that it was built with CUDA
        raise ValueError(f"--device {name}: not on this machine; take auto or cpu") from exc
    return name


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
