"""Takes of stored clips: of which windows they are, and that no other window is computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from models.few_shot import IDLE
from models.heads import HeadOutput
from models.landmarks.encoder import landmark_spec
from offline.data.examples import Example, Vocabulary
from offline.scoring.clip_predictions import window_outputs
from offline.scoring.takes import background, sign_span, take
from tests.offline.indexes import example, landmark_rows

SPEC = landmark_spec(frames=8)
_HOP_S = 0.1


class Last(nn.Module):
    """The embedding is a window's last row. Remembers how many windows it has seen."""

    seen = 0

    def forward(self, features: Tensor, mask: Tensor) -> HeadOutput:
        self.seen += len(features)
        last = features[:, -1]
        return HeadOutput(last, mask / mask.shape[1], F.normalize(last, dim=1))


def _clip(name: str, gloss: str, motion: str) -> Example:
    rows = landmark_rows(motion, np.random.default_rng(len(name)))
    return replace(example(name, name, gloss), stored=rows)


def test_the_background_computes_no_windows_but_those_of_the_takes() -> None:
    signs = [_clip("ann", "up", "up"), _clip("benjamin", "down", "down")]
    still = _clip("cyd", "still", "idle")  # no hand is raised: its last window
    idle = _clip("dora", IDLE, "idle")
    head, whole = Last(), Last()
    clips = [*signs, still, idle]
    glosses = Vocabulary(glosses=("up", "down", "still"), nothing=True)
    found = background(head, clips, glosses, SPEC, _HOP_S)
    outputs = [window_outputs(whole, clip.rows, SPEC, _HOP_S) for clip in clips]
    for clip, row, every in zip(clips[:3], found, outputs, strict=False):
        np.testing.assert_allclose(row, take(clip.rows, every, SPEC), atol=1e-6)
    all_windows = outputs[3].embeddings.mean(0)
    np.testing.assert_allclose(found[3], all_windows / np.linalg.norm(all_windows), atol=1e-6)
    chosen = 1 + len(outputs[3].ends)
    for clip, every in zip(signs, outputs, strict=False):
        last = sign_span(clip.rows)[1]
        chosen += int(((every.ends >= last - 2) & (every.ends <= last + 7)).sum())
    assert head.seen == chosen < whole.seen
