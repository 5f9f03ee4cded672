"""The linear layers of an encoder in float8: half the bytes of bfloat16, twice its rate.

    x (…, I) bfloat16 -> rounded to e4m3, a scale a token -> product with weights of e4m3, a scale
    an output -> (…, O) bfloat16

Attention, norms and positions stay in bfloat16. What it costs in accuracy is told by
`models.bench` (dtype float8).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.vjepa2.video_transformer import VideoTransformer

_LARGEST = torch.finfo(torch.float8_e4m3fn).max  # 448


class Float8Linear(nn.Module):
    """`nn.Linear` for bfloat16, its weights and what comes in rounded to e4m3."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = rounded(linear.weight.detach())  # O, I; O, 1
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        rows, scale = rounded(x.flatten(0, -2))  # n, I; n, 1
        by_row = F.ScalingType.RowWise
        y: Tensor = F.scaled_mm(
            rows,
            self.weight.T,
            scale,
            by_row,
            self.scale.T,
            by_row,
            bias=self.bias,
            output_dtype=x.dtype,
            use_fast_accum=True,  # sums stay in Hopper's tensor cores; elsewhere it does nothing
        )
        return y.view(*x.shape[:-1], -1)


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, I) as e4m3, and the scale (n, 1) float32 that it is to be multiplied with."""
    scale = rows.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / _LARGEST
    return (rows.float() / scale).to(torch.float8_e4m3fn), scale


def to_float8(model: VideoTransformer) -> None:
    """Replace the linear layers of `model`'s blocks, which is on its device and in bfloat16.

    Raises:
        ValueError: this torch or the GPU has no float8 (it came with compute capability 8.9), or
            a layer's sizes are not multiples of 16, which its kernels want.
    """
    if not hasattr(F, "scaled_mm"):
        raise ValueError(f"PyTorch {torch.__version__} has no scaled_mm for float8; take bfloat16")
    device = model.patch_embed.weight.device
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        raise ValueError(f"{torch.cuda.get_device_name(device)} has no float8; take bfloat16")
    for block in model.blocks:
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Linear):
                if layer.in_features % 16 or layer.out_features % 16:
                    raise ValueError(f"float8 needs multiples of 16, not {layer}")
                setattr(block, name, Float8Linear(layer))
