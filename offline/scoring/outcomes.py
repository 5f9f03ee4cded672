"""What a recogniser answered, clip by clip: all that figures, comparisons and reports are made of.

    answers -> [outcomes] -> scores, comparison -> report.json, which gives them back

Of each clip only its place in the vocabulary, the likeliest gloss, how sure that was and the rank
of the right one are kept: 21,083 clips of 2,000 glosses take a few megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.schema import EncoderSpec
from offline.data.examples import UNKNOWN_SIGNER
from offline.scoring.clip_predictions import Answered, clip_answer
from offline.scoring.metrics import ranks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """N clips that may be scored."""

    glosses: tuple[str, ...]  # what the recogniser chose from
    video_ids: tuple[str, ...]
    videos: tuple[str, ...]  # file names
    groups: tuple[str, ...]  # whose signing it is
    folds: tuple[int, ...]
    labels: NDArray[np.int64]  # (N,) places in `glosses`
    answers: NDArray[np.int64]  # (N,) the likeliest
    ranks: NDArray[np.int64]  # (N,) glosses thought likelier than the right one
    sure: NDArray[np.float64]  # (N,) probability of the likeliest

    def __len__(self) -> int:
        return len(self.video_ids)

    def take(self, places: Sequence[int] | NDArray[np.int64]) -> Outcomes:
        """The clips at `places`, in that order."""
        return replace(
            self,
            video_ids=tuple(self.video_ids[i] for i in places),
            videos=tuple(self.videos[i] for i in places),
            groups=tuple(self.groups[i] for i in places),
            folds=tuple(self.folds[i] for i in places),
            labels=self.labels[places],
            answers=self.answers[places],
            ranks=self.ranks[places],
            sure=self.sure[places],
        )

    def signer(self, at: int) -> str | None:
        """The signer group of a clip; None where it is not known."""
        group = self.groups[at]
        return None if group.startswith(UNKNOWN_SIGNER) else group


def outcomes_of(
    answered: Iterable[Answered],
    glosses: Sequence[str],
    spec: EncoderSpec,
    hop_s: float,
    temperature: float,
) -> Outcomes:
    """The outcomes of answers to clips of `glosses`; each is let go once it was looked at.

    Raises:
        ValueError: there is none.
    """
    place = {gloss: i for i, gloss in enumerate(glosses)}
    rows = []
    for one in answered:
        e = one.example
        p = clip_answer(one.logits, len(glosses), spec, hop_s, temperature)
        label = np.array([place[e.gloss]])
        rank = int(ranks(p[None], label)[0])
        rows.append((e, one.fold, int(label[0]), int(p.argmax()), rank, float(p.max())))
    if not rows:
        raise ValueError("no clip to score: look at --split, --groups and the model's glosses")
    examples, folds, labels, answers, rank_of, sure = zip(*rows, strict=True)
    return Outcomes(
        glosses=tuple(glosses),
        video_ids=tuple(e.video_id for e in examples),
        videos=tuple(e.video for e in examples),
        groups=tuple(e.group for e in examples),
        folds=folds,
        labels=np.array(labels, np.int64),
        answers=np.array(answers, np.int64),
        ranks=np.array(rank_of, np.int64),
        sure=np.array(sure, np.float64),
    )


# --- in a report ----------------------------------------------------------------------------------


def clip_rows(outcomes: Outcomes) -> list[dict[str, Any]]:
    """One object a clip, as it stands in a report under `clips`."""
    return [
        {
            "video_id": outcomes.video_ids[i],
            "video": outcomes.videos[i],
            "gloss": outcomes.glosses[outcomes.labels[i]],
            "signer": outcomes.groups[i],
            "fold": outcomes.folds[i],
            "answer": outcomes.glosses[outcomes.answers[i]],
            "p": round(float(outcomes.sure[i]), 5),
            "rank": int(outcomes.ranks[i]) + 1,
        }
        for i in range(len(outcomes))
    ]


def read_outcomes(path: str) -> Outcomes:
    """The outcomes in a report that `offline.evaluate` wrote.

    Raises:
        ValueError: it is none, or one of before clips' ranks were kept.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        glosses = tuple(str(gloss) for gloss in report["glosses"])
        place = {gloss: i for i, gloss in enumerate(glosses)}
        rows = report["clips"]
        outcomes = Outcomes(
            glosses=glosses,
            video_ids=tuple(str(row["video_id"]) for row in rows),
            videos=tuple(str(row["video"]) for row in rows),
            groups=tuple(str(row["signer"]) for row in rows),
            folds=tuple(int(row["fold"]) for row in rows),
            labels=np.array([place[row["gloss"]] for row in rows], np.int64),
            answers=np.array([place[row["answer"]] for row in rows], np.int64),
            ranks=np.array([int(row["rank"]) - 1 for row in rows], np.int64),
            sure=np.array([float(row["p"]) for row in rows], np.float64),
        )
        _check(outcomes)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as exc:
        reason = f"has no {exc}" if isinstance(exc, KeyError) else str(exc)
        raise ValueError(f"{path}: no report to compare, evaluate again: {reason}") from exc
    return outcomes


def _check(outcomes: Outcomes) -> None:
    if not len(outcomes):
        raise ValueError("it scored no clip")
    if len(set(outcomes.video_ids)) < len(outcomes):
        raise ValueError("it tells of a video twice")
    if not ((outcomes.ranks >= 0) & (outcomes.ranks < len(outcomes.glosses))).all():
        raise ValueError("a rank is out of range")
    if not ((outcomes.sure >= 0) & (outcomes.sure <= 1)).all():
        raise ValueError("a probability is out of range")
    if ((outcomes.ranks == 0) != (outcomes.answers == outcomes.labels)).any():
        raise ValueError("a clip's rank and answer contradict each other")
