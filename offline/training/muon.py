"""Muon with products in float32, for processors that have no fast bfloat16.

`torch.optim.Muon` has them in bfloat16, which such a processor emulates: on an AMD EPYC with AVX2
alone a step of the head `landmarks`, 192 wide, takes 1.7 s with it and 0.3 s with this one.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_MOMENTUM = 0.95
_ROUNDS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315  # Jordan et al. 2024: steepest where singular values are small
_RMS = 0.2  # Liu et al. 2025, "Muon is scalable for LLM training": as large as AdamW's steps


class Muon(torch.optim.Optimizer):
    """As `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`. All weights are matrices."""

    def __init__(self, weights: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                momentum = state["momentum_buffer"].lerp_(weight.grad, 1 - _MOMENTUM)
                ahead = weight.grad.lerp(momentum, _MOMENTUM)  # Nesterov's
                rate = group["lr"] * _RMS * max(weight.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonal(ahead), alpha=-rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix with orthonormal rows or columns: singular values of 0.7 to 1.2.

    Five Newton-Schulz rounds.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x.T if tall else x
