"""The training config: the options that `offline.train`, `evaluate` and `few_shot` share.

    command line -> [config] -> selection, trainer

`TrainChoices` is what a command line says, `TrainSettings` the same with the head's own `Recipe`
where it says nothing.

Nothing here imports torch: a number out of range is reported at once, as a ValueError.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import tyro

from models.command_line import several

HeadKind = Literal["gloss", "attentive", "landmarks"]
Optimizer = Literal["adamw", "muon"]
Precision = Literal["float32", "bfloat16"]
HeldBack = Literal["auto", "signers", "none"]
Floats = Annotated[tuple[float, ...], several("FLOAT", float, "{:g}".format)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Clips and glosses."""

    index: str  # index.csv that offline.encode wrote
    glosses: str | None = None  # file with the glosses to recognise, one a line
    min_clips: int = 2  # without --glosses: those with at least so many clips
    open_set: bool = False  # learn idle and other signs too: what is outside the glosses
    cards: Literal["keep", "leave-out"] = "keep"
    """clips that a title card or another scene interrupts: their labels are often wrong"""
    hop_s: float = 0.1  # seconds between windows
    fold_seed: int = 0  # of the folds of signers
    threads: int | None = None  # of torch; None: 1 for landmark rows, whose steps are small, else 2

    def __post_init__(self) -> None:
        if self.min_clips < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError("--min-clips and --threads must be 1 or more")
        if not 0 < self.hop_s < float("inf"):
            raise ValueError("--hop-s must be above 0")

    def torch_threads(self, encoder: str) -> int:
        """For rows of this kind of encoder."""
        return self.threads or (1 if encoder == "landmarks" else 2)


FOLDS = 5  # of signers, of which --split grouped keeps one out


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSettings:
    """Which clips test."""

    split: Literal["official", "grouped", "none"] = "grouped"
    """official: the labels' own, where val chooses the epoch and test tests; grouped: keep one fold
    of signers out; none: train on all"""
    fold: int = 0  # which of five folds --split grouped keeps out
    hold_out_groups: str | None = None  # signers to keep out, separated by commas
    leave_out: str | None = None  # signers neither to train nor to test on
    duplicates: Literal["refuse", "leave-out", "allow"] = "refuse"
    """of kept-out videos among those to train on, under another id"""

    def __post_init__(self) -> None:
        if not 0 <= self.fold < FOLDS:
            raise ValueError(f"--fold must be 0 to {FOLDS - 1}")

    @property
    def official(self) -> bool:
        """True where the labels say which clips test."""
        return self.split == "official" and not self.hold_out_groups

    @property
    def none(self) -> bool:
        """True where no clip tests."""
        return self.split == "none" and not self.hold_out_groups

    def held_back(self, validation: HeldBack) -> HeldBack:
        """`--validation` for this split: where no clip tests, auto holds none back either."""
        return "none" if self.none and validation == "auto" else validation


