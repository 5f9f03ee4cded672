"""The arithmetic of memory against what torch keeps for the backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.vjepa2.model import Shape, VideoTransformer
from offline.finetuning.config import FinetuneSettings
from offline.finetuning.cost import block_bytes, step_cost

SHAPE = Shape(width=64, depth=2, heads=2, hidden=192)


def kept(half: bool) -> int:
    """Bytes that a block keeps of one clip of 48 tokens, beside its weights and the tables."""
    model = VideoTransformer(SHAPE, (3, 4, 4))
    block, found = model.blocks[0], dict[int, int]()
    block.requires_grad_(True)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    own |= {table.untyped_storage().data_ptr() for table in (model.cos, model.sin)}
    weights = {tuple(p.shape) for p in block.parameters() if p.ndim > 1}
    weights |= {(b, a) for a, b in weights}  # their copies in bfloat16, transposed

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tuple(tensor.shape) not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(1, 48, SHAPE.width, requires_grad=True)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        block(x, model.cos, model.sin)
    return sum(found.values())


@pytest.mark.parametrize("half", [False, True])
def test_a_block_keeps_what_the_arithmetic_says(half: bool) -> None:
    # More by the norms' means and deviations, and by attention's sums: five numbers a token.
    assert kept(half) == pytest.approx(block_bytes(SHAPE, 48, half=half), rel=0.03)


def test_published_sizes() -> None:
    """The figures of docs/guides/wlasl300.md."""
    large = Shape(width=1024, depth=24, heads=16, hidden=4096)
    cost = step_cost(large, 2048, 0, FinetuneSettings(precision="bfloat16", unfreeze="all"))
    assert cost.weights == pytest.approx(1.2e9, rel=0.02)
    assert cost.flop == pytest.approx(3 * 1.66e12, rel=0.01)
    assert cost.activations == pytest.approx(24 * 2048 * 40 * 1024)


def test_less_memory_by_each_way_of_saving_it() -> None:
    def cost(**settings: object) -> tuple[float, float]:
        found = step_cost(SHAPE, 64, 1000, FinetuneSettings(**settings))  # type: ignore[arg-type]
        return found.total(4), found.flop

    whole, again = cost(unfreeze="all"), cost(unfreeze="all", checkpointing=True)
    last, frozen, low = cost(unfreeze="1"), cost(unfreeze="0"), cost(lora=2)
    assert frozen[0] < last[0] < whole[0] and again[0] < whole[0]
    assert frozen[1] < last[1] == low[1] < whole[1] < again[1]
