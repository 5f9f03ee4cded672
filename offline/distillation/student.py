"""Teaches a video transformer to tell from pictures what a teacher told: the loop behind `distil`.

    lessons: pictures and a target a tick -> random windows, moved about -> [student] -> weights

The student's mean of each time step, through one linear map, is held against the mean of the step's
targets. The map is thrown away afterwards: what is kept is the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.vjepa2.preprocess import MEAN, STD
from models.vjepa2.video_transformer import VideoTransformer
from offline.training.trainer import decayed, schedule

_EVAL_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One video, a picture a tick, and what the teacher said of it."""

    pictures: NDArray[np.uint8]  # (n, crop, crop, 3)
    targets: NDArray[np.float32]  # (n, D), NaN where the teacher said nothing
    mirrored: NDArray[np.float32] | None  # likewise, of the mirrored pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachSettings:
    """How long and how."""

    steps: int
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of the steps
    zoom: float = 0.15  # pictures are made larger or smaller by up to this share
    shift: float = 0.1  # and moved by up to this share of a side
    light: float = 0.2  # brightness and contrast, likewise
    seed: int = 0


class Student(nn.Module):
    """A video transformer with a linear map from its steps to a teacher's standardised rows."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: VideoTransformer, lessons: Sequence[Lesson]) -> None:
        super().__init__()
        self.encoder = encoder
        targets = np.concatenate([lesson.targets for lesson in lessons])
        told = np.isfinite(targets).any(0)
        mean, std = np.zeros(targets.shape[1]), np.zeros(targets.shape[1])
        mean[told], std[told] = np.nanmean(targets[:, told], 0), np.nanstd(targets[:, told], 0)
        std[std < 1e-6] = np.inf  # what never changes is nothing to learn: its target is zero
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.to_teacher = nn.Linear(encoder.shape.width, targets.shape[1])

    def forward(self, video: Tensor) -> Tensor:
        """(B, S, D) Standardised rows, one a time step."""
        rows: Tensor = self.to_teacher(self.encoder.steps(video))
        return rows

    def wanted(self, targets: Tensor) -> Tensor:
        """(B, S, D) Standardised means of a step's targets (B, T, D); NaN where there is none."""
        steps = torch.unflatten(targets, 1, (-1, self.encoder.shape.tubelet)).nanmean(2)
        rows: Tensor = (steps - self.mean) / self.std
        return rows


