"""What every head gives: `Answer`, and the two things that all of them do to make one."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class Answer(NamedTuple):
    """What a head says of windows."""

    logits: Tensor  # B, K
    attention: Tensor  # B, T; sums to 1 over the real steps
    embedding: Tensor  # B, E; unit length


def softmax_over_time(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores (B, T, P) -> weights that sum to 1 over the real steps."""
    return scores.masked_fill(~mask[..., None], -1e4).softmax(1)


def unit(vectors: Tensor) -> Tensor:
    """(B, E) at length 1."""
    return F.normalize(vectors, dim=1, eps=1e-6)
