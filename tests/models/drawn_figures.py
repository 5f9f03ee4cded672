"""Made-up drawn figures for tests."""

from __future__ import annotations

import numpy as np

from models.drawn_figure import DrawnFigure


def waving(hands: tuple[bool, bool] = (False, True), pictures: int = 30) -> DrawnFigure:
    """A body at rest whose hands wave beside the head, 15 pictures a second."""
    body = np.zeros((pictures, 13, 2), np.float32)
    body[:, :7] = [
        (0, -0.57),
        *((0.1, -0.67), (-0.1, -0.67), (0.2, -0.6), (-0.2, -0.6), (0.08, -0.45), (-0.08, -0.45)),
    ]
    body[:, 7:] = [(0.5, 0), (-0.5, 0), (0.7, 0.8), (-0.7, 0.8), (0.62, 1.6), (-0.62, 1.6)]
    drawn = []
    for there, outward in zip(hands, (1, -1), strict=True):
        fingers = np.linspace((0, 0), (0.1, -0.3), 21)
        sway = 0.2 * np.sin(np.arange(pictures) / 3)
        hand = fingers + np.stack([outward * 0.8 + sway, np.full(pictures, -0.2)], 1)[:, None]
        drawn.append(hand.astype(np.float32) if there else None)
    for side, one in enumerate(drawn):
        if one is not None:
            body[:, 11 + side] = one[:, 0]
    return DrawnFigure(fps=15, body=body, hands=(drawn[0], drawn[1]))
