from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.faults import DeviceLost, OutOfMemory
from models.vjepa2 import torch_engine
from models.vjepa2.encoder import on_host
from models.vjepa2.model import Shape, VideoTransformer
from models.vjepa2.preprocess import crop_pictures
from models.vjepa2.runs import Buckets
from models.vjepa2.torch_engine import TorchEngine

# What a clip's features may differ by between batches, of features of about unit size: products of
# other sizes add up in another order.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}


def model() -> VideoTransformer:
    """For 4 pictures of 32 px."""
    torch.manual_seed(0)
    made = VideoTransformer(Shape(width=32, depth=2, heads=2, hidden=64, patch=8), (2, 4, 4))
    return made.eval().requires_grad_(False)


def engine(**changes: Any) -> TorchEngine:
    return TorchEngine(model(), **{"pooled": True, "device": "cpu", **changes})


def clip(seed: int, frames: int = 4) -> list[NDArray[np.uint8]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 256, (36, 50, 3), np.uint8) for _ in range(frames)]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_clip_is_the_same_alone_and_in_any_batch_and_bucket(dtype: str) -> None:
    clips = [clip(seed) for seed in range(11)]
    alone = engine(dtype=dtype, sizes=[1])
    want = np.stack([on_host(alone.encode([one]))[0] for one in clips])
    assert want.shape == (11, 2, 32) and want.dtype == np.float32
    for sizes in ([1, 2, 4, 8], [8], [3, 16]):  # the latter two have places to fill
        other = engine(dtype=dtype, sizes=sizes)
        got = on_host(other.encode(clips))
        np.testing.assert_allclose(got, want, atol=TOLERANCE[dtype], rtol=0)
        backwards = on_host(other.encode(clips[::-1]))[::-1]
        np.testing.assert_allclose(backwards, want, atol=TOLERANCE[dtype], rtol=0)
    assert np.abs(want[0] - want[1]).max() > 2 * TOLERANCE[dtype]


def test_tokens_equal_the_models() -> None:
    one = clip(1)
    [got] = on_host(engine(pooled=False).encode([one]))
    pixels = torch.from_numpy(crop_pictures(one, 32)).float() / 255
    pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    want = model()(pixels.permute(0, 3, 1, 2)[None])[0]
    assert got.shape == (32, 32)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


def test_features_are_the_callers_own() -> None:
    whole = engine()
    first = whole.encode([clip(1)])
    kept = first.clone()
    whole.encode([clip(2)])
    assert torch.equal(first, kept)


def test_out_of_memory_fails_one_batch_and_the_next_takes_smaller_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = engine(sizes=[1, 2, 4])
    clips = [clip(seed) for seed in range(4)]
    want = on_host(whole.encode(clips))
    sizes: list[int] = []

    def run(size: int) -> Tensor:
        sizes.append(size)
        if size == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return real(size)

    assert whole._runs is not None
    real = whole._runs.run
    monkeypatch.setattr(whole._runs, "run", run)
    with pytest.raises(OutOfMemory) as failed:
        whole.encode(clips)
    assert isinstance(failed.value.__cause__, torch.OutOfMemoryError)
    np.testing.assert_allclose(on_host(whole.encode(clips)), want, atol=1e-5)
    assert sizes == [4, 2, 2]


def test_no_room_to_open_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch_engine, "Runs", full)
    with pytest.raises(ValueError, match="cpu has no memory for this encoder"):
        engine()


def test_an_error_that_stays_is_a_lost_device(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine()
    assert whole._runs is not None

    def broken(size: int) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(whole._runs, "run", broken)
    with pytest.raises(RuntimeError, match="illegal memory"):  # our fault: a CPU still responds
        whole.encode([clip(1)])
    monkeypatch.setattr(torch_engine, "responds", lambda device: False)
    with pytest.raises(DeviceLost) as failed:
        whole.encode([clip(1)])
    assert "illegal memory" in str(failed.value.__cause__)


def test_what_it_refuses() -> None:
    whole = engine()
    with pytest.raises(ValueError, match="6 frames, not 4"):
        whole.encode([clip(1), clip(1, frames=6)])
    with pytest.raises(ValueError, match="no dtype 'int8'"):
        engine(dtype="int8")
    whole.close()
    with pytest.raises(ValueError, match="closed"):
        whole.encode([clip(1)])


def test_runs_measured_are_dealt_by_their_cost() -> None:
    whole = engine(sizes=[1, 2, 4])
    assert whole._runs is not None
    whole._runs.buckets = Buckets({1: 3.0, 2: 4.0, 4: 5.0})
    clips = [clip(seed) for seed in range(3)]
    want = on_host(engine(sizes=[1]).encode(clips))
    np.testing.assert_allclose(on_host(whole.encode(clips)), want, atol=1e-5)  # one padded run
