"""An official split, and how much of it is at hand.

    nslt_300.json | WLASL_v0.3.json | a CSV -> [official] -> which clips test, and coverage

WLASL's videos vanish from the web. A figure on those that are left is comparable to a published one
only as far as they are many, so every report on an official split says how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline.data.examples import Example
from offline.data.labels import read_labels
from offline.scoring.outcomes import Outcomes

_NAMED = 5  # clips that an error names


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialSplit:
    """The instances of one split of a list of labels."""

    file: str
    split: str
    gloss_of: dict[str, str]  # by video id

    def chosen(self, examples: Sequence[Example]) -> list[Example]:
        """The examples that are instances of it.

        Raises:
            ValueError: none is, or a gloss differs.
        """
        found = [e for e in examples if e.video_id in self.gloss_of]
        if not found:
            raise ValueError(
                f"{self.file}: none of its {len(self.gloss_of)} {self.split} instances is in the "
                "index (by video_id)"
            )
        other = [e for e in found if e.gloss.lower() != self.gloss_of[e.video_id].lower()]
        if other:
            named = "; ".join(
                f"{e.video_id} is {e.gloss} in the index, {self.gloss_of[e.video_id]} here"
                for e in other[:_NAMED]
            )
            raise ValueError(f"{self.file}: {len(other)} clips have another gloss: {named}")
        return found

    def coverage(self, found: Sequence[Example], outcomes: Outcomes) -> dict[str, Any]:
        """How much of the split was at hand and scored, and what its top-1 could at most have
        been: with every instance that was not scored wrong, and with every one right."""
        ids = {e.video_id for e in found}
        total, right = len(self.gloss_of), int((outcomes.ranks == 0).sum())
        return {
            "file": Path(self.file).name,
            "split": self.split,
            "instances": total,
            "at_hand": len(ids),
            "scored": len(outcomes),
            "glosses": len(set(self.gloss_of.values())),
            "glosses_scored": len(set(outcomes.labels.tolist())),
            "top1_bounds": [
                round(right / total, 4),
                round((right + total - len(outcomes)) / total, 4),
            ],
            "missing": sorted(self.gloss_of.keys() - ids),
        }


def read_official(file: str, split: str) -> OfficialSplit:
    """The split `split` (test, val, train) of a labels file.

    Raises:
        ValueError: the file is no labels file, or has nothing in that split.
    """
    labelled = read_labels(file, Path(file).parent)
    gloss_of = {one.video_id: one.gloss for one in labelled if one.split == split}
    if not gloss_of:
        known = ", ".join(sorted({one.split for one in labelled} - {""})) or "none"
        raise ValueError(f"{file}: has no instance in the split {split} (it has: {known})")
    return OfficialSplit(file=file, split=split, gloss_of=gloss_of)
