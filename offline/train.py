"""Train a head on an index of embedded videos.

    python -m offline.train --index embeddings/index.csv --batch 32 --epochs 10 --lr 1e-4

    index.csv + .npy -> [examples] -> split without leaks -> [selection] -> [trainer]
                     -> models/gloss_classifier_<time>.pt and .json

Beside the head it writes its loss curve and, for clips kept out, a confusion matrix as PNG. The
last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models.command_line import read_command_line, say
from models.few_shot import IDLE
from offline.training.config import DataSettings, TrainSettings

if TYPE_CHECKING:  # torch and scikit-learn come when the command line is right
    from offline.data.examples import Example
    from offline.scoring.clip_predictions import ClipLogits
    from offline.training.selection import TrainingPlan

_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Which clips test, and what is written."""

    data: DataSettings
    training: TrainSettings = field(default_factory=TrainSettings)
    split: Literal["official", "grouped", "none"] = "grouped"
    """official: the labels' own; grouped: keep one fold of signers out; none: train on all"""
    fold: int = 0  # which of five folds --split grouped keeps out
    hold_out_groups: str | None = None  # signers to keep out, separated by commas
    leave_out: str | None = None  # signers neither to train nor to test on
    duplicates: Literal["refuse", "leave-out", "allow"] = "refuse"
    """of kept-out videos among those to train on, under another id"""
    card: str | None = None  # JSON file with fields for the card: name, data, licence …
    threshold: float | None = None  # probability from which the live half shows a gloss
    out: str | None = None  # the .pt to write
    resume: str | None = None  # file for the state: an interrupted training goes on from it
    tensorboard: str | None = None  # folder for TensorBoard's events

    def __post_init__(self) -> None:
        if not 0 <= self.fold < _FOLDS:
            raise ValueError(f"--fold must be 0 to {_FOLDS - 1}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 for wrong options, clips that do not allow it, or no memory."""
    options = read_command_line(
        TrainOptions, argv, prog="python -m offline.train", description=__doc__
    )
    try:
        result = train_head(options)
    except ValueError as exc:
        say(f"train: {exc}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as exc:
        if not _out_of_memory(exc):
            raise
        print(
            f"train: out of memory on a batch of {options.training.batch}: halve --batch, try "
            "fewer --lr and --weight-decay at once, or --device cpu",
            file=sys.stderr,
        )
        return 2
    print(json.dumps(result))
    return 0


def train_head(options: TrainOptions) -> dict[str, Any]:
    """Train as the options say; write head, card and plots. Returns the last line's object.

    Raises:
        ValueError: the index or an option does not allow it.
    """
    import numpy as np
    import torch

    from models.card import spec_as_card
    from offline.evaluation.crossval import fit_temperature, scorable
    from offline.evaluation.figures import figures_of
    from offline.scoring.clip_predictions import clip_logits
    from offline.scoring.outcomes import outcomes_of
    from offline.scoring.takes import background
    from offline.training.checkpoint import save_checkpoint
    from offline.training.progress import Progress, draw_confusion, draw_loss
    from offline.training.selection import learn, read_plan

    base = _read_json(options.card)
    plan = read_plan(options.data, options.training)
    glosses, spec, hop_s = plan.glosses, plan.spec, plan.hop_s
    train, test, left_out = _split(options, plan)
    print(
        f"{len(train)} clips to train on, {len(test)} kept out; {len(glosses)} glosses; "
        f"{plan.settings}",
        flush=True,
    )
    resume = Path(options.resume) if options.resume else None
    progress = Progress(options.tensorboard)
    trained = learn(plan, train, resume, progress)
    losses = [loss for fitted in trained.fitted for loss in fitted.losses]

    tested = [clip_logits(trained.head, e, 0, spec, hop_s) for e in test if e.gloss in glosses]
    known = scorable(tested, glosses)
    metrics: dict[str, Any] = {}
    calibration: dict[str, Any] = {"temperature": 1.0, "threshold": 0.5}
    if known:
        calibration["temperature"] = fit_temperature(tested, plan)
    if options.threshold is not None:
        calibration["threshold"] = options.threshold
    if plan.settings.chooses:
        metrics["chosen_from"] = [fitted.candidates for fitted in trained.fitted]
    if known:
        outcomes = outcomes_of(known, glosses, spec, hop_s, calibration["temperature"])
        metrics["kept_out"] = figures_of(outcomes)

    out = Path(options.out or f"models/gloss_classifier_{datetime.now(UTC):%Y%m%d-%H%M%S}.pt")
    card = {
        "name": out.stem,
        "encoder": spec_as_card(spec),
        "window_s": spec.window_s,
        "hop_s": hop_s,
        "calibration": calibration,
        "licence": "not stated",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **base,
        "data": {**base.get("data", {}), **_about(train, [*test, *left_out], known)},
        "metrics": metrics,
        "glosses": list(glosses),
        "classes": trained.vocabulary.classes,
    }
    takes = background(trained.head, train, trained.vocabulary, spec, hop_s)
    save_checkpoint(out, [fitted.head for fitted in trained.fitted], card, takes)
    for i in range(plan.settings.heads if resume else 0):
        Path(f"{resume}.{i}").unlink(missing_ok=True)
    draw_loss(losses, out.with_name(f"{out.stem}_loss.png"))
    if known:
        picture = out.with_name(f"{out.stem}_confusion.png")
        draw_confusion(outcomes.labels, outcomes.predicted, glosses, picture)
    return {
        "model": str(out),
        "clips": len(train),
        "classes": trained.vocabulary.classes,
        "glosses": len(glosses),
        "loss": round(float(np.mean(losses[-20:])), 4),
        "waited_for_rows": round(max(fitted.waited for fitted in trained.fitted), 3),
        **{f"kept_out_{k}": v for k, v in metrics.get("kept_out", {}).items() if k != "per_gloss"},
    }


def _split(
    options: TrainOptions, plan: TrainingPlan
) -> tuple[list[Example], list[Example], list[Example]]:
    """The clips to train on, those kept out for testing, and those of `--leave-out`.

    Raises:
        ValueError: something is in both train and test.
    """
    from offline.data.splits import refuse_leaks
    from offline.evaluation.crossval import fold_of_groups, split_fold
    from offline.training.selection import named_groups

    unused = named_groups(options.leave_out, plan.examples, "--leave-out")
    left_out = [e for e in plan.examples if e.group in unused]
    examples = plan.examples
    if options.hold_out_groups:
        groups = named_groups(options.hold_out_groups, examples, "--hold-out-groups")
        train = [e for e in examples if e.group not in groups]
        test = [e for e in examples if e.group in groups]
    elif options.split == "none":
        train, test = list(examples), []
    elif options.split == "official":
        train = [e for e in examples if e.split in ("train", "extra")]
        test = [e for e in examples if e.split in ("val", "test")]
    else:
        folds = fold_of_groups(examples, plan.glosses, _FOLDS, options.data.fold_seed)
        train, test = split_fold(examples, folds, options.fold)
    train = [e for e in train if e.group not in unused]
    test = [e for e in test if e.group not in unused]
    if test and options.duplicates == "leave-out":
        recordings = {e.recording for e in test}
        kept = [e for e in train if not e.duplicate_of or e.duplicate_of not in recordings]
        print(f"{len(train) - len(kept)} clips left out: they are duplicates of kept-out clips")
        train = kept
    if test:
        grouped = options.split != "official" or options.hold_out_groups is not None
        refuse_leaks(train, test, grouped=grouped, duplicates=options.duplicates != "allow")
    return train, test, left_out


def _about(
    train: Sequence[Example], held_out: Sequence[Example], tested: Sequence[ClipLogits]
) -> dict[str, Any]:
    """The card's fields about the people and clips in the data."""
    return {
        "clips": len(train),
        "clips_without_signing": sum(e.gloss == IDLE for e in train),
        "signer_groups": len({e.group for e in train if e.gloss != IDLE}),
        "held_out_groups": sorted({e.signer for e in held_out}),
        "held_out_clips": [
            {"video": clip.example.video, "gloss": clip.example.gloss}
            for clip in sorted(tested, key=lambda c: (c.example.gloss, c.example.video_id))
        ],
    }


def _read_json(path: str | None) -> dict[str, Any]:
    """The object in a JSON file; an empty one without a path."""
    if path is None:
        return {}
    try:
        value: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise ValueError(f"{path}: no JSON to read: {exc}") from exc
    return value


def _out_of_memory(exc: BaseException) -> bool:
    """True for the errors of NumPy, of torch on a GPU, and on a CPU, known by its text."""
    import torch

    return isinstance(exc, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(
        exc
    )


if __name__ == "__main__":
    sys.exit(main())
