"""From cropped pictures to features in one graph: what is exported, compiled and captured.

    pictures (B, T, H, W, C) uint8 -> /255, mean, deviation -> VideoTransformer -> (B, S, D) float32

It does what `preprocess` does after the crop, to the last bit, on the device that encodes:
a quarter of the bytes travel. `VideoTransformer` alone takes pixels that are normalised already.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.vjepa2.preprocess import MEAN, STD
from models.vjepa2.video_transformer import VideoTransformer


class PictureEncoder(nn.Module):
    """Call it with pictures (B, T, H, W, C), RGB, uint8, of the size that `model` was made for.

    Gives float32 (B, S, D): the mean of each time step (S = T/2) if `pooled`, else all tokens.

    Raises (from a call):
        ValueError: the pictures are not uint8 or of another size, or the module was cast.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: VideoTransformer, *, pooled: bool) -> None:
        """`model` computes in the dtype that it has now: cast it, not what is around it."""
        super().__init__()
        self.model = model
        self.pooled = pooled
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(STD), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.features(self.model(self.video(pictures)))

    def video(self, pictures: Tensor) -> Tensor:
        """(B, T, C, H, W) What `model` is called with."""
        if pictures.dtype != torch.uint8:
            raise ValueError(f"pictures of {pictures.dtype}, not torch.uint8")
        if self.mean.dtype != torch.float32:
            raise ValueError("the picture encoder was cast; cast the model within it alone")
        pixels = (pictures.float() / 255 - self.mean) / self.std
        return pixels.to(self.model.patch_embed.weight.dtype).permute(0, 1, 4, 2, 3)

    def features(self, tokens: Tensor) -> Tensor:
        """What is told of the tokens (B, N, D) that `model` gave: float32 (B, S, D)."""
        return self.model.means(tokens) if self.pooled else tokens.float()
