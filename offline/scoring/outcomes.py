"""A recogniser's prediction for each clip: what figures, comparisons and reports are made from.

logits of clips -> [outcomes] -> figures, comparison -> report.json, from which they are read
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.schema import EncoderSpec
from offline.data.examples import UNKNOWN_SIGNER
from offline.scoring.clip_predictions import ClipLogits, predict_clip
from offline.scoring.metrics import ranks

_FIRST = 5  # glosses that an outcome names


class ClipOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One clip that may be scored, as in a report's `clips`."""

    video_id: str
    video: str  # file name
    gloss: str
    signer: str  # signer group
    fold: int
    predicted: str  # the likeliest gloss
    p: Annotated[float, msgspec.Meta(ge=0, le=1)]  # its probability
    rank: Annotated[int, msgspec.Meta(ge=1)]  # of the right gloss; 1: it is the likeliest
    first: tuple[tuple[str, float], ...] = ()  # the likeliest glosses, with their probabilities


class Outcomes(msgspec.Struct, frozen=True, kw_only=True, eq=False, dict=True):
    """N clips and the vocabulary that the recogniser chose from, as in a report."""

    glosses: tuple[str, ...]
    clips: tuple[ClipOutcome, ...]

    def __len__(self) -> int:
        return len(self.clips)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) places in `glosses`"""
        return self._places([clip.gloss for clip in self.clips])

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) places in `glosses`"""
        return self._places([clip.predicted for clip in self.clips])

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """(N,) how many glosses have a higher probability than the right one"""
        return np.array([clip.rank for clip in self.clips], np.int64) - 1

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """(N,)"""
        return np.array([clip.p for clip in self.clips])

    @property
    def groups(self) -> list[str]:
        """(N,) signer groups"""
        return [clip.signer for clip in self.clips]

    @property
    def signers(self) -> list[str | None]:
        """(N,) signer groups; None where the signer is not known"""
        return [None if name.startswith(UNKNOWN_SIGNER) else name for name in self.groups]

    def _places(self, glosses: Sequence[str]) -> NDArray[np.int64]:
        place = {gloss: i for i, gloss in enumerate(self.glosses)}
        return np.array([place[gloss] for gloss in glosses], np.int64)


def source_of(video_id: str) -> str:
    """The folder in a video's id, by which reports tell sources apart; empty without one."""
    return video_id.rpartition("/")[0]


def outcomes_of(
    clips: Iterable[ClipLogits],
    glosses: Sequence[str],
    spec: EncoderSpec,
    hop_s: float,
    temperature: float,
) -> Outcomes:
    """The outcomes of clips of `glosses`; their logits are not kept.

    Raises:
        ValueError: there is none.
    """
    place = {gloss: i for i, gloss in enumerate(glosses)}
    found = []
    for clip in clips:
        example = clip.example
        p = predict_clip(clip.logits, len(glosses), spec, hop_s, temperature)
        label, order = np.array([place[example.gloss]]), np.argsort(-p, kind="stable")
        found.append(
            ClipOutcome(
                video_id=example.video_id,
                video=example.video,
                gloss=example.gloss,
                signer=example.group,
                fold=clip.fold,
                predicted=glosses[int(p.argmax())],
                p=float(p.max()),
                rank=int(ranks(p[None], label)[0]) + 1,
                first=tuple((glosses[i], float(p[i])) for i in order[:_FIRST]),
            )
        )
    if not found:
        raise ValueError("no clip to score: check --split, --groups and the model's glosses")
    return Outcomes(glosses=tuple(glosses), clips=tuple(found))


def clip_rows(outcomes: Outcomes) -> list[dict[str, Any]]:
    """One object a clip: the field `clips` of a report. `first` is not in it: see `tables`."""
    rows = []
    for clip in outcomes.clips:
        row = {**msgspec.to_builtins(clip), "p": round(clip.p, 5)}
        del row["first"]
        rows.append(row)
    return rows


def read_outcomes(path: str) -> Outcomes:
    """The outcomes in a report that `offline.evaluate` wrote.

    Raises:
        ValueError: the file is no such report, or one of an older version.
    """
    try:
        outcomes = msgspec.json.decode(Path(path).read_bytes(), type=Outcomes)
        if not len(outcomes):
            raise ValueError("it scored no clip")
        if len({clip.video_id for clip in outcomes.clips}) < len(outcomes):
            raise ValueError("it lists a video twice")
        if any(clip.rank > len(outcomes.glosses) for clip in outcomes.clips):
            raise ValueError("a rank is out of range")
        if ((outcomes.ranks == 0) != (outcomes.predicted == outcomes.labels)).any():
            raise ValueError("a clip's rank and predicted gloss contradict each other")
    except (OSError, ValueError, KeyError, msgspec.MsgspecError) as exc:
        reason = f"has no {exc}" if isinstance(exc, KeyError) else str(exc)
        raise ValueError(f"{path}: no report to compare, evaluate again: {reason}") from exc
    return outcomes
