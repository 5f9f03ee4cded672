"""Episodes on made-up embeddings, where it is plain what ought to come out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.landmarks import layout
from offline.data.examples import Example
from offline.evaluation import EpisodeSettings
from offline.evaluation.few_shot import Crossing, score, teachable
from offline.scoring.clip_predictions import WindowOutputs
from tests.offline.made_up import plan

NEW = ("ask", "bed", "cat")
KNOWN = ("yes",)
AXES = {gloss: axis for axis, gloss in enumerate((*NEW, *KNOWN, "idle"))}
SETTINGS = EpisodeSettings(ways=(3,), takes=(2,))


def _examples() -> list[Example]:
    return [
        Example(
            video=f"{gloss}{group}{n}.mp4",
            video_id=f"{gloss}{group}{n}",
            gloss=gloss,
            group=f"{gloss if gloss == 'idle' else ''}{group}",
            split="",
            variant="original",
            stored=np.zeros((8, layout.DIM), np.float32),
        )
        for gloss in (*NEW, *KNOWN, "idle")
        for group in ("anna", "ben", "carl")
        for n in (0, 1)
    ]


def _towards(gloss: str) -> NDArray[np.float32]:
    look = np.zeros(len(AXES), np.float32)
    look[AXES[gloss]] = 1
    return look


def _crossing(examples: list[Example], shown_as: dict[str, str]) -> Crossing:
    """Clips of a gloss have the outputs and the embedding of the gloss in `shown_as`."""
    outputs = {}
    for example in examples:
        look = shown_as.get(example.gloss, example.gloss)
        sure = np.array([5.0 if look == "yes" else -5.0, 0.0], np.float32)
        outputs[example.video_id] = WindowOutputs(
            ends=np.arange(8),
            logits=np.tile(sure, (8, 1)),
            embeddings=np.tile(_towards(look), (8, 1)),
        )
    return Crossing(
        new=NEW,
        known=KNOWN,
        background=np.stack([_towards("yes"), _towards("idle")]),
        takes={e.video_id: _towards(e.gloss) for e in examples if e.gloss in NEW},
        outputs=outputs,
    )


def _figures(
    examples: list[Example], shown_as: dict[str, str], settings: EpisodeSettings = SETTINGS
) -> list[dict[str, Any]]:
    taught = plan(examples, KNOWN, layout.DIM)
    rows: list[dict[str, Any]] = score([_crossing(examples, shown_as)], taught, settings, 0)[
        "taught"
    ]
    return rows


def test_signs_that_look_like_their_takes_are_right_and_cost_nothing() -> None:
    examples = _examples()
    (figures,) = _figures(examples, {})
    for name in ("across_signers", "across_signers_among_all"):
        assert (figures[name]["clips"], figures[name]["right"]) == (18, 1.0), name
    assert figures["known_before"]["right"] == figures["known_after"]["right"] == 1.0
    assert figures["false_signs_per_min_before"] == figures["false_signs_per_min_after"] == 0.0


def test_signs_that_look_like_others_are_wrong_and_the_cost_shows() -> None:
    examples = _examples()
    confused = {"ask": "bed", "yes": "cat", "idle": "ask"}
    (figures,) = _figures(examples, confused)
    assert figures["across_signers"]["right"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["known_after"]["right"] == 0.0
    assert figures["false_signs_per_min_before"] == 0.0
    assert figures["false_signs_per_min_after"] > 0


def test_each_number_of_takes_and_of_signs_is_measured() -> None:
    settings = EpisodeSettings(ways=(2, 3), takes=(1, 2))
    rows = _figures(_examples(), {}, settings)
    assert [(row["ways"], row["takes"]) for row in rows] == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert all(row["across_signers"]["right"] == 1.0 for row in rows)


def test_glosses_without_a_clip_to_read_beside_the_takes_are_not_taught() -> None:
    examples = [e for e in _examples() if e.gloss != "cat" or e.video_id == "catanna0"]
    assert teachable(examples, takes=5) == ("ask", "bed", "yes")
