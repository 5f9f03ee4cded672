"""Made-up outcomes of clips, and what the tests of the training commands share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from models.schema import EncoderSpec
from offline.data.examples import Example
from offline.scoring.outcomes import ClipOutcome, Outcomes
from offline.training.config import TrainSettings
from offline.training.selection import TrainingPlan

LANDMARK_OPTIONS = (
    *("--head", "landmarks", "--open-set", "--min-clips", "4"),
    *("--batch", "16", "--lr", "3e-3", "--threads", "1"),
)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The JSON object that a command prints last."""
    value: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return value


def plan(examples: list[Example], glosses: tuple[str, ...], dim: int) -> TrainingPlan:
    """An open set of landmark windows of 0.4 s."""
    spec = EncoderSpec(kind="landmarks", source="made up", revision="1", dim=dim, frames=4,
                       fps=10.0, short_side=32)  # fmt: skip
    return TrainingPlan(examples=examples, glosses=glosses, spec=spec, hop_s=0.1, open_set=True,
                        settings=TrainSettings())  # fmt: skip


def outcomes(
    right: Sequence[bool], groups: Sequence[str] | None = None, first: int = 0, glosses: int = 7
) -> Outcomes:
    """Clips `first`, `first + 1`, … of one gloss after the other; a wrong answer is the next one,
    and the right gloss then comes third."""
    return Outcomes(
        glosses=tuple(f"gloss {i}" for i in range(glosses)),
        clips=tuple(
            ClipOutcome(
                video_id=str(number),
                video=f"{number}.mp4",
                gloss=f"gloss {number % glosses}",
                signer=groups[number - first] if groups else f"video:{number}",
                fold=0,
                predicted=f"gloss {(number + (not ok)) % glosses}",
                p=0.9 if ok else 0.4,
                rank=1 if ok else 3,
            )
            for number, ok in enumerate(right, first)
        ),
    )
