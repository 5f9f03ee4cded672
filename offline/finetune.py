"""Fine-tune V-JEPA 2: its last blocks, or low-rank updates, learn together with a head.

    python -m offline.finetune --index data/mine/index.csv --unfreeze 4 --out models/tuned.pt
    torchrun --nproc-per-node 4 -m offline.finetune …            (a GPU each)

    index.csv -> its videos -> [finetuning] -> models/tuned.pt, .json and models/tuned-encoder/

The index is one of `offline.encode`: it names videos, glosses and signers, and the encoder, which
`--encoder` may replace. Videos are decoded again, and changed each time that they are drawn; of
several windows of one the middle one is learnt. Clips are kept out to test, and held back to choose
the epoch by, as `offline.train` does it. The result is exported and served as any other:
`offline.export --model models/tuned.pt --with-encoder`. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from models.command_line import STOPPED, say, stopped_by_signals, until_interrupted
from models.files import refuse_place
from offline.finetuning.config import ChangeSettings, FinetuneSettings
from offline.run_file import read_fields, read_run, write_run
from offline.training.config import DataSettings, SplitSettings, TrainChoices, TrainSettings
from offline.training.early_end import how_it_goes_on, out_of_memory

if TYPE_CHECKING:  # torch and scikit-learn come when the command line is right
    from models.heads import Head
    from models.vjepa2.model import VideoTransformer
    from offline.data.examples import Example, Vocabulary
    from offline.finetuning.drawing import KeptVideos
    from offline.finetuning.processes import Processes
    from offline.training.batches import TrainClips
    from offline.training.selection import TrainingPlan
    from offline.training.sides import SplitClips

_STATE_S = 300.0  # the state is kept at each epoch's end, and so often in a long one


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneOptions:
    """What it begins with, and what is written."""

    data: DataSettings
    sides: SplitSettings = field(default_factory=SplitSettings)
    tuning: FinetuneSettings = field(default_factory=FinetuneSettings)
    changes: ChangeSettings = field(default_factory=ChangeSettings)
    encoder: str | None = None  # vjepa2:SOURCE or vjepa2-tokens:SOURCE; None: the index's
    start: Path | None = None  # head to begin with: the .pt of offline.train, of the same glosses
    card: str | None = None  # JSON file with fields for the card: name, data, licence …
    threshold: float | None = None  # probability from which the live half shows a gloss; None: 0.5
    out: Path = Path("models/finetuned.pt")  # the head to write; the encoder stands beside it
    resume: Path | None = None  # file for the state: an interrupted training goes on from it
    tensorboard: str | None = None  # folder for TensorBoard's events
    config: str | None = None  # YAML of options, such as a _run.yaml; the command line goes first

    def __post_init__(self) -> None:
        if self.out.suffix != ".pt":
            raise ValueError(f"--out {self.out}: must end in .pt")


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit status 2 for wrong options, clips that do not allow it, or no memory; 130
    after Ctrl-C or SIGTERM."""
    options = read_run(
        FinetuneOptions, argv, prog="python -m offline.finetune", description=__doc__
    )
    began = time.monotonic()
    with stopped_by_signals():
        try:
            result = _by_processes(options)
        except KeyboardInterrupt as exc:
            say(f"finetune: {how_it_goes_on(options.resume, exc)}", file=sys.stderr)
            return STOPPED
        except (ValueError, OSError) as exc:
            say(f"finetune: {exc}", file=sys.stderr)
            return 2
        except (MemoryError, RuntimeError) as exc:
            if not out_of_memory(exc):
                raise
            parts = 2 * options.tuning.accumulate
            advice = f"--accumulate {parts}, --checkpointing or a smaller --batch"
            say(f"finetune: out of memory: give {advice}", file=sys.stderr)
            return 2
    if result:
        print(json.dumps({**result, "seconds": round(time.monotonic() - began, 1)}))
    return 0


def _by_processes(options: FinetuneOptions) -> dict[str, Any]:
    """`finetune` in this process, after the others have joined; only the first one prints."""
    for place in (options.out, options.resume):
        if place is not None:
            refuse_place(place)
    if options.tensorboard is not None:
        refuse_place(f"{options.tensorboard}/x")
    given = read_fields(options.card)

    from offline.finetuning.processes import joined  # torch

    with joined(options.tuning.device) as processes, contextlib.ExitStack() as quiet:
        if not processes.first:
            quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
        return finetune(options, given, processes)


