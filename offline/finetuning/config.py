"""The options of `offline.finetune` that decide how weights change.

    command line -> [config] -> tuned_model, drawing, loop

Nothing here imports torch: a number out of range is reported at once, as a ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from offline.training.config import HeldBack


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSettings:
    """How training clips are changed, once for all pictures of a clip. 0: not at all."""

    zoom: float = 0.15  # larger or smaller, by this share at most
    shift: float = 0.06  # aside, by this share of the picture at most
    turn: float = 8.0  # turned, by so many degrees at most
    colour: float = 0.25  # contrast, brightness, saturation and tint, by this share at most
    speed: float = 0.25  # faster or slower, by this share at most
    shift_s: float = 0.2  # the window begins earlier or later, by so many seconds at most
    # share of clips that are mirrored, as left-handed signers sign: the same sign in ASL. 0 where
    # left and right differ in meaning
    mirror: float = 0.5
    mixup: float = 0.2  # share of clips that are mixed with another clip, and their labels too

    def __post_init__(self) -> None:
        for name in ("zoom", "shift", "colour", "speed"):
            if not 0 <= getattr(self, name) <= 0.9:
                raise ValueError(f"--{name} must be from 0 to 0.9, not {getattr(self, name):g}")
        for name in ("mirror", "mixup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} must be from 0 to 1, not {getattr(self, name):g}")
        if not 0 <= self.turn <= 180:
            raise ValueError(f"--turn must be from 0 to 180 degrees, not {self.turn:g}")
        if not 0 <= self.shift_s <= 10:
            raise ValueError(f"--shift-s must be from 0 to 10 seconds, not {self.shift_s:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """Training of the encoder and its head.

    The learning rate rises during --warmup, then falls as half a cosine. --layer-decay gives each
    block below the last one so much less of --encoder-lr.
    """

    unfreeze: str | None = None  # so many last blocks of the encoder learn, or: all; None: 2
    lora: int = 0  # instead: low-rank updates of all blocks, of this rank; 8 is usual
    head: Literal["attentive", "gloss"] = "attentive"  # see models/heads.py
    batch: int = 16  # clips a step, of all processes together
    accumulate: int = 1  # parts that a step's clips are computed in: less memory, the same result
    checkpointing: bool = False  # compute activations again instead of keeping them: less memory
    epochs: float = 20  # passes over the clips
    lr: float = 1e-3  # of the head
    encoder_lr: float = 1e-4  # of the encoder's last block
    layer_decay: float = 0.75  # 1: all blocks learn at --encoder-lr
    weight_decay: float = 0.05  # of matrices, by AdamW
    warmup: float = 0.1  # share of the steps in which the learning rate rises
    smoothing: float = 0.1  # of labels: the share that is spread over all classes
    average: float = 0.99  # of weights: how much of the average stays at a step
    validation: HeldBack = "auto"
    """what is scored after each epoch, to keep the best one. auto: the labels' val clips with
    --split official, nothing with --split none, else signers; signers: clips of some signers, who
    are not trained on; none: nothing, the averaged weights at the end are kept"""
    balance: float = 0.5  # 0: each clip is drawn as often; 1: each class is
    dropout: float | None = None  # in the head; None: the head's own
    seed: int = 0  # of first weights, and of what is drawn
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    precision: Literal["float32", "bfloat16"] | None = None
    """of matrix products; None: bfloat16 on a GPU, float32 on a CPU. Weights are float32"""
    workers: int = 4  # threads that decode and change clips, a process
    memory_gb: float = 4.0  # for decoded clips, a process; others are decoded each time

    def __post_init__(self) -> None:
        if self.unfreeze not in (None, "all") and not self.unfreeze.isdecimal():
            raise ValueError(f"--unfreeze must be all or a number of blocks, not {self.unfreeze}")
        if self.unfreeze is not None and self.lora:
            raise ValueError("give either --lora or --unfreeze")
        for name in ("batch", "accumulate", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("smoothing", "average", "warmup", "balance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} must be from 0 to 1, not {getattr(self, name):g}")
        for name in ("lr", "encoder_lr", "epochs"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"--{name.replace('_', '-')} must be above 0")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"--layer-decay must be above 0, to 1, not {self.layer_decay:g}")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError("--weight-decay must be 0 or more")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"--dropout must be from 0 to below 1, not {self.dropout:g}")
        if not 0 <= self.lora <= 1024:
            raise ValueError(f"--lora must be a rank from 1 to 1024, not {self.lora}")
        if not 0 <= self.memory_gb < float("inf"):
            raise ValueError("--memory-gb must be 0 or more")
        if self.batch % self.accumulate:
            raise ValueError(f"--batch {self.batch} is no multiple of --accumulate")

    @property
    def blocks(self) -> int | None:
        """How many last blocks learn; None: the whole encoder."""
        return (
            None if self.unfreeze == "all" else int("2" if self.unfreeze is None else self.unfreeze)
        )

    def __str__(self) -> str:
        blocks = "all" if self.blocks is None else str(self.blocks)
        part = f"rank {self.lora}" if self.lora else f"{blocks} blocks"
        return (
            f"{part}, head {self.head}, batch {self.batch}, {self.epochs:g} epochs, lr {self.lr:g} "
            f"and {self.encoder_lr:g} of the encoder (layer decay {self.layer_decay:g}), weight "
            f"decay {self.weight_decay:g}, seed {self.seed}, {self.precision} on {self.device}"
        )
