"""How a head is trained: `TrainSettings`, one frozen record that options fill and cards tell of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How long and how: `epochs` passes over the clips, in batches.

    Each learning rate with each weight decay is a head; all see the same batches, and the best on
    clips held back is kept.

    Raises:
        ValueError: a number that trains nothing.
    """

    head: str = "landmarks"
    batch: int = 64
    epochs: float = 40
    lr: tuple[float, ...] = (2e-3,)
    weight_decay: tuple[float, ...] = (0.05,)
    smoothing: float = 0.1
    mixup: float = 0.3  # share of batches that are mixed
    warmup: float = 0.05  # share of the steps
    average: float = 0.99  # of the weights, a step
    balance: float = 0.5  # 0: as many windows as clips; 1: as many of each class
    patience: int = 0  # epochs without a better head before it ends; 0: never
    shares: tuple[float, float, float, float] = (0.65, 0.15, 0.1, 0.1)  # of windows: see `lessons`
    heads: int = 1  # trained with seeds `seed`, `seed + 1`, …, to answer together
    seed: int = 0
    device: str = "cpu"
    extra: dict[str, float] = field(default_factory=dict)  # settings of the head itself

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

    @property
    def chooses(self) -> bool:
        """True when there is something to choose, so that clips must be held back for it."""
        return self.patience > 0 or len(self.lr) * len(self.weight_decay) > 1