_ENOUGH = 4_000  # steps that a head for however many glosses learns, of however few clips


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a head is trained with where the options do not say."""

    takes: str  # which rows
    batch: int
    epochs: float
    gloss_steps: int  # at least so many a gloss, by more epochs where clips are few
    lr: tuple[float, ...]
    weight_decay: tuple[float, ...]

    def least_steps(self, glosses: int) -> int:
        """At least so many for so many glosses: more glosses are harder to tell apart."""
        return min(self.gloss_steps * glosses, _ENOUGH)


# docs/reports/training.md has what they were measured with.
RECIPES = {
    "landmarks": Recipe(takes="landmark rows", batch=64, epochs=40, gloss_steps=40,
                        lr=(2e-3,), weight_decay=(0.05,)),
    "attentive": Recipe(takes="vjepa2-tokens", batch=32, epochs=20, gloss_steps=40,
                        lr=(1e-4, 3e-4, 1e-3), weight_decay=(0.05,)),
    "gloss": Recipe(takes="vjepa2, others", batch=32, epochs=60, gloss_steps=60,
                    lr=(1e-3,), weight_decay=(0.05,)),
}  # fmt: skip


def recipe_table() -> str:
    """The heads' defaults, for `--help`."""
    row = "  {:<10} {:<15} {:<8} {:<9} {:<26} {:<18} {}"
    names = ("--batch", "--epochs", "--least-steps", "--lr", "--weight-decay")
    lines = [row.format("head", "for", *names)]
    for head, own in RECIPES.items():
        rates, decays = (" ".join(f"{x:g}" for x in xs) for xs in (own.lr, own.weight_decay))
        least = f"{own.gloss_steps} a gloss, to {_ENOUGH}"
        numbers = (own.batch, f"{own.epochs:g}", least, rates, decays)
        lines.append(row.format(head, own.takes, *numbers))
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainChoices:
    """Training.

    Each learning rate with each weight decay is a candidate head. All candidates see the same
    batches; the best on clips held back is kept, as it was after its best epoch.
    """

    head: HeadKind | None = None  # see models/heads.py; None: by the rows, see above
    batch: int | None = None  # clips a step; None: the head's own, see above
    epochs: float | None = None  # passes over the clips; None: the head's own
    least_steps: int | None = None
    """learn so many batches at least, by more epochs where clips are few; None: the head's own, but
    1 with --epochs"""
    lr: Floats | None = None  # several: a head for each; None: the head's own
    weight_decay: Floats | None = None  # several: as --lr; None: the head's own
    optimizer: Optimizer = "adamw"
    """muon: for the matrices between layers, which learns hundreds of glosses in fewer steps"""
    validation: HeldBack = "auto"
    """what is scored while training, to keep the best epoch. auto: the labels' val clips with
    --split official, nothing with --split none, else signers; signers: clips of some signers, who
    are not trained on; none: nothing, the last epoch is kept"""
    patience: int = 0  # end after so many epochs without a better head; 0: never
    warmup: float = 0.05  # share of the steps in which the learning rate rises
    smoothing: float = 0.1  # of labels: the share that is spread over all classes
    mixup: float = 0.3  # share of batches in which clips are mixed
    average: float = 0.99  # of weights: how much of the average stays at a step
    balance: float = 0.5  # 0: each clip is drawn as often; 1: each class is
    dropout: float | None = None  # in the head; None: the head's own
    width: int | None = None  # of the head landmarks; None: 128
    heads: int = 1  # trained with seeds --seed, --seed + 1, …, used as an ensemble
    seed: int = 0  # of all that is drawn by chance
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    precision: Precision = "float32"
    """of matrix products while training: bfloat16 is faster where the processor has it, and much
    slower where not"""
    compile: bool = False
    """by torch.compile: pays from a thousand steps on; needs a C++ compiler"""
    shares: tyro.conf.Suppress[tuple[float, float, float, float]] = (0.65, 0.15, 0.1, 0.1)
    """of windows: glosses to recognise, other glosses with a class each, further glosses, idle"""

    def __post_init__(self) -> None:
        for name in ("smoothing", "mixup", "warmup", "average", "balance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} must be from 0 to 1, not {getattr(self, name):g}")
        if self.lr is not None and not (self.lr and all(0 < x < float("inf") for x in self.lr)):
            raise ValueError("--lr must be above 0")
        decays = self.weight_decay
        if decays is not None and not (decays and all(0 <= x < float("inf") for x in decays)):
            raise ValueError("--weight-decay must be 0 or more")
        if self.epochs is not None and not 0 < self.epochs < float("inf"):
            raise ValueError("--epochs must be above 0")
        if (self.batch is not None and self.batch < 1) or self.heads < 1:
            raise ValueError("--batch and --heads must be 1 or more")
        if self.least_steps is not None and self.least_steps < 1:
            raise ValueError("--least-steps must be 1 or more")
        if self.width is not None and (self.width < 4 or self.width % 4):
            raise ValueError("--width must be 4, 8, 12 ...")

    def resolved(self, encoder: str, glosses: int) -> TrainSettings:
        """The settings for rows of this kind of encoder; what is None becomes the head's own."""
        usual: dict[str, HeadKind] = {"landmarks": "landmarks", "vjepa2-tokens": "attentive"}
        head = self.head or usual.get(encoder, "gloss")
        if self.width is not None and head != "landmarks":
            raise ValueError(f"--width is of the head landmarks, not of {head}")
        own = RECIPES[head]
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("batch", "lr", "weight_decay"):
            given[name] = getattr(own, name) if given[name] is None else given[name]
        if self.least_steps is None:
            given["least_steps"] = own.least_steps(glosses) if self.epochs is None else 1
        return TrainSettings(**{**given, "head": head, "epochs": self.epochs or own.epochs})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(TrainChoices):
    """What a head is trained with, each number known."""

    head: HeadKind = "gloss"
    batch: int = 32
    epochs: float = 10
    least_steps: int = 1
    lr: Floats = (1e-4,)
    weight_decay: Floats = (0.05,)

    @property
    def chooses(self) -> bool:
        """True when there are candidates to choose from, which needs signers held back."""
        return self.patience > 0 or len(self.lr) * len(self.weight_decay) > 1

    def steps(self, clips: int) -> int:
        """How many batches are learnt of so many clips."""
        return max(self.least_steps, round(self.epochs * self.epoch_steps(clips)))

    def epoch_steps(self, clips: int) -> int:
        """How many of them are an epoch."""
        return math.ceil(clips / self.batch)

    def __str__(self) -> str:
        rates, decays = (" ".join(f"{x:g}" for x in xs) for xs in (self.lr, self.weight_decay))
        least = f" ({self.least_steps} steps at least)" if self.least_steps > 1 else ""
        heads = f", {self.heads} heads" if self.heads > 1 else ""
        return (
            f"head {self.head}{heads}, batch {self.batch}, {self.epochs:g} epochs{least}, lr "
            f"{rates}, weight decay {decays}, {self.optimizer}, seed {self.seed}, "
            f"{self.precision} on {self.device}"
        )
