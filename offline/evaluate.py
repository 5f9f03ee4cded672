"""Measure how good a head is on clips of signers it was not trained on, and how certain that is.

    python -m offline.evaluate --index INDEX --cross-validate 5 --report runs/mine
    python -m offline.evaluate --index INDEX --cross-validate 5 --vocabulary 23,32,49
    python -m offline.evaluate --index INDEX --model models/mine.pt --official wlasl/nslt_300.json
    python -m offline.evaluate --compare runs/mine.json runs/other.json

    clips -> predictions -> [outcomes] -> [figures], [comparison] -> report.json and report.html

Figures are of whole clips, predicted by windows as they are served. The last line of stdout is a
summary as JSON.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models.command_line import read_command_line
from offline.evaluation import MEANINGS
from offline.training.config import DataSettings, TrainSettings

if TYPE_CHECKING:  # torch and matplotlib come when the command line is right
    from offline.data.examples import Example
    from offline.evaluation.crossval import CrossValidation
    from offline.evaluation.trained_head import HeadScores
    from offline.scoring.clip_predictions import ClipLogits
    from offline.scoring.outcomes import Outcomes
    from offline.training.selection import TrainingPlan

_THRESHOLDS = tuple(percent / 100 for percent in range(30, 72, 2))
_FIGURES = "\n".join(
    textwrap.fill(f"{name}: {text}", 98, initial_indent="  ", subsequent_indent="    ")
    for name, text in MEANINGS.items()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedData(DataSettings):
    """Clips and glosses."""

    index: str = ""  # index.csv that offline.encode wrote; not for --compare of two reports


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """What is evaluated."""

    data: EvaluatedData = field(default_factory=EvaluatedData)
    training: TrainSettings = field(default_factory=TrainSettings)
    model: str | None = None  # a .pt that offline.train wrote
    split: str | None = None  # score only clips that the labels put in this split
    groups: str | None = None  # score only these signers, separated by commas
    official: str | None = None
    """score the instances of --split (test) of this labels file, such as nslt_300.json, and report
    how many were available"""
    cross_validate: int | None = None  # train and test on so many folds of signers
    vocabulary: str | None = None
    """accuracy against vocabulary size: 23,32,49 for so many glosses, those with the most clips
    first; 5+,4+,3+ for all with so many clips"""
    duplicates: Literal["refuse", "allow"] = "refuse"
    """allow: signers stay as labelled, and recordings on both sides of a fold under two ids are
    listed, with the figures without them; refuse: signers who share a recording are one group"""
    compare: tuple[str, str] | None = None
    """two reports (.json) of this command, or heads (.pt) to score first; same clips"""
    jobs: int = 1  # folds trained at the same time
    report: str | None = None  # NAME: write NAME.json and NAME.html

    def __post_init__(self) -> None:
        validate = self.cross_validate is not None
        if [bool(self.compare), bool(self.model), validate].count(True) != 1:
            raise ValueError("give one of --model, --cross-validate 5 and --compare A B")
        if self.vocabulary and not validate:
            raise ValueError("--vocabulary trains each size anew: it goes with --cross-validate")
        if validate and (self.official or self.split or self.groups):
            raise ValueError(
                "--official, --split and --groups choose clips for a head: give --model"
            )
        if validate and not self.data.index:
            raise ValueError("give --index")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 for wrong options, or clips that do not allow it."""
    options = read_command_line(
        EvaluateOptions,
        argv,
        prog="python -m offline.evaluate",
        description=f"{__doc__}\nfigures (docs/evaluation.md says more):\n\n{_FIGURES}",
    )
    from offline.evaluation.report import (
        comparison_page,
        evaluation_page,
        refuse_place,
        write_report,
        write_text,
    )

    try:
        if options.report:
            refuse_place(options.report)
        if options.compare:
            report, page = compare_two(options, options.compare), comparison_page
            last = {key: value for key, value in report.items() if key != "differ"}
        else:
            report = evaluate_head(options) if options.model else evaluate_training(options)
            page = evaluation_page
            last = {key: value for key, value in report["scores"].items() if key != "per_gloss"}
            last["calibration"] = report["calibration"]
        if options.report:
            name = options.report.removesuffix(".json")
            write_report(f"{name}.json", report)
            write_text(f"{name}.html", page(report))
    except ValueError as exc:
        print(f"evaluate: {exc}", file=sys.stderr)
        return 2
    print(json.dumps(last))
    return 0