def finetune(
    options: FinetuneOptions, given: dict[str, Any], processes: Processes
) -> dict[str, Any]:
    """Train as the options say; the first process writes encoder, head, card and curves.

    given: the fields of `--card`.

    Returns:
        The last line's object; an empty one in processes that are not the first.

    Raises:
        ValueError: the index or an option does not allow it, or the state is another training's.
        OSError: the checkpoint is not there, or the disk is full.
        Interrupted: after Ctrl-C or SIGTERM; the state is in the file of `--resume`.
    """
    import torch

    from models.vjepa2.checkpoint import load_weights
    from offline.data.examples import vocabulary
    from offline.finetuning.cost import step_cost
    from offline.finetuning.drawing import Drawing
    from offline.finetuning.loop import tune
    from offline.finetuning.result import show_result, write_result
    from offline.finetuning.scoring import Scorer
    from offline.finetuning.tuned_model import TunedModel
    from offline.training.batches import batches_of
    from offline.training.progress import Progress
    from offline.training.selection import adjust_logits, to_choose_by
    from offline.training.sides import split_clips, without_unlearnt
    from offline.training.trainer import Resume, Score

    settings, first = _settings(options, processes), processes.first
    plan = _plan(options)
    torch.set_num_threads(plan.threads)
    clips = split_clips(plan, options.sides, settings.validation, options.data.fold_seed)
    encoder = load_weights(plan.spec, torch.float32)
    clips, kept, places, broken = _readable(clips, plan, encoder, settings, processes)
    train: list[Example] = clips.train
    if train:
        plan = without_unlearnt(plan, train)
    held: list[Example] = []
    if train and settings.validation != "none":
        train, held = to_choose_by(train, clips.validation, plan.glosses, settings.seed)
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
    print(
        f"{len(train)} clips to train on, {len(held)} to choose by, {len(clips.test)} kept out, "
        f"{len(broken)} skipped; {len(plan.glosses)} glosses; {learning / 1e6:.2f} of "
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters learn"
    )
    print(settings)
    size = sum(p.numel() for p in model.head.parameters())
    cost = step_cost(encoder.shape, math.prod(encoder.grid), learning, settings, size)
    print(cost.line(settings.batch // (settings.accumulate * processes.world)), flush=True)
    drawn = batches_of(train, classes, plan.spec, TrainSettings(balance=settings.balance))
    drawing = Drawing(
        kept,
        [places[e.video_id] for e in train],
        drawn.labels,
        drawn.weights,
        classes.classes,
        settings,
        options.changes,
    )
    scorer = Scorer(
        clips=kept, places=places, vocabulary=classes, settings=settings, hop_s=plan.hop_s
    )

    def validate(model: TunedModel) -> Score:
        return scorer.score(model, held)

    resume = None
    if options.resume is not None:
        digest = _digest(options, settings, plan, (train, held))
        resume = Resume(options.resume, _STATE_S), digest
    progress = Progress(options.tensorboard) if first else None
    tuning = tune(
        model,
        drawing,
        settings,
        processes,
        epoch_steps=-(-len(train) // settings.batch),
        validate=validate if held else None,
        resume=resume,
        progress=progress,
    )
    if progress is None:
        return {}
    progress.close()
    model.merge()
    adjust_logits(model.head.cpu(), drawn, len(plan.glosses))
    model.to(processes.device)
    left = replace(clips, train=train, validation=held)
    skipped = len(broken) + len(plan.skipped)
    result = write_result(
        options.out, tuning, plan, scorer, left, (settings, options.changes),
        given=given, skipped=skipped, threshold=options.threshold,
    )  # fmt: skip
    run = replace(options, tuning=settings)
    files = {"index": options.data.index, "glosses": options.data.glosses, "card": options.card}
    write_run(options.out.with_name(f"{options.out.stem}_run.yaml"), run, files)
    show_result(result)
    if options.resume is not None:
        options.resume.unlink(missing_ok=True)
    warning = _warning(result, tuning.losses, drawn, settings, (clips, held), plan)
    if warning:
        say(f"finetune: {warning}", file=sys.stderr)
    return {
        **result, "skipped": skipped, "warning": warning, "learning_parameters": learning
    }  # fmt: skip


def _settings(options: FinetuneOptions, processes: Processes) -> FinetuneSettings:
    """The settings with what hangs on the device and the split; nothing has been read yet.

    Raises:
        ValueError: the batch can't be shared, or the encoder would replace another.
    """
    from offline.finetuning.result import encoder_stem

    settings = options.tuning
    if settings.precision is None:
        on_gpu = processes.device.type == "cuda"
        settings = replace(settings, precision="bfloat16" if on_gpu else "float32")
    settings = replace(settings, validation=options.sides.held_back(settings.validation))
    if settings.batch % (settings.accumulate * processes.world):
        raise ValueError(
            f"--batch {settings.batch} is no multiple of --accumulate {settings.accumulate} times "
            f"{processes.world} processes"
        )
    for place in (stem := encoder_stem(options.out), stem.with_name(f"{stem.name}.pt")):
        if place.exists():
            raise ValueError(f"{place}: is there already; give another --out")
    return settings


def _readable(
    clips: SplitClips,
    plan: TrainingPlan,
    encoder: VideoTransformer,
    settings: FinetuneSettings,
    processes: Processes,
) -> tuple[SplitClips, KeptVideos, dict[str, int], dict[str, str]]:
    """The clips whose videos can be read; their videos, the place of each among them by its id; and
    why the others can't, by id, which is printed."""
    from offline.finetuning.drawing import KeptVideos, find_problems

    read = [*clips.train, *clips.validation, *clips.test]  # those to train on first
    videos = {e.video_id: e.source or Path() for e in read}
    crop, memory = encoder.video_size[-1], settings.memory_gb * 1e9
    kept = KeptVideos(list(videos.values()), plan.spec, crop, memory)
    problems = find_problems(kept, len(clips.train), settings.workers, processes)
    broken = {video_id: why for video_id, why in zip(videos, problems, strict=True) if why}
    for why in broken.values() if processes.first else ():
        say(f"skipped: {why}", file=sys.stderr)
    sound = {
        name: [e for e in getattr(clips, name) if e.video_id not in broken]
        for name in ("train", "validation", "test")
    }
    places = {video_id: number for number, video_id in enumerate(videos)}
    return replace(clips, **sound), kept, places, broken


def _warning(
    result: dict[str, Any],
    losses: Sequence[float],
    drawn: TrainClips,
    settings: FinetuneSettings,
    sides: tuple[SplitClips, Sequence[Example]],
    plan: TrainingPlan,
) -> str | None:
    """What is wrong and what to try where the result is hardly better than guessing.

    sides: the clips by what they are for, and those that chose the epoch.
    """
    from offline.data.examples import scored
    from offline.training.chance import near_chance

    clips, held = sides
    unseen: tuple[float, list[str]] = (0.0, [])
    if held:
        unseen = result["held_back_top1"], [e.gloss for e in held]
    elif "kept_out_top1" in result:
        tested = [e.gloss for e in scored(clips.test) if e.gloss in plan.glosses]
        unseen = result["kept_out_top1"], tested
    found = near_chance(losses, drawn, settings.smoothing, unseen)
    if found is None:
        return None
    return f"{found}: try more --epochs (these were {settings.epochs:g}), another --lr or --start"


def _plan(options: FinetuneOptions) -> TrainingPlan:
    """The clips and glosses of the index, and the encoder to begin with.

    Raises:
        ValueError: the index does not allow it, or the encoder is not V-JEPA 2.
        OSError: the encoder is not there.
    """
    from models.encoders import encoder_spec
    from offline.data.index import ORIGINAL
    from offline.data.labels import holds_landmarks
    from offline.training.selection import read_plan

    plan = read_plan(options.data, TrainChoices(device="cpu"))
    spec = plan.spec
    if options.encoder is not None:
        if spec.kind.startswith("vjepa2"):
            spec = encoder_spec(options.encoder, spec.frames, spec.fps, spec.resize)
        else:
            spec = encoder_spec(options.encoder, None, None)
    if not spec.kind.startswith("vjepa2"):
        raise ValueError(f"a {spec.kind} encoder can't be fine-tuned: give --encoder vjepa2:SOURCE")
    examples = [e for e in plan.examples if e.variant == ORIGINAL]
    for example in examples:
        if example.path is None or holds_landmarks(example.path):
            raise ValueError(f"{options.data.index}: {example.video_id} has no video to decode")
    return replace(plan, examples=examples, spec=spec)


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
    options: FinetuneOptions,
    settings: FinetuneSettings,
    plan: TrainingPlan,
    sides: Sequence[Sequence[Example]],
) -> str:
    """Of all that makes a training another one."""
    import hashlib

    import torch

    settings = replace(settings, workers=1, memory_gb=0, device="")
    start = str(options.start and options.start.read_bytes())
    clips = [[(e.video_id, e.gloss, e.group, e.part) for e in side] for side in sides]
    parts = (asdict(settings), asdict(options.changes), plan.spec, start, clips, torch.__version__)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


if __name__ == "__main__":
    raise SystemExit(until_interrupted(main, "offline.finetune"))
