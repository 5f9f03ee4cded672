"""Fine-tune V-JEPA 2: its last blocks, or low-rank updates, learn together with a head.

    python -m offline.finetune --index data/mine/index.csv --unfreeze 4 --out models/tuned.pt
    torchrun --nproc-per-node 4 -m offline.finetune …            (a GPU each)

    index.csv -> its videos -> [finetuning] -> models/tuned.pt, .json and models/tuned-encoder/

The index is one of `offline.encode`: it names videos, glosses and signers, and the encoder, which
`--encoder` may replace. Videos are decoded again, and changed each time that they are drawn. The
result is exported and served as any other: `offline.export --model models/tuned.pt --with-encoder`.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from models.command_line import read_command_line, say
from offline.finetuning.config import ChangeSettings, FinetuneSettings
from offline.training.config import DataSettings

if TYPE_CHECKING:  # torch and scikit-learn come when the command line is right
    from models.heads import Head
    from offline.data.examples import Example, Vocabulary
    from offline.finetuning.processes import Processes
    from offline.training.selection import TrainingPlan

_FOLDS = 5
_STATE_S = 300.0  # the state is kept at each epoch's end, and so often in a long one


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneOptions:
    """Which clips test, and what is written."""

    data: DataSettings
    tuning: FinetuneSettings = field(default_factory=FinetuneSettings)
    changes: ChangeSettings = field(default_factory=ChangeSettings)
    encoder: str | None = None  # vjepa2:SOURCE or vjepa2-tokens:SOURCE; None: the index's
    start: Path | None = None  # head to begin with: the .pt of offline.train, of the same glosses
    split: Literal["official", "grouped", "none"] = "grouped"
    """official: the labels' own; grouped: keep one fold of signers out; none: train on all"""
    fold: int = 0  # which of five folds --split grouped keeps out
    hold_out_groups: str | None = None  # signers to keep out, separated by commas
    duplicates: Literal["refuse", "leave-out", "allow"] = "refuse"
    """of kept-out videos among those to train on, under another id"""
    out: Path = Path("models/finetuned.pt")  # the head to write; the encoder stands beside it
    resume: Path | None = None  # file for the state: an interrupted training goes on from it
    tensorboard: str | None = None  # folder for TensorBoard's events

    def __post_init__(self) -> None:
        if not 0 <= self.fold < _FOLDS:
            raise ValueError(f"--fold must be 0 to {_FOLDS - 1}")
        if self.out.suffix != ".pt":
            raise ValueError(f"--out {self.out}: must end in .pt")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 for wrong options, clips that do not allow it, or no memory."""
    options = read_command_line(
        FinetuneOptions, argv, prog="python -m offline.finetune", description=__doc__
    )
    began = time.monotonic()
    try:
        from offline.finetuning.processes import joined  # torch

        with joined(options.tuning.device) as processes:
            result = finetune(options, processes)
            if processes.first:
                print(json.dumps({**result, "seconds": round(time.monotonic() - began, 1)}))
        return 0
    except KeyboardInterrupt:
        kept = f"the same command goes on from {options.resume}"
        say(
            f"finetune: stopped; {kept if options.resume else 'nothing is kept without --resume'}",
            file=sys.stderr,
        )
        return 130
    except (ValueError, OSError) as exc:
        say(f"finetune: {exc}", file=sys.stderr)
    except (MemoryError, RuntimeError) as exc:
        if not _out_of_memory(exc):
            raise
        advice = (
            f"--accumulate {2 * options.tuning.accumulate}, --checkpointing or a smaller --batch"
        )
        say(f"finetune: out of memory: give {advice}", file=sys.stderr)
    return 2


def finetune(options: FinetuneOptions, processes: Processes) -> dict[str, Any]:
    """Train as the options say; the first process writes encoder, head, card and plots.

    Returns:
        The last line's object.

    Raises:
        ValueError: the index or an option does not allow it, or the state is another training's.
        OSError: the checkpoint is not there, or the disk is full.
    """
    import torch

    from models.vjepa2.checkpoint import load_weights
    from offline.data.examples import vocabulary
    from offline.finetuning.cost import step_cost
    from offline.finetuning.drawing import Drawing, KeptVideos, find_problems
    from offline.finetuning.loop import tune
    from offline.finetuning.result import encoder_stem, show_result, write_result
    from offline.finetuning.scoring import Scorer
    from offline.finetuning.tuned_model import TunedModel
    from offline.training.batches import batches_of
    from offline.training.config import TrainSettings
    from offline.training.progress import Progress
    from offline.training.selection import adjust_logits, hold_back
    from offline.training.trainer import Resume, Score

    settings, first = options.tuning, processes.first
    if settings.precision is None and processes.device.type == "cuda":
        settings = replace(settings, precision="bfloat16")
    if settings.batch % (settings.accumulate * processes.world):
        raise ValueError(
            f"--batch {settings.batch} is no multiple of --accumulate {settings.accumulate} times "
            f"{processes.world} processes"
        )
    for place in (stem := encoder_stem(options.out), stem.with_name(f"{stem.name}.pt")):
        if place.exists():
            raise ValueError(f"{place}: is there already; give another --out")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plan = _plan(options)
    torch.set_num_threads(plan.threads)
    train, test = _split(options, plan)
    encoder = load_weights(plan.spec, torch.float32)
    paths = {e.video_id: e.path or Path() for e in (*train, *test)}
    clips = KeptVideos(
        list(paths.values()), plan.spec, encoder.video_size[-1], settings.memory_gb * 1e9
    )
    problems = find_problems(clips, len(train), settings.workers, processes)
    broken = {video_id: why for video_id, why in zip(paths, problems, strict=True) if why}
    for why in broken.values() if first else ():
        say(f"skipped: {why}", file=sys.stderr)
    train, test = ([e for e in some if e.video_id not in broken] for some in (train, test))
    held: list[Example] = []
    if settings.keep == "best":
        train, held = hold_back(train, plan.glosses, settings.seed)
    classes = vocabulary(train, plan.glosses, plan.open_set)
    train = [e for e in train if classes.label(e.gloss) is not None]
    if not train:
        raise ValueError("no clip to train on")

    torch.manual_seed(settings.seed)
    head = _head(options, plan, classes)
    model = TunedModel(encoder, head, pooled=plan.spec.kind == "vjepa2")
    model.unfreeze(settings)
    model.to(processes.device)
    learning = sum(p.numel() for p in model.learning().values())
    if first:
        print(
            f"{len(train)} clips to train on, {len(held)} to choose by, {len(test)} kept out, "
            f"{len(broken)} skipped; {len(plan.glosses)} glosses; {learning / 1e6:.2f} of "
            f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters learn"
        )
        say(f"{settings}, {options.changes}")
        size = sum(p.numel() for p in model.head.parameters())
        cost = step_cost(encoder.shape, math.prod(encoder.grid), learning, settings, size)
        print(cost.line(settings.batch // (settings.accumulate * processes.world)), flush=True)
    drawn = batches_of(
        train, classes, plan.spec, TrainSettings(balance=settings.balance, batch=settings.batch)
    )
    places = {video_id: number for number, video_id in enumerate(paths)}
    drawing = Drawing(
        clips,
        [places[e.video_id] for e in train],
        drawn.labels,
        drawn.weights,
        classes.classes,
        settings,
        options.changes,
    )
    scorer = Scorer(
        clips=clips, places=places, vocabulary=classes, settings=settings, hop_s=plan.hop_s
    )

    def validate(model: TunedModel) -> Score:
        share, likelihood = scorer.score(model, held)
        print(f"held back: {share:.1%} right, loss {-likelihood:.3f}", flush=True)
        return share, likelihood

    epoch_steps, began = -(-len(train) // settings.batch), time.monotonic()
    lines, losses = Progress(options.tensorboard) if first else None, list[float]()

    def progress(step: int, steps: int, loss: float) -> None:
        assert lines is not None
        lines(step, steps, loss)
        losses.append(loss)
        if step % epoch_steps == 0 or step == steps:
            left = (steps - step) * (time.monotonic() - began) / len(losses) / 60
            some = losses[-epoch_steps:]
            print(
                f"epoch {-(-step // epoch_steps)}: step {step} of {steps}, "
                f"loss {sum(some) / len(some):.3f}, {left:.1f} min left",
                flush=True,
            )

    resume = None
    if options.resume is not None:
        resume = Resume(options.resume, _STATE_S), _digest(options, settings, plan, train)
    tuning = tune(
        model,
        drawing,
        settings,
        processes,
        epoch_steps=epoch_steps,
        validate=validate if held else None,
        resume=resume,
        progress=progress if first else None,
    )
    if not first:
        return {}
    model.merge()
    adjust_logits(model.head.cpu(), drawn, len(plan.glosses))
    model.to(processes.device)
    changes = options.changes
    result = write_result(options.out, tuning, plan, scorer, train, test, (settings, changes))
    show_result(result)
    if options.resume is not None:
        options.resume.unlink(missing_ok=True)
    return {**result, "skipped": len(broken), "learning_parameters": learning}


def _plan(options: FinetuneOptions) -> TrainingPlan:
    """The clips and glosses of the index, and the encoder to begin with.

    Raises:
        ValueError: the index does not allow it, or the encoder is not V-JEPA 2.
        OSError: the encoder is not there.
    """
    from models.encoders import encoder_spec
    from offline.data.index import ORIGINAL
    from offline.data.labels import holds_landmarks
    from offline.training.config import TrainSettings
    from offline.training.selection import read_plan

    plan = read_plan(options.data, TrainSettings(device="cpu"))
    spec = plan.spec
    if options.encoder is not None:
        frames, fps = (spec.frames, spec.fps) if spec.kind.startswith("vjepa2") else (None, None)
        spec = encoder_spec(options.encoder, frames, fps)
    if not spec.kind.startswith("vjepa2"):
        raise ValueError(f"a {spec.kind} encoder can't be fine-tuned: give --encoder vjepa2:SOURCE")
    examples = [e for e in plan.examples if e.variant == ORIGINAL]
    for example in examples:
        if example.path is None or holds_landmarks(example.path):
            raise ValueError(f"{options.data.index}: {example.video_id} has no video to decode")
    return replace(plan, examples=examples, spec=spec)


def _split(options: FinetuneOptions, plan: TrainingPlan) -> tuple[list[Example], list[Example]]:
    """The clips to train on and those kept out for testing, as `offline.train` splits them.

    Raises:
        ValueError: something is in both.
    """
    from offline.data.splits import refuse_leaks
    from offline.evaluation.crossval import fold_of_groups
    from offline.training.selection import named_groups

    examples = plan.examples
    if options.hold_out_groups:
        groups = named_groups(options.hold_out_groups, examples, "--hold-out-groups")
        kept_out = [e.group in groups for e in examples]
    elif options.split == "none":
        kept_out = [False] * len(examples)
    elif options.split == "official":
        examples = [e for e in examples if e.split in ("train", "extra", "val", "test")]
        kept_out = [e.split in ("val", "test") for e in examples]
    else:
        folds = fold_of_groups(examples, plan.glosses, _FOLDS, options.data.fold_seed)
        kept_out = [folds.get(e.group) == options.fold for e in examples]
    train = [e for e, out in zip(examples, kept_out, strict=True) if not out]
    test = [e for e, out in zip(examples, kept_out, strict=True) if out]
    if test and options.duplicates == "leave-out":
        recordings = {e.recording for e in test}
        train = [e for e in train if not e.duplicate_of or e.duplicate_of not in recordings]
    if test:
        grouped = options.split != "official" or options.hold_out_groups is not None
        refuse_leaks(train, test, grouped=grouped, duplicates=options.duplicates != "allow")
    return train, test


def _head(options: FinetuneOptions, plan: TrainingPlan, classes: Vocabulary) -> Head:
    """A new head, or the one of `--start`.

    Raises:
        ValueError: `--start` is no trained head, or one of other glosses or another encoder.
    """
    from models.heads import make_head
    from offline.training.checkpoint import load_checkpoint

    settings = options.tuning
    extra = {} if settings.dropout is None else {"dropout": settings.dropout}
    if options.start is None:
        return make_head(
            {"kind": settings.head, "dim": plan.spec.dim, "classes": classes.classes, **extra}
        )
    found = load_checkpoint(options.start)
    head = cast("Head", found.head.heads[0])
    if found.card["glosses"] != list(plan.glosses) or found.card["classes"] != classes.classes:
        raise ValueError(f"{options.start}: a head of other glosses than those to train")
    if found.card["encoder"].get("dim") != plan.spec.dim or head.settings["kind"] == "landmarks":
        raise ValueError(f"{options.start}: a head for another encoder than {plan.spec.source}")
    return head


def _digest(
    options: FinetuneOptions, settings: FinetuneSettings, plan: TrainingPlan, train: list[Example]
) -> str:
    """Of all that makes a training another one."""
    import hashlib

    import torch

    settings = replace(settings, workers=1, memory_gb=0, device="")
    start = str(options.start and options.start.read_bytes())
    clips = [(e.video_id, e.gloss, e.group) for e in train]
    parts = (asdict(settings), asdict(options.changes), plan.spec, start, clips, torch.__version__)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _out_of_memory(exc: BaseException) -> bool:
    """True for the errors of NumPy, of torch on a GPU, and on a CPU, known by its text."""
    import torch

    return isinstance(exc, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(
        exc
    )


if __name__ == "__main__":
    sys.exit(main())