def compare_two(options: EvaluateOptions, sources: tuple[str, str]) -> dict[str, Any]:
    """Compare two reports, or heads that are scored first, on the same clips.

    Raises:
        ValueError: one cannot be read or scored, or the clips differ.
    """
    from offline.evaluation.comparison import compare_outcomes
    from offline.scoring.outcomes import read_outcomes

    a, b = (
        read_outcomes(source) if source.endswith(".json") else _score(options, source).outcomes
        for source in sources
    )
    return compare_outcomes(a, b, sources)


def evaluate_head(options: EvaluateOptions) -> dict[str, Any]:
    """Score the head `--model` on those clips of the index that the options choose.

    Raises:
        ValueError: index and head do not belong together, or there is nothing to score.
    """
    from offline.data.examples import scored

    assert options.model is not None
    found = _score(options, options.model)
    report = _report(found.outcomes, found.clips, found.plan, found.temperature)
    report["how"] = {
        "model": Path(options.model).name,
        "split": options.split,
        "groups": options.groups,
        "cards": options.data.cards,
        "not_kept_out": found.not_kept_out,
    }
    if found.not_kept_out:
        print(
            f"evaluate: {found.not_kept_out} of {len(found.outcomes)} clips are not among those "
            "that the model's card lists as kept out: figures on clips that were trained on mean "
            "nothing",
            file=sys.stderr,
        )
    clips = found.plan.examples
    report["coverage"] = round(len(found.outcomes) / len(scored(clips)), 4)
    if found.official:
        report["official"] = found.official.coverage(clips, found.outcomes)
    return report


def _score(options: EvaluateOptions, model: str) -> HeadScores:
    from offline.evaluation.trained_head import score_head

    chosen = {"split": options.split, "groups": options.groups, "official": options.official}
    return score_head(model, options.data, **chosen)


def evaluate_training(options: EvaluateOptions) -> dict[str, Any]:
    """Cross-validate the training that the options describe, by signer group.

    Raises:
        ValueError: the index or an option does not allow it, or duplicates are on both sides.
    """
    from offline.evaluation.crossval import cross_validate, fit_temperature, scorable
    from offline.evaluation.figures import figures_of
    from offline.scoring.outcomes import outcomes_of
    from offline.training.selection import read_plan

    plan = read_plan(options.data, options.training)
    sizes = vocabularies(options.vocabulary, plan.examples) if options.vocabulary else []
    folds, allow = options.cross_validate or 0, options.duplicates == "allow"
    if allow:
        as_labelled = [replace(e, group=e.signer or e.group) for e in plan.examples]
        plan = replace(plan, examples=as_labelled)

    def validate(plan: TrainingPlan) -> tuple[CrossValidation, float, Outcomes]:
        print(f"{folds} folds, {len(plan.glosses)} glosses; {plan.settings}")
        validation = cross_validate(
            plan,
            folds,
            options.data.fold_seed,
            allow_duplicates=allow,
            jobs=options.jobs,
            progress=lambda line: print(line, flush=True),
        )
        temperature = fit_temperature(validation.clips, plan)
        fair = scorable(validation.clips, plan.glosses)
        outcomes = outcomes_of(fair, plan.glosses, plan.spec, plan.hop_s, temperature)
        return validation, temperature, outcomes

    validation, temperature, outcomes = validate(plan)
    report = _report(outcomes, validation.clips, plan, temperature)
    report["how"] = {
        "folds": folds,
        "fold_seed": options.data.fold_seed,
        "shared_signer_groups": 0,
        "duplicates": options.duplicates,
        "cards": options.data.cards,
        "settings": asdict(plan.settings),
        "hop_s": plan.hop_s,
    }
    if validation.duplicates:
        report["duplicates"] = _duplicates(validation, outcomes)
    report["vocabulary"] = vocabulary_curve(
        plan, sizes, report["scores"], lambda other: figures_of(validate(other)[2])
    )
    return report


