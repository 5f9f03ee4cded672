"""A tiny V-JEPA 2, trained from scratch on our clips: its frozen head beside fine-tuning.

    python -m tests.offline.finetuning.measure ../shared/data runs/tiny

    clips of other glosses -> tiny.py: where hands are -> the checkpoint
    clips of ten glosses -> folds of signers x seeds: a head on frozen rows | offline.finetune

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

from offline import encode, finetune
from offline.data.examples import scored
from offline.evaluation.comparison import compare_outcomes
from offline.evaluation.crossval import fold_of_groups, split_fold
from offline.scoring.clip_predictions import clip_logits
from offline.scoring.outcomes import ClipOutcome, Outcomes, outcomes_of, read_outcomes
from offline.training.config import DataSettings, TrainSettings
from offline.training.selection import learn, read_plan
from tests.offline.finetuning.tiny import make_random, train_tiny

TEN = ("apple", "book", "drink", "eat", "hello", "help", "no", "water", "what", "yes")
FOLDS = 5
FROZEN = {
    "frozen, gloss": TrainSettings(
        head="gloss", epochs=60, lr=(3e-4, 1e-3, 3e-3), weight_decay=(0.05,)
    ),
    "frozen, attentive": TrainSettings(
        head="attentive", epochs=30, lr=(3e-4, 1e-3), weight_decay=(0.05,)
    ),
}
TUNED = {
    "unfreeze all": ("--unfreeze", "all"),
    "unfreeze 2": ("--unfreeze", "2"),
    "lora 8": ("--lora", "8"),
}
_TUNING = ("--head", "attentive", "--encoder-lr", "1e-3", "--batch", "16")
_SMALL = ("--device", "cpu", "--threads", "1", "--workers", "1", "--duplicates", "leave-out")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30, help="of fine-tuning")
    parser.add_argument("--pretraining", type=int, default=30, help="epochs from scratch")
    parser.add_argument("--ways", nargs="*", default=list(TUNED), help="of fine-tuning")
    options = parser.parse_args(argv)
    data, out = options.data.resolve(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    tiny = make_tiny(data, out, options.pretraining)
    index = encoded(data, out, tiny)

    found: dict[str, list[ClipOutcome]] = {}
    for seed in range(options.seeds):
        for name, settings in FROZEN.items():
            found.setdefault(name, []).extend(frozen(index, settings, seed))
        for name in options.ways:
            for fold in range(FOLDS):
                model = out / f"{name.replace(' ', '-')}-{fold}-{seed}.pt"
                more = ("--fold", str(fold), "--seed", str(seed), "--epochs", str(options.epochs))
                report = tuned(index, model, *_TUNING, *TUNED[name], *more)
                found.setdefault(name, []).extend(numbered(report.clips, seed))
    outcomes = {name: Outcomes(glosses=TEN, clips=tuple(clips)) for name, clips in found.items()}
    best = max(FROZEN, key=lambda name: float((outcomes[name].ranks == 0).mean()))
    rows = [row(name, outcomes[best], one, best) for name, one in outcomes.items()]
    (out / "figures.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


def make_tiny(data: Path, out: Path, epochs: int) -> Path:
    """The checkpoint: random weights, trained on the clips of all other glosses."""
    if not (out / "tiny").exists():
        clips = [clip for clip in manifest(data) if clip["gloss"] not in TEN and clip["landmarks"]]
        start = out / "random"
        if not start.exists():
            make_random(start)
        pairs = [(data / clip["path"], data / clip["landmarks"]) for clip in clips]
        train_tiny(start, pairs, out / "tiny", epochs)
    return out / "tiny"


def manifest(data: Path) -> list[dict[str, str]]:
    """The clips in which no word is written."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [clip for clip in csv.DictReader(file) if clip["caption_risk"] != "1"]


def encoded(data: Path, out: Path, encoder: Path) -> Path:
    """The index of the clips of the ten glosses."""
    labels = out / "ten.csv"
    with labels.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "gloss", "group"])
        for clip in manifest(data):
            if clip["gloss"] in TEN:
                writer.writerow([clip["path"], clip["gloss"], clip["group"]])
    where = ["--videos", str(data), "--labels", str(labels), "--out", str(out / "ten")]
    how = ["--encoder", f"vjepa2:{encoder}", "--device", "cpu", "--batch", "4", "--workers", "1"]
    assert encode.main([*where, *how]) == 0
    return out / "ten" / "index.csv"


def run(*args: object) -> None:
    assert finetune.main([str(arg) for arg in args]) == 0


def tuned(index: Path, model: Path, *args: str) -> Outcomes:
    report = model.with_name(f"{model.stem}_kept_out.json")
    if not report.exists():
        run("--index", index, "--out", model, *_SMALL, *args)
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
