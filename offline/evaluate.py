"""Measure how good a head is on clips of signers it was not trained on, and how certain that is.

    python -m offline.evaluate --index INDEX --cross-validate 5 --report runs/mine
    python -m offline.evaluate --index INDEX --cross-validate 5 --vocabulary 23,32,49
    python -m offline.evaluate --index INDEX --model models/mine.pt --report runs/mine
    python -m offline.evaluate --index INDEX --fold-heads fold0.pt fold1.pt --report runs/mine
    python -m offline.evaluate --index INDEX --model models/mine.pt --official wlasl/nslt_300.json
    python -m offline.evaluate --compare runs/mine.json runs/other.json

    clips -> predictions -> [outcomes] -> [figures], [comparison] -> report.json and report.html,
                                          [tables] -> predictions, confusions and glosses as CSV

With --model the clips are those that the head's card lists as kept out of training, unless --split,
--groups or --official say which. With --glosses heads are scored as if they knew only these.
Figures are of whole clips, predicted by windows as they are served; of heads that were trained with
--open-set also of the signs that the decoder makes of clips and of made-up sentences. The last line
of stdout is a summary as JSON.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from models.command_line import STOPPED, say, several, stopped_by_signals, until_interrupted
from models.files import refuse_place
from offline.evaluation import MEANINGS, SignSettings
from offline.run_file import read_run, write_run
from offline.training.config import DataSettings, TrainChoices, recipe_table

if TYPE_CHECKING:  # torch comes when the command line is right
    from offline.evaluation.trained_head import HeadScores
    from offline.scoring.outcomes import Outcomes

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
    training: TrainChoices = field(default_factory=TrainChoices)
    signs: SignSettings = field(default_factory=SignSettings)
    model: str | None = None  # a .pt that offline.train wrote
    split: str | None = None  # score the clips that the labels put in this split
    groups: str | None = None  # score the clips of these signers, separated by commas
    official: str | None = None
    """score the instances of --split (test) of this labels file, such as nslt_300.json, and report
    how many were available"""
    cross_validate: int | None = None  # train and test on so many folds of signers
    fold_heads: Annotated[tuple[str, ...], several("FILE", str, str)] = ()
    """heads (.pt), one a fold, trained already: each is tested on the signers that it held out"""
    vocabulary: str | None = None
    """accuracy against vocabulary size: 23,32,49 for so many glosses, those with the most clips
    first; 5+,4+,3+ for all with so many clips"""
    duplicates: Literal["refuse", "allow"] = "refuse"
    """allow: signers stay as labelled, and recordings on both sides of a fold under two ids are
    listed, with the figures without them; refuse: signers who share a recording are one group"""
    compare: tuple[str, str] | None = None
    """two reports (.json) of this command, or heads (.pt) to score first; same clips"""
    jobs: int = 1  # folds trained or tested at the same time
    report: str | None = None
    """NAME: write NAME.json and NAME.html, NAME_predictions.csv, NAME_confusion.csv,
    NAME_per_gloss.csv and NAME_run.yaml"""
    config: str | None = None  # YAML of options, such as a _run.yaml; the command line goes first

    def __post_init__(self) -> None:
        validate = self.cross_validate is not None
        ways = [bool(self.compare), bool(self.model), bool(self.fold_heads), validate]
        if ways.count(True) != 1:
            raise ValueError(
                "give one of --model, --cross-validate 5, --fold-heads A B and --compare A B"
            )
        if len(self.fold_heads) == 1:
            raise ValueError(
                "--fold-heads: give one head a fold, at least two; a single one to --model"
            )
        if self.vocabulary and not validate:
            raise ValueError("--vocabulary trains each size anew: it goes with --cross-validate")
        if not self.model and not self.compare and (self.official or self.split or self.groups):
            raise ValueError(
                "--official, --split and --groups choose clips for a head: give --model"
            )
        if validate and not self.data.index:
            raise ValueError("give --index")

    def score(self, head: str) -> HeadScores:
        """The scores of a head on the clips that the options choose."""
        from offline.evaluation.trained_head import score_head

        return score_head(head, self.data, self.signs, self.split, self.groups, self.official)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 for wrong options, or clips that do not allow it; 130 after Ctrl-C
    or SIGTERM."""
    options = read_run(
        EvaluateOptions,
        argv,
        prog="python -m offline.evaluate",
        description=f"{__doc__}\nwhat heads are trained with by default:\n\n{recipe_table()}\n\n"
        f"figures (docs/reference/evaluation.md says more):\n\n{_FIGURES}",
    )
    with stopped_by_signals():
        try:
            last = _evaluate(options)
        except ValueError as exc:
            say(f"evaluate: {exc}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            say("evaluate: interrupted; nothing is kept", file=sys.stderr)
            return STOPPED
    print(json.dumps(last))
    return 0


def _evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Evaluate as the options say, and write the report. Returns the last line's object.

    Raises:
        ValueError: an option, a head or the clips do not allow it.
    """
    name = (options.report or "").removesuffix(".json")
    for suffix in (".json", ".html") if name else ():
        refuse_place(f"{name}{suffix}")
    from offline.evaluation.figures import figure_table
    from offline.evaluation.report import (
        comparison_page,
        evaluation_page,
        write_report,
        write_text,
    )

    if options.compare:
        report, page, outcomes = _compare(options, options.compare), comparison_page, None
        last = {key: value for key, value in report.items() if key != "differ"}
    else:
        if options.model:
            report, outcomes = _score_head(options)
        elif options.fold_heads:
            report, outcomes = _score_folds(options)
        else:
            report, outcomes = _cross_validate(options)
        page = evaluation_page
        last = {key: value for key, value in report["scores"].items() if key != "per_gloss"}
        last |= {k: report[k] for k in ("calibration", "decoder", "sentences") if k in report}
        print(f"\n{figure_table(report['scores'])}", flush=True)
    if name:
        from offline.evaluation.tables import write_tables

        write_report(f"{name}.json", report)
        write_text(f"{name}.html", page(report))
        if outcomes is not None:
            write_tables(name, outcomes)
        files = {"index": options.data.index, "glosses": options.data.glosses,
                 "model": options.model, "official": options.official}  # fmt: skip
        write_run(Path(f"{name}_run.yaml"), options, files)
    return last


def _compare(options: EvaluateOptions, sources: tuple[str, str]) -> dict[str, Any]:
    """Two reports, or heads that are scored first, on the same clips."""
    from offline.evaluation.comparison import compare_outcomes
    from offline.scoring.outcomes import read_outcomes

    a, b = (
        read_outcomes(source) if source.endswith(".json") else options.score(source).found.outcomes
        for source in sources
    )
    return compare_outcomes(a, b, sources)


def _score_head(options: EvaluateOptions) -> tuple[dict[str, Any], Outcomes]:
    """The report of the head `--model` on those clips of the index that the options choose."""
    scores = options.score(options.model or "")
    if scores.not_kept_out:
        print(
            f"evaluate: {scores.not_kept_out} of {len(scores.found.outcomes)} clips are not "
            "among those that the model's card lists as kept out: figures on clips that were "
            "trained on mean nothing",
            file=sys.stderr,
        )
    how = {
        "model": Path(options.model or "").name,
        "split": options.split,
        "groups": options.groups,
        "cards": options.data.cards,
        "not_kept_out": scores.not_kept_out,
    }
    return {**scores.report(), "how": how}, scores.found.outcomes


def _score_folds(options: EvaluateOptions) -> tuple[dict[str, Any], Outcomes]:
    """The report of heads that are trained already, each on the signers that it held out."""
    from offline.evaluation.trained_head import score_folds

    heads = options.fold_heads
    found = score_folds(heads, options.data, options.signs, options.jobs)
    how = {
        "heads": [Path(head).name for head in heads],
        "folds": len(heads),
        "cards": options.data.cards,
    }
    return {**found.report(), "how": how}, found.outcomes


def _cross_validate(options: EvaluateOptions) -> tuple[dict[str, Any], Outcomes]:
    """The report of the training that the options describe, cross-validated by signer group."""
    from offline.evaluation.crossval import cross_validation_report
    from offline.training.selection import read_plan

    plan = read_plan(options.data, options.training)
    folds, seed = options.cross_validate or 0, options.data.fold_seed
    allow = options.duplicates == "allow"
    report, outcomes = cross_validation_report(
        plan, folds, seed, allow, options.jobs, options.vocabulary, options.signs
    )
    how = {
        "folds": folds,
        "fold_seed": seed,
        "shared_signer_groups": 0,
        "duplicates": options.duplicates,
        "cards": options.data.cards,
        "skipped": len(plan.skipped),
        "settings": asdict(plan.settings),
        "hop_s": plan.hop_s,
    }
    return {**report, "how": how}, outcomes


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.evaluate"))
