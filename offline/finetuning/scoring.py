"""What a model in training predicts for clips, unchanged and as they are served.

examples -> their videos' middle windows -> [scoring] -> logits, or rows for what reads an index
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from models.heads import HeadEnsemble
from offline.data.examples import Example, Vocabulary
from offline.data.index import StoredRows
from offline.finetuning.config import FinetuneSettings
from offline.finetuning.drawing import KeptVideos
from offline.finetuning.tuned_model import TunedModel
from offline.scoring.clip_predictions import ClipLogits, predict_clip
from offline.training.trainer import Score, score_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedRows:
    """The rows (T, D) of a clip by the encoder as it is when `np.asarray` asks for them."""

    model: TunedModel
    clips: KeptVideos
    number: int

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        pictures = torch.from_numpy(self.clips.window(self.number)[None])
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            rows = self.model.features(pictures.to(device))[0]
        array: NDArray[np.float32] = rows.cpu().numpy()
        return array.astype(dtype or np.float32, copy=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scorer:
    """Reads clips by a model. `clips` has the videos of all examples, `places` says where."""

    clips: KeptVideos
    places: dict[str, int]  # of a video id
    vocabulary: Vocabulary
    settings: FinetuneSettings
    hop_s: float

    @torch.inference_mode()
    def logits(self, model: TunedModel, examples: Sequence[Example]) -> list[ClipLogits]:
        """The logits of each example's window, in float32."""
        glosses, classes = len(self.vocabulary.glosses), self.vocabulary.classes
        ensemble = HeadEnsemble([model.head], glosses, classes).eval()
        device = next(model.parameters()).device
        size = max(1, self.settings.batch // self.settings.accumulate)
        found = []
        with ThreadPoolExecutor(self.settings.workers, "windows") as threads:
            for first in range(0, len(examples), size):
                some = examples[first : first + size]
                windows = threads.map(self.clips.window, (self.places[e.video_id] for e in some))
                pictures = torch.from_numpy(np.stack(list(windows))).to(device)
                features = model.features(pictures)
                mask = torch.ones(features.shape[:2], dtype=torch.bool, device=device)
                rows = ensemble(features, mask).logits.float().cpu().numpy()
                found += [
                    ClipLogits(example=e, fold=0, logits=row[None])
                    for e, row in zip(some, rows, strict=True)
                ]
        return found

    def score(self, model: TunedModel, examples: Sequence[Example]) -> Score:
        """The share of right glosses, and the mean logarithm of the right one's probability."""
        glosses, spec = self.vocabulary.glosses, self.clips.spec
        return score_of(
            [
                (
                    predict_clip(clip.logits, len(glosses), spec, self.hop_s, 1.0),
                    glosses.index(clip.example.gloss),
                )
                for clip in self.logits(model, examples)
            ]
        )

    def with_rows(self, model: TunedModel, examples: Sequence[Example]) -> list[Example]:
        """The examples with rows that are encoded anew each time that they are read."""
        found = []
        for e in examples:
            rows = EncodedRows(model=model, clips=self.clips, number=self.places[e.video_id])
            stored = cast(StoredRows, rows)  # an array when it is asked
            found.append(replace(e, stored=stored, windows=1))
        return found
