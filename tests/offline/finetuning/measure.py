"""A tiny V-JEPA 2, trained from scratch here: heads on its frozen rows beside fine-tuning.

    python -m tests.offline.finetuning.measure ../shared/data runs/tiny

    drawn.py: landmarks of WLASL signers -> drawn videos of ten glosses, and of forty others
    tiny.py: the forty -> where nose, shoulders and hands are -> the checkpoint
    the ten -> folds of signers x seeds: heads on frozen rows | offline.finetune

Signers that test a fold are in none of its training clips of the ten glosses; some of them sign
other glosses in the clips that the checkpoint was made of, which both sides share.
docs/reports/finetuning.md has the figures. What is in the output folder is not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from offline import encode, finetune, train
from offline.data.examples import scored
from offline.data.splits import fold_of_groups, split_fold
from offline.evaluation.comparison import compare_outcomes
from offline.scoring.clip_predictions import clip_logits
from offline.scoring.outcomes import ClipOutcome, Outcomes, outcomes_of, read_outcomes
from offline.training.config import DataSettings, TrainSettings
from offline.training.selection import learn, read_plan
from tests.offline.finetuning.drawn import draw_sets
from tests.offline.finetuning.tiny import make_random, train_tiny

FOLDS = 5
_OWN = "gloss, chosen of three"  # as the head is that fine-tuning begins with
# Nothing is held back where nothing is chosen: all learn from the same clips, to their last epoch.
_ALL = TrainSettings(validation="none")
_HEADS = {
    "gloss, 3e-3": replace(_ALL, head="gloss", epochs=60, lr=(3e-3,)),
    "gloss, 1e-3": replace(_ALL, head="gloss", epochs=60, lr=(1e-3,)),
    _OWN: TrainSettings(head="gloss", epochs=60, lr=(3e-4, 1e-3, 3e-3)),
    "attentive, 1e-3": replace(_ALL, head="attentive", epochs=40, lr=(1e-3,)),
}
_START = ("--head", "gloss", "--epochs", "60", "--lr", "3e-4", "1e-3", "3e-3")  # of offline.train
_TUNING = (
    *("--unfreeze", "all", "--encoder-lr", "1e-3", "--layer-decay", "0.9", "--lr", "2e-3"),
    *("--batch", "16", "--mixup", "0", "--mirror", "0", "--device", "cpu", "--workers", "1"),
)
_WAYS = {  # of fine-tuning: how the epoch is chosen, and what the results are called
    "fine-tuned": (("--validation", "none"), "all"),
    "fine-tuned, best epoch": (("--validation", "signers"), "best"),
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=40, help="of fine-tuning")
    parser.add_argument("--pretraining", type=int, default=30, help="epochs from scratch")
    options = parser.parse_args(argv)
    data, out = options.data.resolve(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    ten, forty = draw_sets(data, out, (10, 40))
    tiny = out / "hands"
    if not tiny.exists():
        with forty.open(newline="", encoding="utf-8") as file:
            clips = [out / clip["path"] for clip in csv.DictReader(file)]
        pairs = [(clip, clip.with_suffix(".npz")) for clip in clips]
        train_tiny(make_random(out / "random"), pairs, tiny, options.pretraining)
    where = ["--videos", str(out), "--labels", str(ten), "--out", str(out / "ten")]
    by = ["--encoder", f"vjepa2:{tiny}", "--device", "cpu", "--batch", "8", "--workers", "1"]
    assert encode.main([*where, *by]) == 0
    index = out / "ten" / "index.csv"

    found: dict[str, list[ClipOutcome]] = {}
    for seed in range(options.seeds):
        for name, settings in _HEADS.items():
            found.setdefault(name, []).extend(frozen(index, settings, seed))
        for fold in range(FOLDS):
            place = ["--index", str(index), "--fold", str(fold), "--seed", str(seed)]
            place += ["--duplicates", "leave-out", "--threads", "1"]
            head = out / f"head-{fold}-{seed}.pt"
            if not head.exists():
                assert train.main([*place, *_START, "--out", str(head)]) == 0
            place += ["--start", str(head), "--epochs", str(options.epochs), *_TUNING]
            for name, (how, prefix) in _WAYS.items():
                report = tuned(out / f"{prefix}-{fold}-{seed}.pt", [*place, *how])
                found.setdefault(name, []).extend(numbered(report.clips, seed))
    glosses = tuple(sorted({clip.gloss for clip in found["fine-tuned"]}))
    outcomes = {name: Outcomes(glosses=glosses, clips=tuple(c)) for name, c in found.items()}
    best = max(_HEADS, key=lambda name: float((outcomes[name].ranks == 0).mean()))
    rows = [row(name, outcomes[best], one, best) for name, one in outcomes.items()]
    rows += [row(name, outcomes[_OWN], outcomes[name], _OWN) for name in _WAYS]
    (out / "figures.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


def tuned(model: Path, options: Sequence[str]) -> Outcomes:
    """The clips of a fold by encoder and head, trained together from the fold's frozen head on."""
    report = model.with_name(f"{model.stem}_kept_out.json")
    if not report.exists():
        assert finetune.main([*options, "--out", str(model)]) == 0
    return read_outcomes(str(report))


def frozen(index: Path, settings: TrainSettings, seed: int) -> list[ClipOutcome]:
    """Each clip by a head that did not learn from its signer, as `offline.train` trains it."""
    data = DataSettings(index=str(index), threads=1)
    plan = read_plan(data, replace(settings, seed=seed, device="cpu"))
    folds = fold_of_groups(plan.examples, plan.glosses, FOLDS, data.fold_seed)
    tested = []
    for fold in range(FOLDS):
        train, test = split_fold(plan.examples, folds, fold)
        head = learn(plan, train).head
        tested += [clip_logits(head, e, fold, plan.spec, plan.hop_s) for e in scored(test)]
    return numbered(outcomes_of(tested, plan.glosses, plan.spec, plan.hop_s, 1.0).clips, seed)


def numbered(clips: Iterable[ClipOutcome], seed: int) -> list[ClipOutcome]:
    """The clips of one seed, told apart from those of another; their signers stay one group."""
    return [msgspec.structs.replace(clip, video_id=f"{seed}:{clip.video_id}") for clip in clips]


def row(name: str, base: Outcomes, outcomes: Outcomes, best: str) -> dict[str, Any]:
    """Top-1 and top-3 beside the better frozen head, with 95 % intervals over signer groups."""
    found = compare_outcomes(base, outcomes, (best, name))
    top = {key: found["figures"][key] for key in ("top1", "top3")}
    return {"way": name, "clips": found["clips"], "beside": best, **top}


if __name__ == "__main__":
    main()
