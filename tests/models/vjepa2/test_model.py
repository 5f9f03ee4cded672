"""Our encoder against transformers' own class, and `reference.py` where that does not go.

transformers knows neither version 2.1 nor pictures that are not square.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from models.vjepa2.model import Grid, Shape, VideoTransformer, rotations
from models.vjepa2.state_dicts import converted
from tests.models.vjepa2.reference import PUBLISHED, Weights, random_weights, tokens

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


def of_2_1(width: int, depth: int, grid: Grid) -> tuple[VideoTransformer, Weights]:
    """A 2.1 encoder of a published width with random weights, and those."""
    _, heads, hidden = PUBLISHED[width]
    shape = Shape(width=width, depth=depth, heads=heads, hidden=hidden, version="2.1")
    weights = random_weights(width, hidden, depth)
    return VideoTransformer.loaded(converted(weights, shape), shape, grid), weights


def named_as_2_1(state: Weights) -> Weights:
    """The weights of transformers' encoder with the names that `reference.py` reads."""
    weights = {}
    for name, tensor in state.items():
        if ".attention.query." in name:
            parts = [state[name.replace("query", which)] for which in ("query", "key", "value")]
            weights[name.replace("attention.query", "attn.qkv")] = torch.cat(parts)
        else:
            weights[name.replace("attention.proj", "attn.proj")] = tensor
    names = {"layer.": "blocks.", "layernorm.": "norms_block.3.",
             "embeddings.patch_embeddings.": "patch_embed."}  # fmt: skip
    for theirs, name in names.items():
        weights = {
            key.replace(theirs, name, 1) if key.startswith(theirs) else key: tensor
            for key, tensor in weights.items()
        }
    return weights


def ours(model: Any, shape: Shape, grid: Grid | None = None) -> VideoTransformer:
    """Our encoder with the weights of `model`, for its own grid of tubelets or another one."""
    config = model.config
    side = config.crop_size // shape.patch
    grid = grid or (config.frames_per_clip // shape.tubelet, side, side)
    return VideoTransformer.loaded(converted(model.state_dict(), shape), shape, grid)


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


# Two blocks of B and L, one of g and G, for memory and time.
@pytest.mark.parametrize(("width", "depth"), [(768, 2), (1024, 2), (1408, 1), (1664, 1)])
def test_computes_version_2_1_at_every_published_width(width: int, depth: int) -> None:
    lean, weights = of_2_1(width, depth, (2, 3, 5))  # not square
    pictures = video(2, 4, 3, 48, 80)
    want = tokens(weights, pictures, lean.shape.heads, "2.1")
    got = lean(pictures)
    assert got.shape == want.shape == (2, 30, width)
    assert (got - want).abs().max() <= 1e-5


def test_computes_version_2_1_at_its_published_size() -> None:
    lean, weights = of_2_1(768, 1, (1, 24, 24))  # 384 px
    pictures = video(1, 2, 3, 384, 384)
    want = tokens(weights, pictures, 12, "2.1")
    assert (lean(pictures) - want).abs().max() <= 1e-5
    assert (tokens(weights, pictures, 12, "2.0") - want).abs().max() > 0.1


@pytest.mark.parametrize("grid", [(2, 2, 4), (3, 5, 3), (1, 1, 7)], ids=str)
def test_pictures_that_are_not_square(grid: Grid) -> None:
    model, shape = reference(**{**TINY, "hidden_size": 64})
    pictures = video(2, 2 * grid[0], 3, 16 * grid[1], 16 * grid[2])
    want = tokens(named_as_2_1(model.state_dict()), pictures, 2, "2.0")
    assert (ours(model, shape, grid)(pictures) - want).abs().max() <= 1e-5


def test_some_tokens_alone() -> None:
    model, shape = reference(**TINY)
    lean, pictures = ours(model, shape), video(2, 4, 3, 32, 32)
    x, cos, sin = lean.embed(pictures), lean.cos, lean.sin
    assert torch.equal(lean.attend(x, cos, sin), lean(pictures))
    # Those of the first time step are what a video of two frames has.
    first = lean.attend(x[:, :4], cos[:4], sin[:4])
    torch.testing.assert_close(first, ours(model, shape, (1, 2, 2))(pictures[:, :2]))
    # Each clip may keep others.
    kept = torch.tensor([[0, 1, 2, 3], [7, 0, 2, 5]])
    some = x.gather(1, kept[..., None].expand(-1, -1, 32))
    both = lean.attend(some, cos[kept][:, None], sin[kept][:, None])
    alone = [lean.attend(some[i : i + 1], cos[kept[i]], sin[kept[i]]) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(alone))
    torch.testing.assert_close(both[:1], first[:1])


def test_bfloat16_keeps_the_direction() -> None:
    model, shape = reference(crop_size=128, frames_per_clip=8, **SIZES["L"])
    of_2_0, pictures = ours(model, shape), video(1, 8, 3, 128, 128)
    for lean in (of_2_0, of_2_1(768, 2, (4, 8, 8))[0]):
        full = lean(pictures)
        half = lean.bfloat16()(pictures.bfloat16()).float()
        assert torch.nn.functional.cosine_similarity(full, half, dim=-1).min() >= 0.9999


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
    with pytest.raises(ValueError, match="patches of 16 px"):
        Shape(width=32, depth=1, heads=2, hidden=4, patch=8, version="2.1")
    with pytest.raises(ValueError, match="two rows and columns"):
        rotations((2, 1, 4), 64, "2.1")