def _report(
    outcomes: Outcomes, clips: Sequence[ClipLogits], plan: TrainingPlan, temperature: float
) -> dict[str, Any]:
    from offline.evaluation.crossval import choose_threshold, live_figures
    from offline.evaluation.figures import details, figures_of
    from offline.scoring.outcomes import clip_rows

    live = live_figures(clips, plan, temperature, _THRESHOLDS) if plan.open_set else []
    threshold = choose_threshold(live) if live else 0.5
    spec = plan.spec
    return {
        "scores": figures_of(outcomes),
        "calibration": {"temperature": round(temperature, 4), "threshold": threshold},
        **details(outcomes),
        "live": live,
        "encoder": f"{spec.kind}: {spec.source}" if spec.source else spec.kind,
        "glosses": list(plan.glosses),
        "clips": clip_rows(outcomes),
    }


def _duplicates(validation: CrossValidation, outcomes: Outcomes) -> dict[str, Any]:
    """The recordings on both sides of a fold, and the figures without the clips of them."""
    from offline.data.splits import row_name
    from offline.evaluation.figures import figures_of

    ids = {tested.video_id for _, tested in validation.duplicates}
    rest = tuple(clip for clip in outcomes.clips if clip.video_id not in ids)
    pairs = {frozenset((a.video_id, b.video_id)): (a, b) for a, b in validation.duplicates}
    return {
        "pairs": [[row_name(a), row_name(b)] for a, b in pairs.values()],
        "clips": len(outcomes) - len(rest),
        "scores_without": figures_of(replace(outcomes, clips=rest)) if rest else None,
    }


def vocabularies(text: str, examples: Sequence[Example]) -> list[tuple[str, ...]]:
    """The vocabularies of a list such as `23,32,49` or `5+,4+,3+`, smallest first.

    `23`: the 23 glosses with the most clips to score, equal ones by name; `5+`: all glosses with
    at least five. So each vocabulary holds the smaller ones.

    Raises:
        ValueError: an item is none of these, or there are not so many glosses.
    """
    from offline.data.examples import clips_of, common_glosses

    counts = clips_of(examples)
    order = sorted(counts, key=lambda gloss: (-counts[gloss], gloss))
    found = set()
    for item in (item.strip() for item in text.split(",")):
        number = item.removesuffix("+")
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f"--vocabulary: {item!r} is neither a size (23) nor clips (5+)")
        if item.endswith("+"):
            found.add(common_glosses(examples, int(number)))
        elif int(number) > len(order):
            raise ValueError(f"--vocabulary {number}: only {len(order)} glosses can be scored")
        else:
            found.add(tuple(sorted(order[: int(number)])))
    return sorted(found, key=len)


def vocabulary_curve(
    plan: TrainingPlan,
    sizes: Sequence[tuple[str, ...]],
    known: dict[str, Any],
    evaluate: Callable[[TrainingPlan], dict[str, Any]],
) -> list[dict[str, Any]]:
    """One object a vocabulary: its size, the clips of its rarest gloss, and its figures.

    `known` are the figures of the plan's own vocabulary. Each other one is trained and tested by
    `evaluate`, with folds of its own, as it would be served.
    """
    from offline.data.examples import scored
    from offline.evaluation.figures import TOPS

    counts = Counter(e.gloss for e in scored(plan.examples))
    points = []
    for glosses in sizes:
        same = set(glosses) == set(plan.glosses)
        scores = known if same else evaluate(replace(plan, glosses=glosses))
        tops = [f"top{top}" for top in TOPS if f"top{top}" in scores]
        points.append(
            {
                "glosses": len(glosses),
                "least_clips": min(counts[gloss] for gloss in glosses),
                "clips": scores["clips"],
                "chance": round(1 / len(glosses), 4),
                **{key: scores[key] for top in tops for key in (top, f"{top}_interval95")},
            }
        )
    return points


if __name__ == "__main__":
    sys.exit(main())
