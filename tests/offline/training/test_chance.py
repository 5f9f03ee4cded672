"""A head that has learnt nothing is told from one that has, and the advice fits the options."""

from __future__ import annotations

import math

import numpy as np
import pytest

from offline.training.batches import TrainClips
from offline.training.chance import chance_warning, guessing_loss, least_loss
from offline.training.config import TrainChoices


def clips(classes: int, weights: list[float] | None = None) -> TrainClips:
    rows = [np.zeros((4, 8), np.float32)] * classes
    return TrainClips(rows=rows, labels=list(range(classes)), weights=weights or [1.0] * classes,
                      classes=classes, idle=None, frames=4, fps=15.0)  # fmt: skip


def warning(loss: float, top1: float, count: int, **given: object) -> str | None:
    choices = TrainChoices(**given)  # type: ignore[arg-type]
    glosses = [str(n % 10) for n in range(count)]
    settings = choices.resolved("landmarks", 10)
    return chance_warning([3.0] * 30 + [loss] * 20, clips(10), (top1, glosses), choices, settings)


def test_guessing_has_the_entropy_of_what_is_drawn() -> None:
    assert guessing_loss(clips(10)) == pytest.approx(math.log(10))
    assert guessing_loss(clips(2, [3.0, 1.0])) == pytest.approx(0.5623, abs=1e-4)
    assert least_loss(10, 0.0) == 0.0
    assert least_loss(10, 0.1) == pytest.approx(0.5003, abs=1e-4)


def test_a_loss_near_guessing_is_told_with_what_to_leave_out() -> None:
    said = warning(2.28, 0.5, 40, batch=32, epochs=10, lr=(1e-4,))
    assert said and "its loss is 2.28" in said and "guessing has 2.30" in said
    assert "leave out --batch, --epochs, --lr" in said and "lr 0.002" in said
    said = warning(2.28, 0.5, 40)
    assert said and "leave out" not in said and "more --epochs" in said


def test_accuracy_near_chance_is_told_even_where_the_loss_fell() -> None:
    said = warning(0.9, 0.15, 40)
    assert said and "of 40 clips" in said and "15 % are right" in said


@pytest.mark.parametrize(("loss", "top1", "count"), [(1.3, 0.8, 40), (1.3, 0.3, 40), (1.3, 0, 5)])
def test_a_head_that_learnt_gets_no_warning(loss: float, top1: float, count: int) -> None:
    assert warning(loss, top1, count) is None
