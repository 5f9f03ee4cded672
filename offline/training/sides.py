"""What each clip of an index is for: to learn, to choose the epoch by, or to test.

TrainingPlan + SplitSettings -> [sides] -> SplitClips, which share no signer and no recording
SplitClips -> [sides] -> what a card says of them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.command_line import say
from models.few_shot import IDLE
from offline.data.examples import Example
from offline.data.splits import fold_of_groups, refuse_leaks
from offline.scoring.clip_predictions import ClipLogits
from offline.training.config import FOLDS, HeldBack, SplitSettings
from offline.training.selection import TrainingPlan, named_groups

_NAMED = 5  # clips that a line names


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitClips:
    """The clips of a training, by what they are for."""

    train: list[Example]
    validation: list[Example]  # to choose the epoch by; none: some of `train` are held back
    test: list[Example]
    left_out: list[Example]  # of `--leave-out`


def split_clips(
    plan: TrainingPlan, settings: SplitSettings, held_back: HeldBack, fold_seed: int
) -> SplitClips:
    """The clips of the plan by what they are for.

    held_back: `--validation`: only auto takes the labels' val clips to choose by.

    Raises:
        ValueError: something is in both train and test, or no clip is of a signer that is named, or
            there are too few signers to keep some out.
    """
    unused = named_groups(settings.leave_out, plan.examples, "--leave-out")
    left_out = [e for e in plan.examples if e.group in unused]
    examples = [e for e in plan.examples if e.group not in unused]
    validation: list[Example] = []
    if settings.hold_out_groups:
        groups = named_groups(settings.hold_out_groups, plan.examples, "--hold-out-groups")
        train = [e for e in examples if e.group not in groups]
        test = [e for e in examples if e.group in groups]
    elif settings.none:
        train, test = list(examples), []
    elif settings.official:
        train = [e for e in examples if e.split in ("train", "extra")]
        test = [e for e in examples if e.split == "test"]
        if held_back == "auto":
            validation = [e for e in examples if e.split == "val"]
        _say_unused(examples)
    else:
        try:
            folds = fold_of_groups(plan.examples, plan.glosses, FOLDS, fold_seed)
        except ValueError as exc:
            raise ValueError(f"{exc}: give --split none, or --hold-out-groups") from exc
        train = [e for e in examples if folds.get(e.group) != settings.fold]
        test = [e for e in examples if folds.get(e.group) == settings.fold]
    if settings.duplicates == "leave-out":
        recordings = {e.recording for e in (*test, *validation)}
        kept = [e for e in train if not e.duplicate_of or e.duplicate_of not in recordings]
        if len(kept) < len(train):
            count = len(train) - len(kept)
            print(f"{count} clips left out: they are duplicates of clips kept out or held back")
        train = kept
    duplicates = settings.duplicates != "allow"
    if test:
        grouped = not settings.official
        refuse_leaks([*train, *validation], test, grouped=grouped, duplicates=duplicates)
    if validation:
        refuse_leaks(train, validation, grouped=False, duplicates=duplicates)
    return SplitClips(train=train, validation=validation, test=test, left_out=left_out)


def without_unlearnt(plan: TrainingPlan, train: Sequence[Example]) -> TrainingPlan:
    """The plan without the glosses of which there is no clip to learn from; a line names them.

    Raises:
        ValueError: fewer than two are left to tell apart.
    """
    there = {e.gloss for e in train}
    unlearnt = [gloss for gloss in plan.glosses if gloss not in there]
    if not unlearnt:
        return plan
    named = ", ".join(unlearnt[:_NAMED]) + (", …" if len(unlearnt) > _NAMED else "")
    one = len(unlearnt) == 1
    have, are = ("1 gloss has", "it is") if one else (f"{len(unlearnt)} glosses have", "they are")
    say(f"{have} no clip to learn from, so {are} left out: {named}")
    glosses = tuple(gloss for gloss in plan.glosses if gloss in there)
    if len(glosses) < 2 and not plan.open_set:
        raise ValueError(
            "nothing to tell apart: of one gloss at most there is a clip to learn from"
        )
    return replace(plan, glosses=glosses)


def _say_unused(examples: Sequence[Example]) -> None:
    """Say which clips the labels' own split leaves out, and which part it lacks."""
    none = sorted({e.video_id for e in examples if not e.split})
    if none:
        named = ", ".join(none[:_NAMED]) + (", …" if len(none) > _NAMED else "")
        say(f"{len(none)} videos are in no split, so they neither train nor test: {named}")
    if not any(e.split == "test" for e in examples):
        say("no clip is in the split test: the head is not tested")


def about_clips(
    train: Sequence[Example],
    held_back: Sequence[Example],
    clips: SplitClips,
    tested: Sequence[ClipLogits],
    skipped: int,
) -> dict[str, Any]:
    """The card's fields about the people and clips that were learnt, and those that tested."""
    learnt = {e.signer for e in (*train, *held_back)}
    return {
        "clips": len(train),
        "clips_without_signing": sum(e.gloss == IDLE for e in train),
        "signer_groups": len({e.group for e in train if e.gloss != IDLE}),
        "held_back_clips": len(held_back),
        "skipped": skipped,
        "held_out_groups": sorted({e.signer for e in (*clips.test, *clips.left_out)} - learnt),
        "held_out_clips": [
            {
                "video_id": clip.example.video_id,
                "video": clip.example.video,
                "gloss": clip.example.gloss,
            }
            for clip in sorted(tested, key=lambda c: (c.example.gloss, c.example.video_id))
        ],
    }
