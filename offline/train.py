"""Train a head on an index of embedded videos.

    python -m offline.train --index data/mine/index.csv

    index.csv + .npy -> [examples] -> split without leaks -> [selection] -> [trainer]
                     -> models/gloss_classifier_<time>.pt and .json

Clips of some signers are kept out to test the head, and of those to train on some are held back to
choose the best epoch by. Beside the head lie its curves (_curve.png, _curve.csv), for clips kept
out a confusion matrix (_confusion.png), and the options and versions of the run (_run.yaml). The
last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.command_line import STOPPED, say, stopped_by_signals, until_interrupted
from models.files import refuse_place
from offline.run_file import read_fields, read_run, write_run
from offline.training.config import (
    DataSettings,
    SplitSettings,
    TrainChoices,
    TrainSettings,
    recipe_table,
)
from offline.training.early_end import how_it_goes_on, out_of_memory

if TYPE_CHECKING:  # torch and scikit-learn come when the command line is right
    from offline.training.selection import Trained, TrainingPlan
    from offline.training.sides import SplitClips


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What is written."""

    data: DataSettings
    sides: SplitSettings = field(default_factory=SplitSettings)
    training: TrainChoices = field(default_factory=TrainChoices)
    card: str | None = None  # JSON file with fields for the card: name, data, licence …
    threshold: float | None = None  # probability from which the live half shows a gloss; None: 0.5
    out: str | None = None  # the .pt to write; None: models/gloss_classifier_<time>.pt
    resume: str | None = None  # file for the state: an interrupted training goes on from it
    tensorboard: str | None = None  # folder for TensorBoard's events
    config: str | None = None  # YAML of options, such as a _run.yaml; the command line goes first

    def __post_init__(self) -> None:
        if self.out is not None and Path(self.out).suffix != ".pt":
            raise ValueError(f"--out must end in .pt, not {self.out}: its card is the .json beside")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 for wrong options, clips that do not allow it, or no memory; 130
    after Ctrl-C or SIGTERM."""
    options = read_run(
        TrainOptions,
        argv,
        prog="python -m offline.train",
        description=f"{__doc__}\nwhat heads are trained with by default:\n\n{recipe_table()}",
    )
    with stopped_by_signals():
        try:
            result = train_head(options)
        except ValueError as exc:
            say(f"train: {exc}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as exc:
            resume = Path(options.resume) if options.resume else None
            say(f"train: {how_it_goes_on(resume, exc)}", file=sys.stderr)
            return STOPPED
        except OSError as exc:
            say(f"train: can't write: {exc}", file=sys.stderr)
            return 2
    print(json.dumps(result))
    return 0


def train_head(options: TrainOptions) -> dict[str, Any]:
    """Train as the options say; write head, card and plots. Returns the last line's object.

    Raises:
        ValueError: the index or an option does not allow it, or memory does not suffice.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the state is in the file `--resume`.
    """
    out = Path(options.out or f"models/gloss_classifier_{datetime.now(UTC):%Y%m%d-%H%M%S}.pt")
    for place in (out, options.resume, f"{options.tensorboard}/x" if options.tensorboard else None):
        if place is not None:
            refuse_place(place)
    base = read_fields(options.card)

    import numpy as np

    from offline.evaluation.crossval import fit_temperature, scorable
    from offline.evaluation.figures import figure_table, figures_of
    from offline.scoring.clip_predictions import clip_logits
    from offline.scoring.outcomes import outcomes_of
    from offline.scoring.takes import background
    from offline.training.chance import chance_warning
    from offline.training.checkpoint import new_card, save_checkpoint
    from offline.training.progress import Progress, draw_confusion, draw_curves, write_curve
    from offline.training.selection import read_plan
    from offline.training.sides import about_clips, split_clips, without_unlearnt

    plan = read_plan(options.data, options.training)
    if not plan.settings.chooses:
        held_back = options.sides.held_back(plan.settings.validation)
        plan = replace(plan, settings=replace(plan.settings, validation=held_back))
    clips = split_clips(plan, options.sides, options.training.validation, options.data.fold_seed)
    plan = without_unlearnt(plan, clips.train)
    glosses, spec, hop_s = plan.glosses, plan.spec, plan.hop_s
    print(
        f"{len(clips.train)} clips to train on, {len(clips.test)} kept out; {len(glosses)} "
        f"glosses; {plan.settings}",
        flush=True,
    )
    progress = Progress(options.tensorboard, options.training.heads)
    trained = _learn(options, plan, clips, progress)
    losses = [loss for fitted in trained.fitted for loss in fitted.losses]

    tested = [
        clip_logits(trained.head, e, 0, spec, hop_s) for e in clips.test if e.gloss in glosses
    ]
    known = scorable(tested, glosses)
    held = [clip_logits(trained.head, e, 0, spec, hop_s) for e in trained.validation]
    metrics: dict[str, Any] = {}
    calibration: dict[str, Any] = {"temperature": 1.0, "threshold": 0.5}
    if known or held:
        calibration["temperature"] = fit_temperature(tested if known else held, plan)
    if options.threshold is not None:
        calibration["threshold"] = options.threshold
    if trained.validation:
        metrics["chosen_from"] = [fitted.candidates for fitted in trained.fitted]
    unseen: tuple[float, list[str]] = (0.0, [])
    if trained.validation:
        best = max(one["held_back_top1"] for one in trained.fitted[0].candidates)
        unseen = best, [e.gloss for e in trained.validation]
    if known:
        outcomes = outcomes_of(known, glosses, spec, hop_s, calibration["temperature"])
        metrics["kept_out"] = figures_of(outcomes)
        if not trained.validation:
            unseen = float((outcomes.ranks == 0).mean()), [clip.gloss for clip in outcomes.clips]
    warning = chance_warning(losses, trained.clips, unseen, options.training, plan.settings)

    about = about_clips(trained.train, trained.validation, clips, known, len(plan.skipped))
    card = new_card(out.stem, spec, hop_s, calibration, base, about, metrics, trained.vocabulary)
    takes = background(trained.head, clips.train, trained.vocabulary, spec, hop_s)
    save_checkpoint(out, [fitted.head for fitted in trained.fitted], card, takes)
    if options.resume:
        Path(options.resume).unlink(missing_ok=True)
    progress.close()
    write_curve(trained.fitted, out.with_name(f"{out.stem}_curve.csv"))
    draw_curves(trained.fitted, trained.vocabulary.classes, out.with_name(f"{out.stem}_curve.png"))
    if known:
        picture = out.with_name(f"{out.stem}_confusion.png")
        draw_confusion(outcomes.labels, outcomes.predicted, glosses, picture)
    run = replace(options, training=_as_choices(options.training, plan.settings))
    files = {"index": options.data.index, "glosses": options.data.glosses, "card": options.card}
    write_run(out.with_name(f"{out.stem}_run.yaml"), run, files)

    print(f"\ntrained: {out}, {len(losses)} steps, loss {np.mean(losses[-20:]):.3f}")
    if trained.validation:
        found = trained.fitted[0]
        print(
            f"  kept as it was after epoch {found.epoch:.0f} of {found.epochs:.0f}, when "
            f"{100 * unseen[0]:.1f} % of {len(unseen[1])} clips held back were right"
        )
    if known:
        print(f"kept out of training: {figure_table(metrics['kept_out'])}")
    if plan.skipped:
        print(f"skipped: {len(plan.skipped)} rows of the index without numbers to learn from")
    sys.stdout.flush()
    if warning:
        say(f"train: {warning}", file=sys.stderr)
    return {
        "model": str(out),
        "clips": len(trained.train),
        "classes": trained.vocabulary.classes,
        "glosses": len(glosses),
        "skipped": len(plan.skipped),
        "loss": round(float(np.mean(losses[-20:])), 4),
        "epoch": round(trained.fitted[0].epoch, 2),
        "epochs": round(trained.fitted[0].epochs, 2),
        "held_back_clips": len(trained.validation),
        "held_back_top1": round(unseen[0], 4) if trained.validation else None,
        "warning": warning,
        "waited_for_rows": round(max(fitted.waited for fitted in trained.fitted), 3),
        "validated": round(max(fitted.validated for fitted in trained.fitted), 3),
        **{f"kept_out_{k}": v for k, v in metrics.get("kept_out", {}).items() if k != "per_gloss"},
    }


def _learn(options: TrainOptions, plan: TrainingPlan, clips: SplitClips, progress: Any) -> Trained:
    """`learn`, with a line of advice where memory does not suffice."""
    from offline.training.selection import learn

    resume = Path(options.resume) if options.resume else None
    try:
        return learn(plan, clips.train, resume, progress, clips.validation)
    except (MemoryError, RuntimeError) as exc:
        if not out_of_memory(exc):
            raise
        settings = plan.settings
        candidates = len(settings.lr) * len(settings.weight_decay)
        fewer = ", try fewer --lr and --weight-decay at once" if candidates > 1 else ""
        elsewhere = ", or --device cpu" if settings.device != "cpu" else ""
        raise ValueError(
            f"out of memory on a batch of {settings.batch}: halve --batch{fewer}{elsewhere}"
        ) from exc


def _as_choices(choices: TrainChoices, settings: TrainSettings) -> TrainChoices:
    """The options with what they left to the head filled in."""
    names = ("head", "batch", "epochs", "least_steps", "lr", "weight_decay", "validation")
    return replace(choices, **{name: getattr(settings, name) for name in names})


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.train"))
