"""Features of a posture: the shape of the hands, where they are and what they are near to.

    landmark rows -> [posture]: hide, fill gaps, describe -> `models.heads.LandmarkClassifier`

Plain tensor code, so that it becomes part of the exported head. Elbows and the body's wrists are
not used: landmarks that others made often lack them (`offline.encoding.landmark_files`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

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
_SHOULDERS = [7, 8]
_BODY = 2 * (len(_FACE) + len(_SHOULDERS))
_ONE_HAND = 63 + 60 + 5 + 7 + 2 + 10 + 35 + 2
_BOTH = 2 + 25
FEATURES = _BODY + 2 * _ONE_HAND + _BOTH
HAND_FLAGS = [_BODY, _BODY + _ONE_HAND]  # where `present` is that of the left and right hand

_REACH, _SPREAD = 4, 1.3  # steps: gaps are filled from so far away, with weights of this spread
_LEAST = 0.03  # weight of what was seen nearby from which a gap is filled


def hide_lowered(rows: Tensor) -> Tensor:
    """Rows (..., D) without hands that hang down or lie in the lap.

    Studios leave them out of the picture and webcams show them: unless both look alike, a resting
    hand is taken for the second one of a two-handed sign.
    """
    parts, flags = [rows[..., layout.BODY]], []
    for side, hand in enumerate(layout.HANDS):
        up = (layout.LOW - rows[..., hand.start + 1, None] > 0).to(rows.dtype)
        parts.append(rows[..., hand] * up)
        flags.append(rows[..., layout.LEFT_SEEN + side, None] * up)
    return torch.cat([*parts, *flags], -1)


def fill_gaps(rows: Tensor) -> Tensor:
    """Rows (B, T, D) with hands that were lost for a few steps put between where they were seen."""
    parts = [rows[..., layout.BODY]]
    for hand in layout.HANDS:
        points = rows[..., hand]
        there = (points.abs().sum(-1, keepdim=True) > 0).to(rows.dtype)
        weight = _near(there)
        near = _near(points) / (weight + 1e-6) * (weight > _LEAST).to(rows.dtype)
        parts.append(points + (1 - there) * near)
    return torch.cat([*parts, rows[..., layout.SEEN]], -1)


def _near(values: Tensor) -> Tensor:
    """The weighted sum of values (B, T, ...) around each step."""
    steps = values.shape[1]
    padded = F.pad(values, (0, 0, _REACH, _REACH))
    total = torch.zeros_like(values)
    for shift in range(2 * _REACH + 1):
        weight = math.exp(-0.5 * ((shift - _REACH) / _SPREAD) ** 2)
        total = total + weight * padded[:, shift : shift + steps]
    return total


def describe(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B, T, D) -> features (B, T, F), and 1 where a feature's hands are present, else 0."""
    body = torch.unflatten(rows[..., layout.BODY], -1, (13, 2))[..., _FACE + _SHOULDERS, :]
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
        has_body.expand(-1, -1, _BODY),
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
            _distances(places.mean(-2, keepdim=True), body[..., _SHOULDERS, :]),
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
