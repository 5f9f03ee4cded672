"""Weights in 8 bits that answer as the float ones do: what `graph_export` writes as int8.onnx.

    encoder + clips -> block after block: [moments of what its linear layers get] -> [rounded]

Weights are rounded column by column, and what that changes is made good by the columns that are yet
to be rounded (GPTQ: Frantar and others, 2022, https://arxiv.org/abs/2210.17323). What a layer gets
hardly varies in most directions, so most of the error can go where it is not seen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.vjepa2.model import PictureEncoder

# Levels on either side of zero. 7 bits, not 8: sums of 8 overflow on processors without VNNI (AMD
# before Zen 4), and what is lost is hardly seen.
_MOST = 63
_DAMPING = 0.01  # of the mean moment: directions that no clip showed count a little too
_AT_ONCE = 128  # columns between two updates of all that are left


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounded:
    """A linear layer: its weight is `levels` times `scales`, one for each output."""

    levels: NDArray[np.int8]  # (out, in)
    scales: NDArray[np.float32]  # (out,)
    least: float  # of what it gets, at most 0
    most: float


@torch.inference_mode()
def rounded_weights(encoder: PictureEncoder, clips: Sequence[NDArray[np.uint8]]) -> list[Rounded]:
    """The weights of the linear layers of `encoder`, in the order in which a clip meets them.

    Clips are (T, H, W, C). A block is rounded for what it gets of them behind those that are
    rounded already. A second encoder and the tokens of all clips are in memory meanwhile.

    Raises:
        ValueError: there is no clip.
    """
    if not clips:
        raise ValueError("int8 needs clips to be calibrated on, of real signers")
    model = copy.deepcopy(encoder.model)
    video = [encoder.video(torch.from_numpy(clip)[None]) for clip in clips]
    rounded, tokens = _round_stage(model.embed, [model.patch_embed], video)
    for block in model.blocks:
        layers = [layer for layer in block.modules() if isinstance(layer, nn.Linear)]
        stage = partial(block, cos=model.cos, sin=model.sin)
        more, tokens = _round_stage(stage, layers, tokens)
        rounded += more
    return rounded


def _round_stage(
    stage: Callable[[Tensor], Tensor], layers: Sequence[nn.Linear], given: Sequence[Tensor]
) -> tuple[list[Rounded], list[Tensor]]:
    """Round `layers`, which `stage` runs in that order; also what it gives then."""
    watches = [_Watch(layer) for layer in layers]
    for one in given:
        stage(one)
    rounded = []
    for layer, watch in zip(layers, watches, strict=True):
        watch.hook.remove()
        levels, scales = round_rows(layer.weight, watch.moment)
        layer.weight.copy_(levels * scales[:, None])
        rounded.append(
            Rounded(
                levels=levels.to(torch.int8).numpy(),
                scales=scales.numpy(),
                least=watch.least,
                most=watch.most,
            )
        )
    return rounded, [stage(one) for one in given]


class _Watch:
    """Looks at what a linear layer gets, until `hook` is removed."""

    def __init__(self, layer: nn.Linear) -> None:
        self.moment = torch.zeros(layer.in_features, layer.in_features)
        self.least = self.most = 0.0
        self.hook = layer.register_forward_pre_hook(self._add)

    def _add(self, layer: nn.Module, got: tuple[Tensor]) -> None:
        rows = got[0].flatten(0, -2)
        self.moment.addmm_(rows.T, rows)
        least, most = rows.aminmax()
        self.least, self.most = min(self.least, float(least)), max(self.most, float(most))


def round_rows(weight: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
    """Whole levels (out, in) and scales (out,) of `weight` (out, in), for inputs of `moment`.

    `moment` (in, in) is the sum of x xᵀ over inputs x. Least is the error of what the layer gives
    for such, not that of its weights.
    """
    scales = (weight.abs().amax(1) / _MOST).clamp_min(torch.finfo(torch.float32).tiny)
    # The largest first, since nothing makes good the error of those that come last.
    order = moment.diagonal().argsort(descending=True)
    seen = moment[order][:, order].double()
    damping = _DAMPING * seen.diagonal().mean().clamp_min(1e-12)
    seen.diagonal().add_(damping)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(seen))
    spread = torch.linalg.cholesky(inverse, upper=True).float()
    left = (weight / scales[:, None])[:, order]  # in levels
    for begin in range(0, left.shape[1], _AT_ONCE):
        end = min(begin + _AT_ONCE, left.shape[1])
        missed = torch.zeros(len(left), end - begin)
        for i in range(begin, end):
            whole = left[:, i].round().clamp(-_MOST, _MOST)
            missed[:, i - begin] = (left[:, i] - whole) / spread[i, i]
            left[:, i] = whole
            left[:, i + 1 : end] -= missed[:, i - begin, None] * spread[i, i + 1 : end]
        left[:, end:] -= missed @ spread[begin:end, end:]
    levels = torch.empty_like(left)
    levels[:, order] = left
    return levels, scales
