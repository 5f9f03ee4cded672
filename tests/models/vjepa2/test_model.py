"""Our encoder against transformers' own class, and `reference.py` where that does not go.

transformers has neither version 2.1 nor pictures that are not square.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from models.vjepa2.model import Grid, PictureEncoder, Shape, VideoTransformer, rotations
from models.vjepa2.preprocess import preprocess
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


SMALL = Shape(width=32, depth=2, heads=2, hidden=64, patch=8)


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
    assert (lean.steps(lean(pictures)) - steps).abs().max() <= 1e-5


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


def encoder(*, pooled: bool, dtype: torch.dtype = torch.float32) -> PictureEncoder:
    """For 4 pictures of 32 x 48 px."""
    torch.manual_seed(0)
    model = VideoTransformer(SMALL, (2, 4, 6)).requires_grad_(False).to(dtype)
    return PictureEncoder(model, pooled=pooled).eval()


def pictures(batch: int, *size: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    size = size or (4, 32, 48, 3)
    return torch.randint(0, 256, (batch, *size), generator=generator, dtype=torch.uint8)


def test_equals_preprocess_and_the_model() -> None:
    torch.manual_seed(0)
    model = VideoTransformer(SMALL, (2, 4, 4)).eval().requires_grad_(False)
    big = np.random.default_rng(0).integers(0, 256, (4, 36, 36, 3), np.uint8)  # 36 = 32 * 256 / 224
    video = torch.from_numpy(preprocess(list(big), 32))[None]
    cropped = torch.from_numpy(big[None, :, 2:34, 2:34])
    tokens = PictureEncoder(model, pooled=False)(cropped)
    assert torch.equal(tokens, model(video))
    steps = PictureEncoder(model, pooled=True)(cropped)
    assert torch.equal(steps, model.steps(model(video)))
    torch.testing.assert_close(steps, tokens.view(1, 2, 16, 32).mean(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooled", [False, True])
def test_bfloat16_weights_give_float32_features_near_those_of_float32(pooled: bool) -> None:
    half = encoder(pooled=pooled, dtype=torch.bfloat16)(pictures(2))
    full = encoder(pooled=pooled)(pictures(2))
    assert half.dtype == full.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(half, full, dim=-1).min() >= 0.999


@pytest.mark.parametrize("pooled", [False, True])
def test_onnx_runtime_computes_the_same_for_any_batch(pooled: bool, tmp_path: Path) -> None:
    whole, file = encoder(pooled=pooled), tmp_path / "encoder.onnx"
    assert whole.export(file) == [file]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        [got] = session.run(None, {"pictures": pictures(batch).numpy()})
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, whole(pictures(batch)).numpy(), atol=1e-5, rtol=0)


def test_pictures_that_are_refused() -> None:
    whole = encoder(pooled=True)
    with pytest.raises(ValueError, match=r"pictures of torch\.float32"):
        whole(pictures(1).float())
    with pytest.raises(ValueError, match=r"\(4, 3, 48, 32\), not \(4, 3, 32, 48\)"):
        whole(pictures(1, 4, 48, 32, 3))
    with pytest.raises(ValueError, match="cast the model within"):
        whole.bfloat16()(pictures(1))