def teach(
    student: Student,
    lessons: Sequence[Lesson],
    settings: TeachSettings,
    state: dict[str, Any] | None = None,
    progress: Callable[[int, float, Callable[[], dict[str, Any]]], None] | None = None,
) -> None:
    """Train `student`, on the device where it is.

    `progress` hears of each step (its number, the loss, and a function that gives the state of
    everything); with that `state` training goes on as if it had not been cut off.
    """
    device = student.mean.device
    draw = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(decayed(student, settings.weight_decay), lr=settings.lr)
    first = 0
    if state is not None:
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        draw.set_state(state["draw"])
        first = state["step"]

    student.train()
    for step in range(first, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * schedule(step, settings.steps, settings.warmup)
        chosen = torch.randint(len(lessons), (settings.batch,), generator=draw).tolist()
        video, targets = _batch([lessons[i] for i in chosen], student.encoder, settings, draw)
        wanted = student.wanted(targets.to(device))
        with torch.autocast(device.type, torch.bfloat16):
            said = student(video.to(device))
        loss = _loss(said.float(), wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        if progress is not None:

            def now(done: int = step + 1) -> dict[str, Any]:
                return {
                    "student": student.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "draw": draw.get_state(),
                    "step": done,
                }

            progress(step + 1, float(loss.detach()), now)
    student.eval()


@torch.inference_mode()
def learnt(student: Student, lessons: Sequence[Lesson]) -> dict[str, float]:
    """How well the student tells, of the middle windows of `lessons`, what the teacher told.

    `r2`: the share of the squared error of the mean of the training clips that is gone, over all
    standardised features; `correlation`: of what was said and wanted, the mean over features;
    `steps`: how many time steps were compared.
    """
    device = student.mean.device
    said, wanted = [], []
    for at in range(0, len(lessons), _EVAL_BATCH):
        some = lessons[at : at + _EVAL_BATCH]
        frames = student.encoder.video_size[0]
        ticks = [
            _window(len(one.pictures), frames, _middle(len(one.pictures), frames)) for one in some
        ]
        pictures = np.stack([one.pictures[t] for one, t in zip(some, ticks, strict=True)])
        targets = np.stack([one.targets[t] for one, t in zip(some, ticks, strict=True)])
        said.append(student(_normalised(torch.from_numpy(pictures)).to(device)).cpu())
        wanted.append(student.wanted(torch.from_numpy(targets).to(device)).cpu())
    a, b = (torch.cat(parts).flatten(0, 1).double() for parts in (said, wanted))
    there = b.isfinite() & student.std.isfinite().cpu()
    b = torch.where(there, b, 0)
    a = torch.where(there, a, 0)
    count = there.sum(0).clamp(min=1)
    x, y = a - (a.sum(0) / count) * there, b - (b.sum(0) / count) * there
    scale = (x.square().sum(0) * y.square().sum(0)).sqrt()
    alike = (x * y).sum(0)[scale > 0] / scale[scale > 0]
    return {
        "r2": round(float(1 - (a - b).square().sum() / b.square().sum()), 4),
        "correlation": round(float(alike.mean()), 4),
        "steps": int(there.any(1).sum()),
    }


def _loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1 where the teacher told something, so that a lost landmark tears at nothing."""
    told = wanted.isfinite()
    far = F.smooth_l1_loss(said[told], wanted[told], reduction="sum")
    return far / told.sum().clamp(min=1)


def _batch(
    lessons: Sequence[Lesson],
    encoder: VideoTransformer,
    settings: TeachSettings,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A random window of each lesson, moved about: video (B, T, C, H, W), targets (B, T, D)."""

    def spread(reach: float, *shape: int) -> Tensor:
        return reach * (2 * torch.rand(*shape, generator=draw) - 1)

    count, frames = len(lessons), encoder.video_size[0]
    pictures, targets = [], []
    flips = torch.rand(count, generator=draw) < 0.5
    for i, lesson in enumerate(lessons):
        slack = len(lesson.pictures) - frames
        low, high = min(slack, 0), max(slack, 0)
        start = int(torch.randint(low, high + 1, (), generator=draw))
        ticks = _window(len(lesson.pictures), frames, start)
        flips[i] &= lesson.mirrored is not None
        rows = lesson.mirrored if flips[i] and lesson.mirrored is not None else lesson.targets
        pictures.append(lesson.pictures[ticks])
        targets.append(rows[ticks])
    video = _normalised(torch.from_numpy(np.stack(pictures)))
    video = video * (1 + spread(settings.light, count, 1, 1, 1, 1))
    video = video + spread(settings.light, count, 1, 1, 1, 1)
    move = torch.zeros(count, 2, 3)
    size = torch.exp(spread(settings.zoom, count))
    move[:, 0, 0], move[:, 1, 1] = torch.where(flips, -size, size), size
    move[:, :, 2] = spread(2 * settings.shift, count, 2)
    flat = video.flatten(1, 2)  # B, T * C, H, W: all pictures of a clip move alike
    grid = F.affine_grid(move, list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return moved.view_as(video), torch.from_numpy(np.stack(targets))


def _window(ticks: int, frames: int, start: int) -> NDArray[np.int64]:
    """The ticks of a window from `start` on; what lies outside the video repeats its ends."""
    return np.arange(start, start + frames).clip(0, ticks - 1)


def _middle(ticks: int, frames: int) -> int:
    """Where the window begins that `offline.encode` takes."""
    return (ticks - frames) // 2 if ticks > frames else ticks - frames


def _normalised(pictures: Tensor) -> Tensor:
    """uint8 (B, T, H, W, C) to the encoder's input (B, T, C, H, W), as `preprocess` gives it."""
    values = (pictures.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return values.movedim(-1, 2).contiguous()
