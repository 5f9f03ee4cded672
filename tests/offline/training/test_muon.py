"""Muon in float32 takes the steps of torch's, whose products are in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.heads import make_head
from offline.training.config import Precision
from offline.training.muon import Muon, orthogonal
from offline.training.trainer import CandidateHead

_RATE, _DECAY = 0.01, 0.05


@pytest.mark.parametrize("shape", [(30, 20), (20, 50), (16, 16)])
def test_it_takes_the_steps_of_torchs(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=draw)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [
        Muon([ours], _RATE, _DECAY),
        torch.optim.Muon([theirs], _RATE, weight_decay=_DECAY, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(5):
        gradient = torch.randn(shape, generator=draw)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved  # bfloat16 has 8 bits


@pytest.mark.parametrize("shape", [(30, 20), (20, 50), (16, 16)])
def test_singular_values_come_near_one_and_nothing_is_divided_by_zero(
    shape: tuple[int, int],
) -> None:
    matrix = 1e-3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrix))
    # The smallest of a square matrix may be too small for five rounds.
    assert values[:-1].min() > 0.6 and values.max() < 1.25
    assert torch.equal(orthogonal(torch.zeros(shape)), torch.zeros(shape))


@pytest.mark.parametrize(("precision", "kind"), [("float32", Muon), ("bfloat16", torch.optim.Muon)])
def test_its_products_have_the_precision_of_the_training(
    precision: Precision, kind: type[torch.optim.Optimizer]
) -> None:
    start = make_head({"kind": "landmarks", "classes": 3, "width": 8, "blocks": 1})
    candidate = CandidateHead.of(start, 1e-3, 0.05, "muon", precision)
    assert type(candidate.optimizers[1]) is kind


def test_it_goes_on_from_a_state_of_torchs() -> None:
    weight = nn.Parameter(torch.randn(8, 5, generator=torch.Generator().manual_seed(2)))
    weight.grad = torch.ones(8, 5)
    theirs: torch.optim.Optimizer = torch.optim.Muon([weight], _RATE, weight_decay=_DECAY)
    theirs.step()
    ours = Muon([weight], _RATE, _DECAY)
    ours.load_state_dict(theirs.state_dict())
    ours.step()
    # Nesterov's mean of equal gradients: after two steps 1 - 0.95 ** 2 of them.
    assert torch.allclose(ours.state[weight]["momentum_buffer"], torch.tensor(1 - 0.95**2))
