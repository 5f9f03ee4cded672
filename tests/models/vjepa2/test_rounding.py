"""Weights in 8 bits: what the layer gives for what it gets is what counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.vjepa2.model import PictureEncoder, Shape, VideoTransformer
from models.vjepa2.rounding import round_rows, rounded_weights


def nearest(weight: Tensor) -> Tensor:
    scales = weight.abs().amax(1, keepdim=True) / 63
    return (weight / scales).round() * scales


@pytest.mark.parametrize("size", [40, 300])  # one block of columns, and several
def test_the_error_goes_where_it_is_not_seen(size: int) -> None:
    torch.manual_seed(0)
    given = torch.randn(2000, 10) @ torch.randn(10, size) + 0.05 * torch.randn(2000, size)
    weight = torch.randn(30, size)
    levels, scales = round_rows(weight, given.T @ given)
    assert (levels == levels.round()).all() and levels.abs().max() <= 63
    rounded = levels * scales[:, None]
    assert (rounded - weight).abs().max() < 30 * scales.max()

    def error(other: Tensor) -> float:
        return float((given @ (other - weight).T).square().mean().sqrt())

    assert error(rounded) < 0.35 * error(nearest(weight))


def test_inputs_that_are_all_alike_or_nothing() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 8)
    weight[2] = 0
    for moment in (torch.zeros(8, 8), torch.eye(8)):  # nothing makes good anything
        levels, scales = round_rows(weight, moment)
        torch.testing.assert_close(levels * scales[:, None], nearest(weight).nan_to_num())


def test_it_needs_clips() -> None:
    shape = Shape(width=12, depth=1, heads=1, hidden=12)
    encoder = PictureEncoder(VideoTransformer(shape, (1, 1, 1)), pooled=True)
    with pytest.raises(ValueError, match="needs clips to be calibrated on"):
        rounded_weights(encoder, [])
