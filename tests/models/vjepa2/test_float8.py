from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from models.vjepa2.float8 import Float8Linear, rounded, to_float8
from models.vjepa2.video_transformer import Shape, VideoTransformer


def test_rounding_keeps_three_bits_after_the_first() -> None:
    torch.manual_seed(0)
    rows = torch.randn(5, 64) * torch.logspace(-3, 3, 5)[:, None]  # each row has a scale of its own
    values, scale = rounded(rows)
    assert values.dtype == torch.float8_e4m3fn and scale.shape == (5, 1)
    back = values.float() * scale
    large = rows.abs() > rows.abs().amax(-1, keepdim=True) / 1000  # smaller ones lose more bits
    assert ((back - rows).abs() / rows.abs())[large].max() <= 1 / 16 + 1e-6
    assert torch.equal(rounded(torch.zeros(1, 16))[0].float(), torch.zeros(1, 16))


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_the_product_of_what_was_rounded(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(48, 32, bias=bias).bfloat16().requires_grad_(False)
    x = torch.randn(2, 5, 48).bfloat16()
    (a, a_scale), (b, b_scale) = rounded(x.flatten(0, 1)), rounded(linear.weight)
    want = (a.float() * a_scale) @ (b.float() * b_scale).T
    if bias:
        want += linear.bias.float()
    got = Float8Linear(linear)(x)
    assert got.shape == (2, 5, 32) and got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), want.view(2, 5, 32), atol=0.02, rtol=0.01)


def test_an_encoder_says_nearly_the_same() -> None:
    torch.manual_seed(0)
    model = VideoTransformer(Shape(width=64, depth=2, heads=2, hidden=128), (2, 2, 3)).bfloat16()
    model.eval().requires_grad_(False)
    video = torch.randn(2, *model.video_size).bfloat16()
    want = model(video).float()
    to_float8(model)
    got = model(video).float()
    assert cosine_similarity(got, want, dim=-1).min() > 0.99
    assert not torch.equal(got, want)


def test_layers_that_no_kernel_takes() -> None:
    model = VideoTransformer(Shape(width=24, depth=1, heads=2, hidden=48), (1, 1, 1)).bfloat16()
    with pytest.raises(ValueError, match="multiples of 16"):
        to_float8(model)


def test_a_torch_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    model = VideoTransformer(Shape(width=32, depth=1, heads=2, hidden=64), (1, 1, 1)).bfloat16()
    monkeypatch.delattr(torch.nn.functional, "scaled_mm")
    with pytest.raises(ValueError, match="has no scaled_mm"):
        to_float8(model)
