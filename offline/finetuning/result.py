"""What a fine-tuning leaves behind: the encoder's checkpoint, and the head with its card.

Tuning -> scored on clips kept out -> [result] -> NAME.pt, NAME.json, NAME-encoder/,
    NAME_curve.csv and .png, NAME_confusion.png, NAME_kept_out.json (for `evaluate --compare`)
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from models.card import spec_as_card
from models.command_line import say
from models.files import replacing
from models.vjepa2.saving import save_encoder
from offline.evaluation.crossval import fit_temperature, scorable
from offline.evaluation.figures import figures_of
from offline.finetuning.config import ChangeSettings, FinetuneSettings
from offline.finetuning.loop import Tuning
from offline.finetuning.scoring import Scorer
from offline.scoring.outcomes import clip_rows, outcomes_of
from offline.scoring.takes import background
from offline.training.checkpoint import new_card, save_checkpoint
from offline.training.progress import draw_confusion, draw_curves, write_curve
from offline.training.selection import TrainingPlan
from offline.training.sides import SplitClips, about_clips


def encoder_stem(out: Path) -> Path:
    """Where the encoder of the head `out` is written: a folder, or with .pt after it a file."""
    return out.with_name(f"{out.stem}-encoder")


def write_result(
    out: Path,
    tuning: Tuning,
    plan: TrainingPlan,
    scorer: Scorer,
    clips: SplitClips,
    settings: tuple[FinetuneSettings, ChangeSettings],
    *,
    given: dict[str, Any],
    skipped: int,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Score the clips kept out, then write encoder, head, card and curves.

    `plan.spec` is the encoder that the training began with; `clips` are those that were learnt,
    held back and kept out; `given` are the fields of `--card`; `skipped` is a number of videos.
    Returns what the last line says of it.

    Raises:
        OSError: the disk is full.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    model, spec, glosses, held = tuning.model, plan.spec, plan.glosses, clips.validation
    tested = scorer.logits(model, clips.test)
    known, kept_out = scorable(tested, glosses), dict[str, Any]()
    calibration = {"temperature": 1.0, "threshold": 0.5 if threshold is None else threshold}
    if known or held:
        on = tested if known else scorer.logits(model, held)
        calibration["temperature"] = fit_temperature(on, plan)
    if known:
        outcomes = outcomes_of(known, glosses, spec, plan.hop_s, calibration["temperature"])
        kept_out = figures_of(outcomes)
        report = {"glosses": list(glosses), "scores": kept_out, "clips": clip_rows(outcomes)}
        with replacing(out.with_name(f"{out.stem}_kept_out.json")) as file:
            file.write((json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
        picture = out.with_name(f"{out.stem}_confusion.png")
        draw_confusion(outcomes.labels, outcomes.predicted, glosses, picture)
    rows = scorer.with_rows(model, clips.train)
    takes = background(model.head.cpu(), rows, scorer.vocabulary, spec, plan.hop_s)
    saved = save_encoder(model.encoder.model, spec, encoder_stem(out))
    metrics = {
        **({"kept_out": kept_out} if known else {}),
        "fine_tuned": {
            "from": spec_as_card(spec),
            "settings": asdict(settings[0]),
            "changes": asdict(settings[1]),
            "held_back": [point.top1 for point in tuning.curve],
        },
    }
    about = about_clips(clips.train, held, clips, known, skipped)
    card = new_card(
        out.stem, saved, plan.hop_s, calibration, given, about, metrics, scorer.vocabulary
    )
    save_checkpoint(out, [model.head], card, takes)
    write_curve([tuning], out.with_name(f"{out.stem}_curve.csv"))
    classes = scorer.vocabulary.classes
    draw_curves([tuning], classes, out.with_name(f"{out.stem}_curve.png"))
    best = max((point.top1, -point.loss) for point in tuning.curve) if held else None
    return {
        "model": str(out),
        "encoder": saved.source,
        "clips": len(clips.train),
        "glosses": len(glosses),
        "steps": tuning.step,
        "loss": round(float(np.mean(tuning.losses[-20:])), 4),
        "seconds_a_step": round(tuning.seconds / max(1, tuning.done), 4),
        "epoch": round(tuning.epoch, 2),
        "epochs": round(tuning.epochs, 2),
        "held_back_clips": len(held),
        "held_back_top1": round(best[0], 4) if best else None,
        **{f"kept_out_{k}": v for k, v in kept_out.items() if k != "per_gloss"},
    }


def show_result(result: dict[str, Any]) -> None:
    """The result for people."""
    rows = {"encoder": result["encoder"], "head": result["model"], "loss": result["loss"]}
    if result["held_back_clips"]:
        right, clips = result["held_back_top1"], result["held_back_clips"]
        rows["held back"] = f"{right:.1%} of {clips} clips"
        rows["kept as after"] = f"epoch {result['epoch']:.0f} of {result['epochs']:.0f}"
    for top in ("top1", "top3", "top5"):
        if (share := result.get(f"kept_out_{top}")) is not None:
            low, high = result[f"kept_out_{top}_interval95"]
            clips = result["kept_out_clips"]
            rows[f"kept out, {top}"] = f"{share:.1%} ({low:.0%} to {high:.0%}) of {clips} clips"
    for name, value in rows.items():
        say(f"{name:16} {value}")
