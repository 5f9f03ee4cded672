"""Features of a posture: the shape of the hands, where they are and what they are near to.

    landmark rows -> [posture] -> features of `models.heads.LandmarkClassifier`

Plain tensor code, so that it becomes part of the exported head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.landmarks import layout

_FINGERS = (
    (0, 1, 2, 3, 4),
    (0, 5, 6, 7, 8),
    (0, 9, 10, 11, 12),
    (0, 13, 14, 15, 16),
    (0, 17, 18, 19, 20),
)
_PARENT = tuple(finger[i] for finger in _FINGERS for i in range(4))
_CHILD = tuple(finger[i + 1] for finger in _FINGERS for i in range(4))
_TIPS = list(layout.FINGERTIPS)
_TIP_PAIRS = ((0, 0, 0, 0, 1, 2, 3), (1, 2, 3, 4, 2, 3, 4))
_FACE = [0, 1, 2, 3, 4, 5, 6]  # body points: nose, eyes, ears, mouth
_ONE_HAND = 63 + 60 + 5 + 7 + 2 + 10 + 35 + 4
_BOTH = 2 + 25
FEATURES = 26 + 2 * _ONE_HAND + _BOTH
HAND_FLAGS = [26, 26 + _ONE_HAND]  # where `present` is that of the left and of the right hand


def describe(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B, T, D) -> features (B, T, F), and 1 where a feature's hands are present, else 0."""
    body = torch.unflatten(rows[..., layout.BODY], -1, (13, 2))
    # B, T, hand, point, (x, y, z): the two hands lie next to each other
    both = slice(layout.LEFT_HAND.start, layout.RIGHT_HAND.stop)
    hands = torch.unflatten(rows[..., both], -1, (2, 21, 3))
    has_body = _present(body)  # B, T, 1
    has_hands = _present(hands)  # B, T, 2, 1
    has_both = has_hands.prod(-2)
    left, right = hands[..., 0, :, :], hands[..., 1, :, :]
    parts = [
        body.flatten(-2),
        _hand(hands, body[..., None, :, :]).flatten(-2),
        left[..., 0, :2] - right[..., 0, :2],
        _distances(left[..., _TIPS, :2], right[..., _TIPS, :2]),
    ]
    has_shapes = has_hands.expand(-1, -1, -1, _ONE_HAND).flatten(-2)
    present = [
        has_body.expand(-1, -1, 26),
        has_shapes,
        has_both.expand(-1, -1, _BOTH),
    ]
    return torch.cat(parts, -1), torch.cat(present, -1)


def _hand(hand: Tensor, body: Tensor) -> Tensor:
    """Hands (B, T, 2, 21, 3): their shape, position, and distances of fingertips to the face."""
    wrist = hand[..., :1, :]
    shape = hand - wrist
    bones = shape[..., _CHILD, :] - shape[..., _PARENT, :]
    bones = bones / (bones.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    tips = shape[..., _TIPS, :]
    reach = (tips.square().sum(-1) + 1e-6).sqrt()
    size = (shape[..., [5, 9, 13, 17], :].square().sum(-1) + 1e-6).sqrt().mean(-1, keepdim=True)
    reach = reach / (size + 0.05)
    pair = tips[..., _TIP_PAIRS[0], :] - tips[..., _TIP_PAIRS[1], :]
    pinch = (pair.square().sum(-1) + 1e-6).sqrt() / (size + 0.05)
    places = hand[..., _TIPS, :2]
    mouth = body[..., 5:7, :].mean(-2)
    return torch.cat(
        [
            (shape / (size[..., None] + 0.05)).flatten(-2),
            bones.flatten(-2),
            reach,
            pinch,
            hand[..., 0, :2],
            (places - mouth[..., None, :]).flatten(-2),
            _distances(places, body[..., _FACE, :]),
            _distances(places.mean(-2, keepdim=True), body[..., [7, 8, 9, 10], :]),
        ],
        -1,
    )


def _present(points: Tensor) -> Tensor:
    """1 where any of the points (..., P, C) is not zero: (..., 1)."""
    return (points.abs().sum((-2, -1)) > 0).to(points.dtype)[..., None]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(..., P * Q) Between each of a (..., P, C) and each of b (..., Q, C)."""
    gap = a[..., :, None, :] - b[..., None, :, :]
    return (gap.square().sum(-1) + 1e-6).sqrt().flatten(-2)
