"""Say how good a head is, on clips whose signers it has not seen, and how sure that is.

    python -m offline.evaluate --index embeddings/index.csv --cross-validate 5   (trains five times)
    python -m offline.evaluate --index embeddings/index.csv --model models/mine.pt --split test

Figures are of whole clips, answered by windows as served; the intervals (95 %) are from a bootstrap
over clips. Writes the full report as JSON; the last line of stdout is its summary.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from offline.answers import clip_logits
from offline.checkpoint import load_checkpoint
from offline.copies import read_recordings
from offline.crossval import (
    Answered,
    Plan,
    calibrate,
    calm_threshold,
    cross_validate,
    rejection,
    summary,
)
from offline.examples import read_spec, scored
from offline.options import add_training_options, named_groups, plan_from
from offline.recipe import TrainSettings
from offline.report import write_report

_THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        report = evaluate_model(args) if args.model else evaluate_training(args)
    except ValueError as exc:
        print(f"evaluate: {exc}", file=sys.stderr)
        return 2
    if args.report:
        write_report(args.report, report)
    brief = {k: v for k, v in report["scores"].items() if k != "per_gloss"}
    print(json.dumps({**brief, "calibration": report["calibration"]}))
    return 0


def evaluate_training(args: argparse.Namespace) -> dict[str, Any]:
    """Grouped cross-validation of the training that the options describe."""
    if args.cross_validate is None:
        raise ValueError("give --model to evaluate a head, or --cross-validate 5")
    plan = plan_from(args)
    print(f"{args.cross_validate} folds, {len(plan.glosses)} glosses; {plan.settings}", flush=True)
    answers = cross_validate(
        plan,
        args.cross_validate,
        args.fold_seed,
        jobs=args.jobs,
        progress=lambda line: print(line, flush=True),
    )
    report = _report(answers, plan, calibrate(answers, plan))
    report["how"] = {
        "folds": args.cross_validate,
        "fold_seed": args.fold_seed,
        "shared_signer_groups": 0,
        "settings": asdict(plan.settings),
        "hop_s": args.hop_s,
    }
    return report


def evaluate_model(args: argparse.Namespace) -> dict[str, Any]:
    """A trained head on those of its index's clips that `--split` or `--groups` picks."""
    trained = load_checkpoint(args.model)
    head, card = trained.head, trained.card
    examples = read_recordings(args.index)
    spec = read_spec(args.index)
    if spec.dim != card["encoder"]["dim"] or spec.kind != card["encoder"]["kind"]:
        raise ValueError(f"{args.index}: its encoder is not the one that {args.model} was made for")
    torch.set_num_threads(args.threads)
    test = [e for e in examples if args.split is None or e.split == args.split]
    if args.groups:
        groups = named_groups(args.groups, examples, "--groups")
        test = [e for e in test if e.group in groups]
    glosses = tuple(card["glosses"])
    known = [e for e in scored(test) if e.gloss in glosses]
    if not known:
        raise ValueError("no clip to score: look at --split and --groups")
    plan = Plan(
        examples=test,
        glosses=glosses,
        spec=spec,
        hop_s=card["hop_s"],
        open_set=card["head"]["idle"],
        settings=TrainSettings(),
    )
    answers = [
        Answered(example=e, fold=0, logits=clip_logits(head, e.rows, spec, plan.hop_s))
        for e in test
    ]
    report = _report(answers, plan, card["calibration"]["temperature"])
    report["coverage"] = round(len(known) / max(1, len(scored(test))), 4)
    return report


def _report(answers: Sequence[Answered], plan: Plan, temperature: float) -> dict[str, Any]:
    report: dict[str, Any] = {
        "scores": summary(answers, plan, temperature),
        "calibration": {"temperature": round(temperature, 4), "threshold": 0.5},
    }
    report["live"] = []
    if plan.open_set:
        report["live"] = [rejection(answers, plan, temperature, t) for t in _THRESHOLDS]
        report["calibration"]["threshold"] = calm_threshold(report["live"])
    report["clips"] = [
        {"video": a.example.video, "gloss": a.example.gloss, "fold": a.fold} for a in answers
    ]
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_training_options(parser)
    parser.add_argument("--model", help="a .pt that offline.train wrote")
    parser.add_argument("--split", help="score only clips that the labels put in this split")
    parser.add_argument("--groups", help="score only these signers, with commas between")
    parser.add_argument("--cross-validate", type=int, metavar="FOLDS")
    parser.add_argument("--jobs", type=int, default=1, help="folds trained at the same time")
    parser.add_argument("--report", help="JSON file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
