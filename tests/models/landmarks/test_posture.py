"""What a landmark head makes of rows first: lowered hands are hidden, short gaps filled."""

from __future__ import annotations

import numpy as np
import torch

from models.heads import LandmarkClassifier
from models.landmarks import layout
from models.landmarks.posture import describe, fill_gaps, hide_lowered


def _rows(steps: int = 12) -> torch.Tensor:
    """(1, T, D) A body and a right hand that moves to the right, raised."""
    rows = torch.zeros(1, steps, layout.DIM)
    rows[..., layout.BODY] = torch.linspace(-1, 1, 26)
    x = torch.linspace(0, 1.1, steps)[:, None].expand(-1, 21)
    hand = torch.stack([x, torch.full_like(x, 0.2), torch.zeros_like(x)], -1)
    rows[0, :, layout.RIGHT_HAND] = hand.flatten(1)
    rows[..., layout.RIGHT_SEEN] = 1
    return rows


def test_a_lowered_hand_is_hidden_and_its_flag_with_it() -> None:
    rows = _rows()
    resting = rows.clone()
    resting[..., layout.LEFT_HAND] = 1.2
    resting[..., layout.LEFT_SEEN] = 1
    assert torch.equal(hide_lowered(resting), rows)
    assert torch.equal(hide_lowered(rows), rows)


def test_a_short_gap_is_filled_between_its_ends_and_a_long_one_stays() -> None:
    rows = _rows()
    gap = rows.clone()
    gap[:, 5:7, layout.RIGHT_HAND] = 0
    filled = fill_gaps(gap)
    assert torch.allclose(filled[..., layout.RIGHT_HAND], rows[..., layout.RIGHT_HAND], atol=0.06)
    assert torch.equal(filled[:, :5], gap[:, :5])
    lost = rows.clone()
    lost[..., layout.RIGHT_HAND] = 0
    assert torch.equal(fill_gaps(lost), lost)


def test_elbows_and_the_bodys_wrists_change_nothing() -> None:
    rows = _rows()
    without = rows.clone()
    without[..., layout.BODY.start + 18 : layout.BODY.stop] = 0
    assert torch.equal(describe(rows)[0], describe(without)[0])


def test_a_resting_hand_changes_no_prediction() -> None:
    torch.manual_seed(0)
    head = LandmarkClassifier(classes=4, width=16, blocks=1).eval()
    rows = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, (1, 20, layout.DIM))).float()
    rows[..., layout.LEFT_HAND] = 0
    rows[..., layout.LEFT_SEEN] = 0
    resting = rows.clone()
    resting[..., layout.LEFT_HAND] = 1.3
    resting[..., layout.LEFT_SEEN] = 1
    mask = torch.ones(1, 20, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(head(rows, mask).logits, head(resting, mask).logits)
