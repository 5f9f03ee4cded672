"""Batches of stored rows: one window of a clip a step, float16 until the device."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.heads import make_head
from offline.data.examples import Vocabulary, read_examples
from offline.data.index import StoredRows
from offline.training import trainer
from offline.training.batches import Batches, TrainClips, batches_of, pad
from offline.training.config import TrainSettings
from offline.training.trainer import CandidateHead
from tests.offline.scoring.test_clip_predictions import SPEC

SETTINGS = TrainSettings(head="attentive", batch=4, mixup=0.0, device="cpu", seed=1)


def stored(folder: Path, dtype: type[np.floating] = np.float16) -> list[StoredRows]:
    """Clip n has n + 1 windows of two rows, all with its number and the window's: (n, w, 0, 0)."""
    found = []
    for n in range(3):
        rows = np.repeat([[n, w, 0, 0] for w in range(n + 1)], 2, 0).astype(dtype)
        np.save(folder / f"{n}.npy", rows)
        found.append(StoredRows.of(folder / f"{n}.npy"))
    return found


def clips(folder: Path) -> TrainClips:
    return TrainClips(
        rows=stored(folder),
        labels=[0, 1, 2],
        weights=[1.0] * 3,
        classes=3,
        idle=None,
        frames=16,
        fps=8.0,
        windows=[1, 2, 3],
    )


def batches(some: TrainClips, settings: TrainSettings = SETTINGS) -> Batches:
    draw = torch.Generator().manual_seed(settings.seed)
    head = make_head({"kind": "attentive", "dim": 4, "classes": 3})
    return Batches(some, settings, draw, head)


def test_a_step_draws_one_window_of_a_clip(tmp_path: Path) -> None:
    seen = Counter[tuple[int, int]]()
    for batch in batches(clips(tmp_path)).take(200):
        assert batch.features.shape == (4, 2, 4) and batch.features.dtype == torch.float32
        assert batch.mask.all() and (batch.features[:, 0] == batch.features[:, 1]).all()
        assert (batch.target.argmax(1) == batch.features[:, 0, 0]).all()
        seen.update(map(tuple, batch.features[:, 0, :2].int().tolist()))
    assert set(seen) == {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)}
    assert 0.7 < seen[2, 0] / seen[2, 2] < 1.4 and 0.7 < seen[1, 0] / seen[1, 1] < 1.4


def test_the_windows_of_an_index_are_drawn_from(tmp_path: Path) -> None:
    stored(tmp_path)
    lines = [f"{n},g{n},{n}.npy,{n + 1}" for n in range(3)]
    text = "\n".join(["video_id,gloss,path_to_npy_file,windows", *lines])
    (tmp_path / "index.csv").write_text(text)
    words = Vocabulary(glosses=("g0", "g1", "g2"))
    examples = read_examples(tmp_path / "index.csv")
    assert list(batches_of(examples, words, SPEC, SETTINGS).windows) == [1, 2, 3]
    assert not batches_of(examples[:1], words, SPEC, SETTINGS).windows


def test_rows_stay_in_half_precision_until_they_are_on_the_device(tmp_path: Path) -> None:
    rows = stored(tmp_path)
    features, mask = pad(rows)
    assert features.dtype == torch.float16 and mask.sum(1).tolist() == [2, 4, 6]
    mixed, _ = pad([*rows, np.ones((2, 4), np.float32)])
    assert mixed.dtype == torch.float32 and (mixed[:3] == features).all()
    batch = list(batches(clips(tmp_path), replace(SETTINGS, mixup=1.0)).take(3))[-1]
    assert batch.features.dtype == torch.float32 and batch.mix is None  # mixed by now
    mean = (batch.target - 0.1 / 3) / 0.9 @ torch.tensor([0.0, 1.0, 2.0])
    torch.testing.assert_close(batch.features[:, 0, 0], mean)
    assert (batch.features[:, 0, 0] % 1 > 0).any()


def test_a_step_in_parts_is_the_step_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, batch=5)
    head = make_head({"kind": "attentive", "dim": 4, "classes": 3})
    batch = next(iter(batches(clips(tmp_path), settings).take(1)))
    learnt = []
    for most in (2**13, 4):  # rows at once: all five clips, or two of them
        monkeypatch.setattr(trainer, "_STEPS", most)
        candidate = CandidateHead.of(head, 1e-2, 0.0)
        loss = candidate.learn(batch, 1, 1.0, settings)
        learnt.append((loss, [p.grad for p in candidate.head.parameters()]))
    (one, whole), (other, parts) = learnt
    assert abs(one - other) < 1e-6
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
