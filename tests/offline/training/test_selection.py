"""Logit adjustment: how often a gloss was drawn is taken out of its logit, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import torch

from models.heads import HEADS, last_layer, make_head
from models.landmarks import layout
from offline.training.batches import TrainClips
from offline.training.selection import adjust_logits


def _clips(labels: list[int], weights: list[float], classes: int) -> TrainClips:
    rows = [np.zeros((4, 8), np.float32)] * len(labels)
    return TrainClips(rows=rows, labels=labels, weights=weights, classes=classes, idle=None,
                      frames=4, fps=15.0)  # fmt: skip


def test_a_gloss_that_was_drawn_seldom_gains_what_that_cost_it() -> None:
    """Two of four classes are to be recognised; one was drawn three times as often."""
    clips = _clips([0, 1, 2, 3, 3], [0.45, 0.15, 0.2, 0.1, 0.1], classes=4)
    for kind in HEADS:
        head = make_head({"kind": kind, "dim": layout.DIM, "classes": 4}).eval()
        features, mask = torch.randn(2, 4, layout.DIM), torch.ones(2, 4, dtype=torch.bool)
        before = head(features, mask).logits.detach()
        adjust_logits(head, clips, 2)
        gained = (head(features, mask).logits.detach() - before).mean(0)
        want = torch.tensor([math.log(0.3 / 0.45), math.log(0.3 / 0.15), 0.0, 0.0])
        assert torch.allclose(gained, want, atol=1e-5)


def test_a_gloss_without_a_clip_is_left_alone() -> None:
    head = make_head({"kind": "gloss", "dim": 8, "classes": 3})
    before = last_layer(head).bias.detach().clone()
    adjust_logits(head, _clips([0, 2], [0.5, 0.5], classes=3), 3)
    assert torch.equal(last_layer(head).bias.detach(), before)
