"""What a step of fine-tuning takes: memory and operations, by arithmetic.

    shape of the encoder + settings -> [cost] -> bytes and FLOP, before anything is allocated

Counted: weights, what the optimizer keeps, and the activations of blocks that wait for the backward
pass, with attention that stores no scores. Not counted: the head's activations, buffers of the
allocator and of communication, CUDA itself (about 1 GB together).
"""

from __future__ import annotations

from dataclasses import dataclass

from models.bench.cases import clip_flops
from models.vjepa2.model import Shape
from offline.finetuning.config import FinetuneSettings

_TUBELET_PIXELS = 3 * 2 * 16 * 16
_LEARNING = 16  # bytes for each learning parameter: gradient 4, AdamW 8, average 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Of one process. Bytes; FLOP of one clip, two for each multiplication of matrix products."""

    weights: float
    learning: float  # gradients, optimizer, average
    activations: float  # of one clip
    once: float  # whatever the number of clips: one block computed again, weights in bfloat16
    flop: float

    def total(self, clips: int) -> float:
        """Bytes for so many clips at once: --batch / (--accumulate times processes)."""
        return self.weights + self.learning + self.once + clips * self.activations

    def line(self, clips: int) -> str:
        parts = {
            "weights": self.weights,
            "gradients and optimizer": self.learning,
            f"activations of {clips} clips": self.once + clips * self.activations,
        }
        named = ", ".join(f"{name} {size / 1e9:.2g}" for name, size in parts.items())
        return (
            f"by arithmetic {self.total(clips) / 1e9:.2g} GB a process ({named}) and "
            f"{self.flop / 1e12:.2g} TFLOP a clip"
        )


def block_bytes(shape: Shape, tokens: int, *, half: bool) -> float:
    """What one block keeps of a clip for the backward pass.

    Its input twice (the second after attention) and both norms' outputs, q and k before and after
    rotation, v, attention's output, and the MLP's hidden features before and after GELU.
    """
    width, hidden = shape.width, shape.hidden
    if half:  # the residual stream stays float32
        return float(tokens * (2 * 4 * width + 2 * (8 * width + 2 * hidden)))
    return float(tokens * 4 * (10 * width + 2 * hidden))


def step_cost(
    shape: Shape, tokens: int, learning: int, settings: FinetuneSettings, head: int = 0
) -> StepCost:
    """The cost of a step on clips of `tokens` tokens.

    `learning`: number of parameters that learn; `head`: of those, the head's.
    """
    half, width = settings.precision == "bfloat16", shape.width
    block = 4 * width * width + 2 * width * shape.hidden  # weights of one
    through = shape.depth if settings.lora or settings.blocks is None else settings.blocks
    forward = clip_flops(width, shape.depth, shape.hidden, tokens)
    share = through / shape.depth
    kept = block_bytes(shape, tokens, half=half)
    activations, once = through * kept, 2.0 * block * through if half else 0.0
    flop = forward * (1 + share * (1 if settings.lora else 2))
    if settings.checkpointing and through:
        activations = through * 4.0 * width * tokens + kept
        flop += forward * share
    return StepCost(
        weights=4.0 * (_TUBELET_PIXELS * width + shape.depth * block + head),
        learning=_LEARNING * float(learning),
        activations=activations,
        once=once,
        flop=flop,
    )
