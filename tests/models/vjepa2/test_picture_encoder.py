from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from models.vjepa2.model import PictureEncoder, Shape, VideoTransformer
from models.vjepa2.preprocess import preprocess

TINY = Shape(width=32, depth=2, heads=2, hidden=64, patch=8)


def encoder(*, pooled: bool, dtype: torch.dtype = torch.float32) -> PictureEncoder:
    """For 4 pictures of 32 x 48 px."""
    torch.manual_seed(0)
    model = VideoTransformer(TINY, (2, 4, 6)).requires_grad_(False).to(dtype)
    return PictureEncoder(model, pooled=pooled).eval()


def pictures(batch: int, *size: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    size = size or (4, 32, 48, 3)
    return torch.randint(0, 256, (batch, *size), generator=generator, dtype=torch.uint8)


def test_equals_preprocess_and_the_model() -> None:
    torch.manual_seed(0)
    model = VideoTransformer(TINY, (2, 4, 4)).eval().requires_grad_(False)
    big = np.random.default_rng(0).integers(0, 256, (4, 36, 36, 3), np.uint8)  # 36 = 32 * 256 / 224
    video = torch.from_numpy(preprocess(list(big), 32))[None]
    cropped = torch.from_numpy(big[None, :, 2:34, 2:34])
    tokens = PictureEncoder(model, pooled=False)(cropped)
    assert torch.equal(tokens, model(video))
    steps = PictureEncoder(model, pooled=True)(cropped)
    assert torch.equal(steps, model.steps(video))
    torch.testing.assert_close(steps, tokens.view(1, 2, 16, 32).mean(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooled", [False, True])
def test_bfloat16_weights_give_float32_features_near_those_of_float32(pooled: bool) -> None:
    half = encoder(pooled=pooled, dtype=torch.bfloat16)(pictures(2))
    full = encoder(pooled=pooled)(pictures(2))
    assert half.dtype == full.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(half, full, dim=-1).min() >= 0.999


@pytest.mark.parametrize("pooled", [False, True])
def test_onnx_runtime_says_the_same_for_any_batch(pooled: bool, tmp_path: Path) -> None:
    whole, file = encoder(pooled=pooled), tmp_path / "encoder.onnx"
    torch.onnx.export(
        whole,
        (pictures(2),),
        file,
        input_names=["pictures"],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        [got] = session.run(None, {"pictures": pictures(batch).numpy()})
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, whole(pictures(batch)).numpy(), atol=1e-5, rtol=0)


def test_what_it_does_not_take() -> None:
    whole = encoder(pooled=True)
    with pytest.raises(ValueError, match=r"pictures of torch\.float32"):
        whole(pictures(1).float())
    with pytest.raises(ValueError, match=r"\(4, 3, 48, 32\), not \(4, 3, 32, 48\)"):
        whole(pictures(1, 4, 48, 32, 3))
    with pytest.raises(ValueError, match="cast the model within"):
        whole.bfloat16()(pictures(1))
