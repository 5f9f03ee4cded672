"""Distil an encoder: teach a small one, shaped as V-JEPA 2, to tell from pixels what another told.

    python -m offline.distil --index embeddings/index.csv --out models/small

    index.csv + .npy + its videos -> [teacher] -> [student] -> config.json, model.safetensors, card

The index is one that `offline.encode` wrote with any encoder, the teacher. The student is a
checkpoint as transformers saves it: `--encoder vjepa2:models/small` takes it. One fold of signers
is kept out, and the card says how much of the teacher the student tells of them. A run that was cut
off goes on with the same command. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import VJEPA2Config, VJEPA2Model

from models.schema import EncoderSpec
from models.vjepa2.preprocess import crop_pictures, resized_short_side
from models.vjepa2.state_dicts import restored
from models.vjepa2.torch_engine import torch_device
from models.vjepa2.video_transformer import Shape, VideoTransformer
from offline.distillation.student import Lesson, Student, TeachSettings, learnt, teach
from offline.distillation.teacher import check_teacher, mirrored_targets, tick_targets
from offline.encoding.embedder import identity, ticks
from offline.encoding.store import read_index
from offline.evaluation.crossval import fold_of_groups, split_fold
from offline.evaluation.report import write_report
from offline.examples import ORIGINAL, Example, common_glosses, read_spec
from offline.splitting.copies import read_recordings
from offline.videos import VideoError

CARD = "distilled.json"
_STATE = "training.pt"  # there while training is not done
_SAVE_EVERY_S = 60.0
_FOLDS = 5


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        print(json.dumps(run(options)))
    except (ValueError, OSError) as exc:
        print(f"offline.distil: {exc}", file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Distil as the command line says; what the last line tells.

    Raises:
        ValueError: an option or the index does not allow it.
        OSError: a file can't be read or written.
    """
    config = _config(options)
    shape = Shape.of(config)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch_device(options.device)
    out: Path = options.out
    if (out / "model.safetensors").exists():
        raise ValueError(f"{out}: there is a checkpoint already; give another --out")

    examples = [e for e in read_recordings(options.index) if e.variant == ORIGINAL]
    teacher = read_spec(options.index)
    check_teacher(teacher)
    glosses = common_glosses(examples, options.min_clips)
    folds = fold_of_groups(examples, glosses, _FOLDS, 0)
    learn, keep = split_fold(examples, folds, options.fold)
    videos = {e.video_id: Path(e.video) for e in read_index(options.index.parent).values()}
    pupil = EncoderSpec(
        kind="vjepa2",
        source="",
        revision="",
        dim=shape.width,
        frames=options.frames,
        fps=options.fps,
        short_side=resized_short_side(options.crop),
    )
    settings = TeachSettings(
        steps=max(1, round(options.epochs * len(learn) / options.batch)),
        batch=options.batch,
        lr=options.lr,
        seed=options.seed,
    )
    print(f"teacher {identity(teacher)}; student {shape}; {settings}", flush=True)
    lessons, held_out = (
        _lessons(some, videos, teacher, pupil, options.crop, options.memory_gb)
        for some in (learn, keep)
    )
    if not lessons or not held_out:
        raise ValueError(f"{options.index}: not one video of it can be read")
    print(f"{len(lessons)} videos to learn from, {len(held_out)} of other signers", flush=True)

    torch.manual_seed(options.seed)
    side = options.crop // shape.patch
    grid = (options.frames // shape.tubelet, side, side)
    student = Student(VideoTransformer(shape, grid), lessons).to(device)
    out.mkdir(parents=True, exist_ok=True)
    asked = {
        **asdict(settings),
        "shape": asdict(shape),
        "grid": grid,
        "lessons": len(lessons),
        "teacher": identity(teacher),
        "fps": options.fps,
        "fold": options.fold,
    }
    saver = _Saver(out / _STATE, json.dumps(asked))
    began = time.monotonic()
    teach(student, lessons, settings, saver.read(), saver)
    took_s = time.monotonic() - began

    card = {
        "teacher": asdict(teacher),
        "student": {
            "frames": options.frames,
            "fps": options.fps,
            "crop": options.crop,
            "parameters": sum(p.numel() for p in student.encoder.parameters()),
            **asdict(shape),
        },
        "settings": asdict(settings),
        "licence": options.licence,
        "data": {
            "videos": len(lessons),
            "signer_groups": len({e.group for e in learn}),
            "held_out_videos": len(held_out),
            "held_out_groups": sorted({e.signer for e in keep}),
        },
        "loss": saver.losses[:: max(1, len(saver.losses) // 100)],
        "learnt": {
            "training": learnt(student, lessons[: len(held_out)]),  # as many, for comparison
            "held_out": learnt(student, held_out),
        },
        "seconds": round(took_s),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _save(out, student.encoder, config)
    write_report(str(out / CARD), card)
    (out / _STATE).unlink(missing_ok=True)
    return {
        "checkpoint": str(out),
        "videos": len(lessons),
        "seconds": round(took_s),
        **{f"held_out_{k}": v for k, v in card["learnt"]["held_out"].items()},
    }


def _config(options: argparse.Namespace) -> VJEPA2Config:
    """transformers' description of the student. Its predictor is never used: as small as can be."""
    for name in ("width", "depth", "heads", "crop", "frames", "batch"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, not {getattr(options, name)}")
    if options.epochs <= 0 or not 0 < options.fps <= 120 or options.lr <= 0:
        raise ValueError("--epochs, --lr and --fps must be above 0, --fps at most 120")
    if options.crop % 16 or options.frames % 2:
        raise ValueError("--crop must be a multiple of 16 px, --frames even")
    if not 0 <= options.fold < _FOLDS:
        raise ValueError(f"--fold must be 0 to {_FOLDS - 1}")
    return VJEPA2Config(
        hidden_size=options.width,
        num_hidden_layers=options.depth,
        num_attention_heads=options.heads,
        crop_size=options.crop,
        frames_per_clip=options.frames,
        pred_hidden_size=16,
        pred_num_attention_heads=1,
        pred_num_hidden_layers=1,
        pred_num_mask_tokens=1,
    )


def _lessons(
    examples: Sequence[Example],
    videos: dict[str, Path],
    teacher: EncoderSpec,
    pupil: EncoderSpec,
    crop: int,
    memory_gb: float,
) -> list[Lesson]:
    """The examples with their pictures; videos that can't be read are told and left out.

    Raises:
        ValueError: the pictures need more memory than is allowed.
    """
    lessons = []
    size = 0
    for example in tqdm(examples, unit="video", disable=None):
        try:
            frames = ticks(videos[example.video_id], pupil)
            pictures = crop_pictures([frame.image for frame in frames], crop)
        except VideoError as exc:
            print(f"left out: {exc}", file=sys.stderr)
            continue
        size += pictures.nbytes
        if size > memory_gb * 1e9:
            raise ValueError(f"the pictures need more than --memory-gb {memory_gb:g}: give more")
        targets = tick_targets(example.rows, teacher, len(pictures), pupil.fps)
        lessons.append(
            Lesson(pictures=pictures, targets=targets, mirrored=mirrored_targets(targets, teacher))
        )
    return lessons


def _save(out: Path, encoder: VideoTransformer, config: VJEPA2Config) -> None:
    model: Any = VJEPA2Model(config)
    weights = {name: tensor.cpu() for name, tensor in encoder.state_dict().items()}
    model.encoder.load_state_dict(restored(weights, encoder.shape))
    model.save_pretrained(out)


class _Saver:
    """Shows how training goes, and keeps its state once a minute."""

    def __init__(self, file: Path, asked: str) -> None:
        self.losses: list[float] = []
        self._file = file
        self._asked = asked
        self._saved = self._told = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """What a run that was cut off left; None: this is the first.

        Raises:
            ValueError: it was a run with other settings.
        """
        if not self._file.exists():
            return None
        state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        if state["asked"] != self._asked:
            raise ValueError(f"{self._file}: of a run with other settings; use those or delete it")
        self.losses = state["losses"]
        print(f"going on after {state['step']} steps", flush=True)
        return state

    def __call__(self, step: int, loss: float, state: Any) -> None:
        self.losses.append(round(loss, 4))
        now = time.monotonic()
        if now - self._told > 20:
            self._told = now
            print(
                f"step {step}  loss {np.mean(self.losses[-20:]):.4f}", file=sys.stderr, flush=True
            )
        if now - self._saved > _SAVE_EVERY_S:
            self._saved = now
            scratch = self._file.with_suffix(".part")
            torch.save({**state(), "asked": self._asked, "losses": self.losses}, scratch)
            scratch.replace(self._file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline.distil",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--index", type=Path, required=True, help="index.csv of the teacher, by offline.encode")
    add("--out", type=Path, required=True, help="folder for the student's checkpoint")
    add("--width", type=int, default=192, help="features of the student (192)")
    add("--depth", type=int, default=6, help="blocks (6)")
    add("--heads", type=int, default=3, help="attention heads (3)")
    add("--crop", type=int, default=112, help="side of its pictures, px (112)")
    add("--frames", type=int, default=16, help="pictures a window (16)")
    add("--fps", type=float, default=8.0, help="pictures a second (8)")
    add("--epochs", type=float, default=40, help="passes over the videos (40)")
    add("--batch", type=int, default=16, help="windows a step (16)")
    add("--lr", type=float, default=1e-3, help="highest learning rate (0.001)")
    add("--seed", type=int, default=0)
    add("--fold", type=int, default=0, help="which of five folds of signers is kept out (0)")
    add("--min-clips", type=int, default=4, help="folds even out glosses with so many clips (4)")
    add("--memory-gb", type=float, default=4.0, help="most memory for pictures (4)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--threads", type=int, help="CPU threads (torch's own choice)")
    add("--licence", default="not stated", help="for the card: what the videos allow")
    return parser


if __name__ == "__main__":
    sys.exit(main())
