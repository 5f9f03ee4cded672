"""What a head predicts for a clip of which several windows are stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.heads import HeadOutput
from models.schema import EncoderSpec
from offline.data.examples import Example
from offline.scoring import clip_predictions
from offline.scoring.clip_predictions import clip_logits, middle_rows, predict_clip, window_outputs

SPEC = EncoderSpec(
    kind="vjepa2", source="made up", revision="1", dim=3, frames=8, fps=8.0, short_side=292
)


class Mean(nn.Module):
    """Logits are the mean of the rows: what one window shows."""

    def forward(self, features: Tensor, mask: Tensor) -> HeadOutput:
        assert mask.all()
        mean = features.mean(1)
        return HeadOutput(mean, torch.ones(mask.shape) / mask.shape[1], mean)


def example(windows: int) -> Example:
    rows = np.repeat(np.eye(3, dtype=np.float32)[:windows] * 4, 4, 0)  # 4 rows a window
    return Example(video_id="a", video="a.mp4", gloss="tree", group="g", split="",
                   variant="original", stored=rows, windows=windows)  # fmt: skip


def test_each_window_is_predicted_and_the_clip_is_their_mean() -> None:
    clip = clip_logits(Mean(), example(2), 0, SPEC, 0.1)
    np.testing.assert_allclose(clip.logits, np.eye(3)[:2] * 4)
    assert clip.held is not None and not len(clip.held)
    p = predict_clip(clip.logits, 3, SPEC, 0.1, 1.0)
    assert p[0] == p[1] > 4 * p[2] and abs(p.sum() - 1) < 1e-6
    one = clip_logits(Mean(), example(1), 0, SPEC, 0.1)
    assert one.logits.shape == (1, 3)


def test_many_tokens_go_through_the_head_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = example(3).rows
    whole = window_outputs(Mean(), rows, SPEC, 0.1, 3)
    sizes = []

    class Counted(Mean):
        def forward(self, features: Tensor, mask: Tensor) -> HeadOutput:
            sizes.append(len(features))
            return super().forward(features, mask)

    monkeypatch.setattr(clip_predictions, "_STEPS", 8)
    parts = window_outputs(Counted(), rows, SPEC, 0.1, 3)
    assert sizes == [2, 1]
    np.testing.assert_array_equal(parts.logits, whole.logits)
    np.testing.assert_array_equal(parts.ends, [3, 7, 11])


def test_the_middle_window_stands_for_a_clip() -> None:
    np.testing.assert_array_equal(middle_rows(example(3).rows, SPEC, 3), np.eye(3)[[1] * 4] * 4)
