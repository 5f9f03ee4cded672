"""Say how good a head is, on clips whose signers it has not seen, and how sure that is.

    python -m offline.evaluate --index INDEX --cross-validate 5 --report runs/mine
    python -m offline.evaluate --index INDEX --cross-validate 5 --vocabulary 23,32,49
    python -m offline.evaluate --index INDEX --model models/mine.pt --official wlasl/nslt_300.json
    python -m offline.evaluate --compare runs/mine.json runs/other.json

    examples -> answers -> [outcomes] -> [figures], [comparison] -> report.json and report.html

Figures are of whole clips, answered by windows as served. `--report NAME` writes all of them to
NAME.json and, with plots, to one self-contained page NAME.html; the last line of stdout is a
summary as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.schema import EncoderSpec
from offline.data.examples import scored
from offline.data.splits import row_name
from offline.evaluation.comparison import compare_outcomes
from offline.evaluation.crossval import (
    TrainingPlan,
    Validated,
    calibrate,
    calm_threshold,
    cross_validate,
    rejections,
    to_score,
)
from offline.evaluation.examination import examine, plan_outcomes
from offline.evaluation.figures import MEANINGS, details, figures_of
from offline.evaluation.report import (
    comparison_page,
    evaluation_page,
    refuse_place,
    write_report,
    write_text,
)
from offline.evaluation.vocabularies import curve, vocabularies
from offline.options import add_training_options, plan_from
from offline.scoring.clip_predictions import Answered
from offline.scoring.outcomes import Outcomes, clip_rows, read_outcomes

_THRESHOLDS = tuple(percent / 100 for percent in range(30, 72, 2))


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        _checked(args)
        if args.compare:
            report, page = compare_two(args), comparison_page
            last = {key: value for key, value in report.items() if key != "differ"}
        else:
            report = evaluate_model(args) if args.model else evaluate_training(args)
            page = evaluation_page
            last = {key: value for key, value in report["scores"].items() if key != "per_gloss"}
            last["calibration"] = report["calibration"]
        if args.report:
            name = args.report.removesuffix(".json")
            write_report(f"{name}.json", report)
            write_text(f"{name}.html", page(report))
    except ValueError as exc:
        print(f"evaluate: {exc}", file=sys.stderr)
        return 2
    print(json.dumps(last))
    return 0


def evaluate_training(args: argparse.Namespace) -> dict[str, Any]:
    """Grouped cross-validation of the training that the options describe.

    Raises:
        ValueError: the index or an option does not allow it, or copies stand on both sides.
    """
    plan = plan_from(args)
    sizes = vocabularies(args.vocabulary, plan.examples) if args.vocabulary else []
    if args.copies == "allow":
        as_labelled = [replace(e, group=e.signer or e.group) for e in plan.examples]
        plan = replace(plan, examples=as_labelled)

    def validate(plan: TrainingPlan) -> tuple[Validated, float, Outcomes]:
        print(f"{args.cross_validate} folds, {len(plan.glosses)} glosses; {plan.settings}")
        validated = cross_validate(
            plan,
            args.cross_validate,
            args.fold_seed,
            allow_copies=args.copies == "allow",
            jobs=args.jobs,
            progress=lambda line: print(line, flush=True),
        )
        temperature = calibrate(validated.answers, plan)
        return (
            validated,
            temperature,
            plan_outcomes(to_score(validated.answers, plan.glosses), plan, temperature),
        )

    validated, temperature, outcomes = validate(plan)
    report = _report(outcomes, validated.answers, plan, temperature)
    report["how"] = {
        "folds": args.cross_validate,
        "fold_seed": args.fold_seed,
        "shared_signer_groups": 0,
        "copies": args.copies,
        "cards": args.cards,
        "settings": asdict(plan.settings),
        "hop_s": args.hop_s,
    }
    if validated.copies:
        report["copies"] = _copies(validated, outcomes)
    report["vocabulary"] = curve(
        plan, sizes, report["scores"], lambda other: figures_of(validate(other)[2])
    )
    return report


def evaluate_model(args: argparse.Namespace) -> dict[str, Any]:
    """A trained head on those of its index's clips that the options pick.

    Raises:
        ValueError: index and head don't belong together, or there is nothing to score.
    """
    asked = examine(args.model, args)
    outcomes = asked.outcomes
    report = _report(outcomes, asked.answers, asked.plan, asked.temperature)
    report["how"] = {
        "model": Path(args.model).name,
        "split": args.split,
        "groups": args.groups,
        "cards": args.cards,
        "not_kept_out": asked.not_kept_out,
    }
    if asked.not_kept_out:
        print(
            f"evaluate: {asked.not_kept_out} of {len(outcomes)} clips are not among those that "
            "the model's card says were kept out: what was trained on proves nothing",
            file=sys.stderr,
        )
    clips = asked.plan.examples
    report["coverage"] = round(len(outcomes) / len(scored(clips)), 4)
    if asked.official:
        report["official"] = asked.official.coverage(clips, outcomes)
    return report


def compare_two(args: argparse.Namespace) -> dict[str, Any]:
    """Two reports, or heads that are scored first, on the same clips.

    Raises:
        ValueError: one can't be read or scored, or the clips differ.
    """
    a, b = args.compare
    return compare_outcomes(_read_or_score(a, args), _read_or_score(b, args), (a, b))


def _read_or_score(source: str, args: argparse.Namespace) -> Outcomes:
    return read_outcomes(source) if source.endswith(".json") else examine(source, args).outcomes


def _copies(validated: Validated, outcomes: Outcomes) -> dict[str, Any]:
    """Which recordings stood on both sides, and the figures without the clips that did."""
    ids = {theirs.video_id for _, theirs in validated.copies}
    rest = [i for i in range(len(outcomes)) if outcomes.video_ids[i] not in ids]
    pairs = {frozenset((a.video_id, b.video_id)): (a, b) for a, b in validated.copies}
    return {
        "pairs": [[row_name(a), row_name(b)] for a, b in pairs.values()],
        "clips": len(outcomes) - len(rest),
        "scores_without": figures_of(outcomes.take(np.array(rest))) if rest else None,
    }


def _report(
    outcomes: Outcomes, answers: Sequence[Answered], plan: TrainingPlan, temperature: float
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "scores": figures_of(outcomes),
        "calibration": {"temperature": round(temperature, 4), "threshold": 0.5},
        **details(outcomes),
    }
    report["live"] = []
    if plan.open_set:
        report["live"] = rejections(answers, plan, temperature, _THRESHOLDS)
        report["calibration"]["threshold"] = calm_threshold(report["live"])
    report["encoder"] = _named(plan.spec)
    report["glosses"] = list(plan.glosses)
    report["clips"] = clip_rows(outcomes)
    return report


def _named(spec: EncoderSpec) -> str:
    return f"{spec.kind}: {spec.source}" if spec.source else spec.kind


def _checked(args: argparse.Namespace) -> None:
    """Raise ValueError for options that don't go together."""
    ways = [bool(args.compare), bool(args.model), args.cross_validate is not None]
    if sum(ways) != 1:
        raise ValueError("give one of --model, --cross-validate 5 and --compare A B")
    if args.vocabulary and args.cross_validate is None:
        raise ValueError("--vocabulary trains anew for each size: it goes with --cross-validate")
    if args.cross_validate is not None and (args.official or args.split or args.groups):
        raise ValueError("--official, --split and --groups pick clips for a head: give --model")
    if args.cross_validate is not None and not args.index:
        raise ValueError("give --index")
    if args.report:
        refuse_place(args.report)


