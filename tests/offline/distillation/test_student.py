from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from models.vjepa2.video_transformer import Shape, VideoTransformer
from offline.distillation.student import Lesson, Student, TeachSettings, learnt, teach


def lessons(count: int = 8) -> list[Lesson]:
    """Videos of 7 ticks of one grey level each; the teacher tells it, but not always."""
    draw = np.random.default_rng(0)
    made = []
    for number in range(count):
        level = 20 + 200 * number // count
        pictures = np.clip(level + draw.integers(-9, 9, (7, 16, 16, 3)), 0, 255).astype(np.uint8)
        targets = np.full((7, 3), level, np.float32)
        targets[:, 1] *= -1
        targets[:, 2] = 5  # nothing to learn
        targets[number % 7, :] = np.nan
        made.append(Lesson(pictures=pictures, targets=targets, mirrored=None))
    return made


def student(videos: list[Lesson]) -> Student:
    torch.manual_seed(0)
    shape = Shape(width=16, depth=1, heads=1, hidden=32, patch=8)
    return Student(VideoTransformer(shape, (2, 2, 2)), videos)


SETTINGS = TeachSettings(steps=60, batch=8, lr=1e-2, light=0.0)


def test_learns_what_the_teacher_tells() -> None:
    videos = lessons()
    taught = student(videos)
    before = learnt(taught, videos)
    losses: list[float] = []
    teach(taught, videos, SETTINGS, progress=lambda step, loss, now: losses.append(loss))
    assert len(losses) == 60 and losses[-1] < 0.3 * losses[0]
    after = learnt(taught, videos)
    assert after["r2"] > 0.8 > before["r2"]
    assert after["correlation"] > 0.9
    assert after["steps"] == 16


def test_goes_on_exactly_from_a_saved_state() -> None:
    videos = lessons()
    whole, part = student(videos), student(videos)
    kept: list[dict[str, Any]] = []

    def keep(step: int, loss: float, now: Any) -> None:
        if step == 7:
            kept.append(copy.deepcopy(now()))

    settings = TeachSettings(steps=12, batch=4)
    teach(whole, videos, settings, progress=keep)
    teach(part, videos, settings, state=kept[0])
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, part.state_dict()[name]), name


def test_a_video_of_which_nothing_is_told_does_no_harm() -> None:
    videos = lessons()
    silent = Lesson(
        pictures=videos[0].pictures, targets=np.full((7, 3), np.nan, np.float32), mirrored=None
    )
    taught = student(videos)
    teach(taught, [silent], TeachSettings(steps=2, batch=2))
    assert all(p.isfinite().all() for p in taught.parameters())
