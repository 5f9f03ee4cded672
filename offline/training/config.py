"""The training config: the options that `offline.train`, `evaluate` and `few_shot` share.

    command line -> [config] -> selection, trainer

Nothing here imports torch: a number out of range is reported at once, as a ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from models.command_line import several

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
    threads: int = 2  # of torch

    def __post_init__(self) -> None:
        if self.min_clips < 1 or self.threads < 1:
            raise ValueError("--min-clips and --threads must be 1 or more")
        if not 0 < self.hop_s < float("inf"):
            raise ValueError("--hop-s must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Training.

    Each learning rate with each weight decay is a candidate head. All candidates see the same
    batches; the best on signers held back is kept.
    """

    head: Literal["gloss", "attentive", "landmarks"] = "gloss"  # see models/heads.py
    batch: int = 32  # clips a step
    epochs: float = 10  # passes over the clips
    lr: Floats = (1e-4,)  # several: a head for each; the best on signers held back is kept
    weight_decay: Floats = (0.05,)  # several: as --lr
    patience: int = 0  # end after so many epochs without a better head; 0: never
    warmup: float = 0.05  # share of the steps in which the learning rate rises
    smoothing: float = 0.1  # of labels: the share that is spread over all classes
    mixup: float = 0.3  # share of batches in which clips are mixed
    average: float = 0.99  # of weights: how much of the average stays at a step
    balance: float = 0.5  # 0: each clip is drawn as often; 1: each class is
    dropout: float | None = None  # in the head; None: the head's own
    heads: int = 1  # trained with seeds --seed, --seed + 1, …, used as an ensemble
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    precision: Literal["float32", "bfloat16"] = "float32"
    """of matrix products while training: bfloat16 is faster where the processor has it"""
    shares: tyro.conf.Suppress[tuple[float, float, float, float]] = (0.65, 0.15, 0.1, 0.1)
    """of windows: glosses to recognise, other glosses with a class each, further glosses, idle"""

    def __post_init__(self) -> None:
        for name in ("smoothing", "mixup", "warmup", "average", "balance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} must be from 0 to 1, not {getattr(self, name):g}")
        if not self.lr or not all(0 < rate < float("inf") for rate in self.lr):
            raise ValueError("--lr must be above 0")
        if not self.weight_decay or not all(0 <= w < float("inf") for w in self.weight_decay):
            raise ValueError("--weight-decay must be 0 or more")
        if not 0 < self.epochs < float("inf"):
            raise ValueError("--epochs must be above 0")
        if self.batch < 1 or self.heads < 1:
            raise ValueError("--batch and --heads must be 1 or more")

    @property
    def chooses(self) -> bool:
        """True when there are candidates to choose from, which needs signers held back."""
        return self.patience > 0 or len(self.lr) * len(self.weight_decay) > 1