def _parser() -> argparse.ArgumentParser:
    meanings = "\n".join(
        textwrap.fill(f"{name}: {text}", 98, initial_indent="  ", subsequent_indent="    ")
        for name, text in MEANINGS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m offline.evaluate",
        description=__doc__,
        epilog=f"figures (docs/evaluation.md says more):\n{meanings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_training_options(parser, index_required=False)
    parser.add_argument("--model", help="a .pt that offline.train wrote")
    parser.add_argument("--split", help="score only clips that the labels put in this split")
    parser.add_argument("--groups", help="score only these signers, with commas between")
    parser.add_argument(
        "--official",
        metavar="FILE",
        help="score the instances of --split (test) of this labels file, such as nslt_300.json, "
        "and say how many were at hand",
    )
    parser.add_argument("--cross-validate", type=int, metavar="FOLDS")
    parser.add_argument(
        "--vocabulary",
        metavar="SIZES",
        help="the curve of accuracy: 23,32,49 for so many glosses, those with the most clips "
        "first; 5+,4+,3+ for all with so many clips",
    )
    parser.add_argument(
        "--copies",
        choices=("refuse", "allow"),
        default="refuse",
        help="allow: signers stay as labelled, and what stands on both sides of a fold under two "
        "ids is named, with the figures without it; else those who share a recording are one group",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two reports (.json) of this command, or heads (.pt) to score first; same clips",
    )
    parser.add_argument("--jobs", type=int, default=1, help="folds trained at the same time")
    parser.add_argument("--report", metavar="NAME", help="writes NAME.json and NAME.html")
    return parser


if __name__ == "__main__":
    sys.exit(main())
