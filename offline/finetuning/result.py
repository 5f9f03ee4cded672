"""What a fine-tuning leaves behind: the encoder's checkpoint, and the head with its card.

Tuning -> scored on clips kept out -> [result] -> NAME.pt, NAME.json, NAME-encoder/, NAME_loss.png,
                                        NAME_kept_out.json, which `offline.evaluate --compare` reads
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.card import spec_as_card
from models.command_line import say
from models.few_shot import IDLE
from models.files import replacing
from models.vjepa2.saving import save_encoder
from offline.data.examples import Example
from offline.evaluation.crossval import fit_temperature, scorable
from offline.evaluation.figures import figures_of
from offline.finetuning.config import ChangeSettings, FinetuneSettings
from offline.finetuning.loop import Tuning
from offline.finetuning.scoring import Scorer
from offline.scoring.outcomes import clip_rows, outcomes_of
from offline.scoring.takes import background
from offline.training.checkpoint import save_checkpoint
from offline.training.progress import draw_loss
from offline.training.selection import TrainingPlan


def encoder_stem(out: Path) -> Path:
    """Where the encoder of the head `out` is written: a folder, or with .pt after it a file."""
    return out.with_name(f"{out.stem}-encoder")


def write_result(
    out: Path,
    tuning: Tuning,
    plan: TrainingPlan,
    scorer: Scorer,
    train: Sequence[Example],
    test: Sequence[Example],
    settings: tuple[FinetuneSettings, ChangeSettings],
) -> dict[str, Any]:
    """Score the clips of `test`, then write encoder, head, card and loss curve.

    `plan.spec` is the encoder that the training began with. Returns what the last line says of it.

    Raises:
        OSError: the disk is full.
    """
    model, spec, glosses = tuning.model, plan.spec, plan.glosses
    tested = scorer.logits(model, test)
    known, temperature, kept_out = scorable(tested, glosses), 1.0, {}
    if known:
        temperature = fit_temperature(tested, plan)
        outcomes = outcomes_of(known, glosses, spec, plan.hop_s, temperature)
        kept_out = figures_of(outcomes)
        report = {"glosses": list(glosses), "scores": kept_out, "clips": clip_rows(outcomes)}
        with replacing(out.with_name(f"{out.stem}_kept_out.json")) as file:
            file.write((json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    rows = scorer.with_rows(model, train)
    takes = background(model.head.cpu(), rows, scorer.vocabulary, spec, plan.hop_s)
    saved = save_encoder(model.encoder.model, spec, encoder_stem(out))
    card = {
        "name": out.stem,
        "encoder": spec_as_card(saved),
        "window_s": spec.window_s,
        "hop_s": plan.hop_s,
        "calibration": {"temperature": temperature, "threshold": 0.5},
        "licence": "not stated",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {
            "clips": len(train),
            "clips_without_signing": sum(e.gloss == IDLE for e in train),
            "signer_groups": len({e.group for e in train if e.gloss != IDLE}),
            "held_out_groups": sorted({e.signer for e in test}),
            "held_out_clips": [
                {"video": c.example.video, "gloss": c.example.gloss}
                for c in sorted(known, key=lambda c: (c.example.gloss, c.example.video_id))
            ],
        },
        "metrics": {
            **({"kept_out": kept_out} if known else {}),
            "fine_tuned": {
                "from": spec_as_card(spec),
                "settings": asdict(settings[0]),
                "changes": asdict(settings[1]),
                "held_back": [score[0] for score in tuning.scores],
            },
        },
        "glosses": list(glosses),
        "classes": scorer.vocabulary.classes,
    }
    save_checkpoint(out, [model.head], card, takes)
    draw_loss(tuning.losses, out.with_name(f"{out.stem}_loss.png"))
    return {
        "model": str(out),
        "encoder": saved.source,
        "clips": len(train),
        "glosses": len(glosses),
        "steps": tuning.step,
        "loss": round(float(np.mean(tuning.losses[-20:])), 4),
        "seconds_a_step": round(tuning.seconds / max(1, tuning.done), 4),
        "epoch": tuning.epoch or None,
        **{f"kept_out_{k}": v for k, v in kept_out.items() if k != "per_gloss"},
    }


def show_result(result: dict[str, Any]) -> None:
    """The result for people."""
    rows = {"encoder": result["encoder"], "head": result["model"], "loss": result["loss"]}
    for top in ("top1", "top3", "top5"):
        if (share := result.get(f"kept_out_{top}")) is not None:
            low, high = result[f"kept_out_{top}_interval95"]
            clips = result["kept_out_clips"]
            rows[f"kept out, {top}"] = f"{share:.1%} ({low:.0%} to {high:.0%}) of {clips} clips"
    for name, value in rows.items():
        say(f"{name:16} {value}")
