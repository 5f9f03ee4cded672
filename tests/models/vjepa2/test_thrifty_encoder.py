"""Fewer tokens: the same features where none is dropped, and the right ones where some are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.vjepa2.picture_encoder import PictureEncoder
from models.vjepa2.thrifty_encoder import ThriftyEncoder
from models.vjepa2.video_transformer import Shape, VideoTransformer

TINY = Shape(width=32, depth=2, heads=2, hidden=64, patch=8)


def encoder(*, pooled: bool = True) -> PictureEncoder:
    """For 6 pictures of 16 x 24 px: 3 steps of 6 tokens."""
    torch.manual_seed(0)
    model = VideoTransformer(TINY, (3, 2, 3)).requires_grad_(False)
    return PictureEncoder(model, pooled=pooled).eval()


def noise(batch: int, times: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(0, 256, (batch, times, 16, 24, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("pooled", [True, False])
def test_equals_the_full_encoder_where_all_pictures_differ(pooled: bool) -> None:
    full, clips = encoder(pooled=pooled), noise(3)
    torch.testing.assert_close(ThriftyEncoder(full, 0)(clips), full(clips), atol=1e-5, rtol=0)


def test_exact_repeats_lose_their_tokens_and_nothing_else() -> None:
    full = encoder(pooled=False)
    model = full.model
    clip = noise(1, 2).repeat(1, 3, 1, 1, 1)  # the second and third step repeat the first
    clip[:, 4:, :8, :8] = 255 - clip[:, 4:, :8, :8]  # but for one place in the third
    got = ThriftyEncoder(full, 0)(clip)
    kept = torch.tensor([0, 1, 2, 3, 4, 5, 12])
    want = model.attend(model.embed(full.video(clip))[:, kept], model.cos[kept], model.sin[kept])
    stand = torch.tensor([*range(6), *range(6), 6, *range(1, 6)])
    torch.testing.assert_close(got, want[:, stand])
    pooled = ThriftyEncoder(PictureEncoder(model, pooled=True), 0)(clip)
    torch.testing.assert_close(pooled, want[:, stand].view(1, 3, 6, 32).mean(2))


def test_a_clip_is_the_same_alone_and_in_any_batch() -> None:
    thrifty = ThriftyEncoder(encoder(), 60)  # drops some of noise, other ones in each clip
    clips = noise(4)
    clips[1, 2:4] = clips[1, :2]
    together = thrifty(clips)
    assert together.shape == (4, 3, 32)
    for i in range(4):
        torch.testing.assert_close(thrifty(clips[i : i + 1]), together[i : i + 1])


def test_computes_in_the_models_dtype() -> None:
    full = PictureEncoder(encoder().model.bfloat16(), pooled=True)
    clip = noise(1, 2).repeat(1, 3, 1, 1, 1)
    assert ThriftyEncoder(full, 0)(clip).dtype == torch.float32


def test_a_level_that_is_none() -> None:
    with pytest.raises(ValueError, match="levels"):
        ThriftyEncoder(encoder(), -1)
