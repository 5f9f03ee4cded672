"""Takes back what a head learnt of how often each gloss was shown to it: that is chance, no sign.

    lessons + a trained head -> [priors] -> a head to which all glosses are alike beforehand

A gloss with two clips beside one with thirty is drawn seldom in training, and the head learns to
say it seldom. Its share of the windows is taken out of its logit: logit adjustment (Menon et al.
2021), with their tau of 1, so there is nothing to tune. docs/training.md has what it gains.
"""

from __future__ import annotations

import numpy as np
import torch

from models.heads import Head, last_layer
from offline.training.lessons import TrainClips


@torch.no_grad()
def even_out(head: Head, clips: TrainClips, glosses: int) -> None:
    """Let the first `glosses` classes of `head`, trained on `clips`, be alike beforehand.

    What all of them had together stays, so that the other classes (other signs, no sign) weigh as
    much as before. A gloss without a clip is left alone.
    """
    drawn = np.bincount(clips.labels, clips.weights, minlength=clips.classes)[:glosses]
    there = np.flatnonzero(drawn)
    shift = np.log(drawn[there].mean() / drawn[there])
    last_layer(head).bias[torch.from_numpy(there)] += torch.from_numpy(shift).float()
