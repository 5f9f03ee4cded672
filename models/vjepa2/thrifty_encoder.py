"""V-JEPA 2 over those tubelets alone that changed: the way of `PictureEncoder`, with fewer tokens.

    pictures -> [thrift] -> kept tubelets -> VideoTransformer -> features of all places

A dropped place has the features of the token that stands for it, so what comes out has the shape
that heads know. How much faster and how much alike: docs/thrift.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.vjepa2.picture_encoder import PictureEncoder
from models.vjepa2.thrift import check_level, kept_tubelets, stand_ins


class ThriftyEncoder(nn.Module):
    """Call it as the `PictureEncoder` that it is made of. Not for export: what it does varies.

    Clips keep different numbers of tokens, so each is run alone: a clip's features are the same in
    any batch, and a batch gains nothing.
    """

    def __init__(self, encoder: PictureEncoder, level: float) -> None:
        """Drops tubelets that differ by at most `level` of 255 levels; see `kept_tubelets`.

        Raises:
            ValueError: `level` is none.
        """
        super().__init__()
        check_level(level)
        self.encoder = encoder
        self.model = encoder.model
        self.level = level

    def forward(self, pictures: Tensor) -> Tensor:
        """float32 (B, S, D) of pictures (B, T, H, W, C), uint8, as `PictureEncoder` gives them."""
        return torch.cat([self._features(clip) for clip in torch.split(pictures, 1)])

    def _features(self, clip: Tensor) -> Tensor:
        model = self.model
        video = self.encoder.video(clip)
        shape = model.shape
        keep = kept_tubelets(clip[0].cpu().numpy(), shape.patch, shape.tubelet, self.level)
        if keep.all():
            return self.encoder.features(model(video))
        chosen = torch.from_numpy(keep.ravel().nonzero()[0]).to(clip.device)
        tokens = model.attend(model.embed(video)[:, chosen], model.cos[chosen], model.sin[chosen])
        return self.encoder.features(tokens[:, torch.from_numpy(stand_ins(keep)).to(clip.device)])
