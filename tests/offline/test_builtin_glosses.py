"""The built-in's vocabulary: what the rule keeps, and heads that keep only that."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models.heads import HeadEnsemble, LandmarkClassifier
from models.landmarks import layout
from offline.builtin_glosses import kept_glosses, main
from offline.training.checkpoint import Checkpoint, keep_glosses, load_checkpoint, save_checkpoint

_GLOSSES = ["accident", "hello", "tree", "zoo"]
_CLASSES = 7  # two other glosses, idle


def _checkpoint(folder: Path) -> Checkpoint:
    torch.manual_seed(0)
    heads = [LandmarkClassifier(classes=_CLASSES, width=16, blocks=1).eval() for _ in range(2)]
    same = {gloss: [f"another word for {gloss}"] for gloss in _GLOSSES}
    card = {"glosses": _GLOSSES, "classes": _CLASSES, "data": {"same_sign": same}}
    background = np.arange(14, dtype=np.float32).reshape(7, 2)
    save_checkpoint(folder / "head.pt", heads, card, background)
    return load_checkpoint(folder / "head.pt")


def _logits(head: HeadEnsemble) -> torch.Tensor:
    rows = torch.randn(3, 8, layout.DIM, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits: torch.Tensor = head(rows, torch.ones(3, 8, dtype=torch.bool)).logits
    return logits


def test_a_dropped_gloss_becomes_a_sign_outside_the_vocabulary(tmp_path: Path) -> None:
    before = _checkpoint(tmp_path)
    after = keep_glosses(before, ["hello", "zoo"])
    assert after.card["glosses"] == ["hello", "zoo"]
    assert list(after.card["data"]["same_sign"]) == ["hello", "zoo"]
    was, now = _logits(before.head), _logits(after.head)
    assert torch.allclose(now[:, :2], was[:, [1, 3]], atol=1e-5)
    # The logits' sum of powers stays: what the two glosses had is idle's now.
    assert torch.allclose(now.logsumexp(1), was.logsumexp(1), atol=1e-4)
    assert after.background[:, 0].tolist() == [2, 6, 0, 4, 8, 10, 12]


def test_heads_without_other_signs_and_unknown_glosses_are_refused(tmp_path: Path) -> None:
    checkpoint = _checkpoint(tmp_path)
    with pytest.raises(ValueError, match="do not know moon"):
        keep_glosses(checkpoint, ["moon"])
    closed = {**checkpoint.card, "head": {**checkpoint.card["head"], "idle": False}}
    closed_checkpoint = Checkpoint(
        head=checkpoint.head, card=closed, background=checkpoint.background
    )
    with pytest.raises(ValueError, match="--open-set"):
        keep_glosses(closed_checkpoint, ["hello"])


def _clip(gloss: str, source: str, rank: int) -> dict[str, object]:
    return {"video_id": f"{source}/{gloss}{rank}", "gloss": gloss, "rank": rank}


def test_the_rule_is_by_landmark_clips_and_the_command_writes_heads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [
        *(_clip("accident", "wlasl/landmarks", rank) for rank in (1, 2, 3)),
        *(_clip("accident", "other/videos", 1) for _ in range(5)),
        *(_clip("hello", "wlasl/landmarks", 4) for _ in range(3)),  # everyday
        *(_clip("tree", "wlasl/landmarks", rank) for rank in (1, 1, 2)),
    ]
    report = {"glosses": _GLOSSES, "clips": clips}
    assert kept_glosses(report) == ["hello", "tree"]

    before = _checkpoint(tmp_path)
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report))
    out = tmp_path / "kept"
    assert main([str(file), str(out), str(tmp_path / "head.pt")]) == 0
    after = load_checkpoint(out / "head.pt")
    assert after.card["glosses"] == ["hello", "tree"]
    was, now = _logits(before.head), _logits(after.head)
    assert torch.allclose(now[:, 0], was[:, 1] + math.log(3), atol=1e-5)  # an everyday word
    assert torch.allclose(now[:, 1], was[:, 2], atol=1e-5)
    assert main([str(file), str(out), str(tmp_path / "none.pt")]) == 2
    assert "none.pt" in capsys.readouterr().err
    assert main([]) == 2
