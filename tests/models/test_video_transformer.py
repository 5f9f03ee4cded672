"""Our encoder against transformers' own class, which is the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from models.video_transformer import Grid, Shape, VideoTransformer, converted, restored, rotations

# The published sizes at full width; two of their 24, 32 and 40 blocks, for memory and time.
SIZES: dict[str, dict[str, Any]] = {
    "L": {"hidden_size": 1024, "num_attention_heads": 16, "mlp_ratio": 4.0},
    "H": {"hidden_size": 1280, "num_attention_heads": 16, "mlp_ratio": 4.0},
    "g": {"hidden_size": 1408, "num_attention_heads": 22, "mlp_ratio": 48 / 11},
}


def reference(seed: int = 0, **changes: Any) -> tuple[Any, Shape]:
    """transformers' encoder of random weights, and its shape in our words."""
    torch.manual_seed(seed)
    config = VJEPA2Config(**{"num_hidden_layers": 2, "pred_num_hidden_layers": 1, **changes})
    model: Any = VJEPA2Model(config).encoder.eval().requires_grad_(False)
    with torch.no_grad():  # fresh norms and biases are ones and zeros, which would hide mistakes
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weight += 0.1 * torch.randn_like(weight)
    return model, Shape.of(config)


def ours(model: Any, shape: Shape, grid: Grid | None = None) -> VideoTransformer:
    """Our encoder with the weights of `model`, for its own grid of tubelets or another one."""
    config = model.config
    side = config.crop_size // shape.patch
    grid = grid or (config.frames_per_clip // shape.tubelet, side, side)
    lean = VideoTransformer(shape, grid).eval().requires_grad_(False)
    lean.load_state_dict(converted(model.state_dict(), shape))
    return lean


def video(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(7))


TINY: dict[str, Any] = {"crop_size": 32, "frames_per_clip": 4, "hidden_size": 32,
                        "num_attention_heads": 2, "initializer_range": 0.2}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_computes_the_same_function_at_every_published_width(size: str) -> None:
    model, shape = reference(crop_size=256, frames_per_clip=4, **SIZES[size])
    pictures = video(1, 4, 3, 256, 256)
    want = model(pictures).last_hidden_state
    got = ours(model, shape)(pictures)
    assert got.shape == want.shape == (1, 512, shape.width)
    assert (got - want).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crop_size": 64, "frames_per_clip": 16},
        {"qkv_bias": False},
        {"num_attention_heads": 1},  # a head of 32 features: two that do not turn
        {"hidden_size": 24},  # heads of 12: all of them turn
        {"tubelet_size": 4},
        {"patch_size": 8},
    ],
    ids=str,
)
def test_computes_the_same_function_in_other_shapes(changes: dict[str, Any]) -> None:
    model, shape = reference(**{**TINY, **changes})
    side, frames = model.config.crop_size, model.config.frames_per_clip
    pictures = video(2, frames, 3, side, side)
    want = model(pictures).last_hidden_state
    lean = ours(model, shape)
    assert (lean(pictures) - want).abs().max() <= 1e-5
    steps = want.unflatten(1, (frames // shape.tubelet, -1)).mean(2)
    assert (lean.steps(pictures) - steps).abs().max() <= 1e-5


def test_fewer_frames_than_the_checkpoint_was_made_for() -> None:
    model, shape = reference(**TINY)
    pictures = video(1, 2, 3, 32, 32)
    got = ours(model, shape, (1, 2, 2))(pictures)
    assert (got - model(pictures).last_hidden_state).abs().max() <= 1e-5


def test_a_wide_picture_has_the_positions_of_its_own_grid() -> None:
    # Its left half, alone, has the tables of a square picture's tokens.
    cos, _ = rotations((2, 3, 6), 32)
    square, _ = rotations((2, 3, 3), 32)
    torch.testing.assert_close(cos.view(2, 3, 6, 32)[:, :, :3], square.view(2, 3, 3, 32))
    _, shape = reference(**TINY)
    assert VideoTransformer(shape, (2, 2, 4))(video(1, 4, 3, 32, 64)).shape == (1, 16, 32)


def test_bfloat16_keeps_the_direction() -> None:
    model, shape = reference(crop_size=128, frames_per_clip=8, **SIZES["L"])
    lean, pictures = ours(model, shape), video(1, 8, 3, 128, 128)
    full = lean(pictures)
    half = lean.bfloat16()(pictures.bfloat16()).float()
    assert torch.nn.functional.cosine_similarity(full, half, dim=-1).min() >= 0.9999


def test_weights_go_both_ways_and_strictly() -> None:
    model, shape = reference(**TINY)
    theirs = model.state_dict()
    back = restored(converted(theirs, shape), shape)
    assert back.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(back[name], tensor), name
    key = "layer.1.attention.query.weight"
    with pytest.raises(ValueError, match=f"lacks {key}"):
        converted({name: t for name, t in theirs.items() if name != key}, shape)
    with pytest.raises(ValueError, match=r"has layer\.2\.norm1\.bias"):
        converted({**theirs, "layer.2.norm1.bias": theirs["layer.1.norm1.bias"]}, shape)
    with pytest.raises(ValueError, match=r"blocks\.0\.fc1\.bias is \(3,\)"):
        converted({**theirs, "layer.0.mlp.fc1.bias": torch.zeros(3)}, shape)
    with pytest.raises(ValueError, match="heads"):
        converted({**theirs, key: torch.zeros(3, 32)}, shape)


@pytest.mark.parametrize("size", [(3, 3, 32, 32), (4, 3, 48, 32), (4, 3, 32, 16), (4, 1, 32, 32)])
def test_a_video_of_another_size(size: tuple[int, ...]) -> None:
    _, shape = reference(**TINY)
    with pytest.raises(ValueError, match=r"not \(4, 3, 32, 32\)"):
        VideoTransformer(shape, (2, 2, 2))(torch.zeros(1, *size))
    with pytest.raises(ValueError, match="no video"):
        VideoTransformer(shape, (0, 2, 2))


def test_a_shape_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="relu"):
        Shape.of(VJEPA2Config(hidden_act="relu"))
    with pytest.raises(ValueError, match="heads"):
        Shape(width=30, depth=1, heads=4, hidden=4)
