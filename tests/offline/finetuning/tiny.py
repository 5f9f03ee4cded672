"""Makes a tiny V-JEPA 2 checkpoint from nothing: it learns where people's hands are.

    clips + landmarks of them -> [tiny] -> a checkpoint as transformers saves it

Each token learns how far it is from nose, shoulders, elbows, wrists and fingertips, and which of
them it holds: a minute of one core on some hundred drawn clips. From a gloss a clip it learnt
nothing in as many steps.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.schema import EncoderSpec
from models.vjepa2.checkpoint import load_weights, vjepa2_spec
from models.vjepa2.model import PictureEncoder
from models.vjepa2.saving import save_encoder
from offline.encoding.embed import middle_window
from offline.finetuning.config import ChangeSettings
from offline.finetuning.drawing import KeptClip, changed_pictures, colouring, cut_ticks, placing
from offline.training.trainer import schedule
from tests.models.tiny_vjepa2 import make_checkpoint

_BODY = (0, 11, 12, 13, 14, 15, 16)  # of MediaPipe's pose: nose, shoulders, elbows, wrists
_HAND = (0, 4, 8, 12, 20)  # of its hands: wrist and fingertips
_POINTS = len(_BODY) + 2 * len(_HAND)
_BATCH, _RATE = 16, 1e-3
_CHANGES = ChangeSettings(mirror=0, mixup=0, turn=10, zoom=0.2, shift=0.1)


def make_random(folder: Path) -> Path:
    """Random weights: 4 blocks, 96 wide, 48 px, 16 pictures."""
    return make_checkpoint(
        folder,
        crop=48,
        frames_per_clip=16,
        hidden_size=96,
        num_attention_heads=4,
        num_hidden_layers=4,
        pred_hidden_size=32,
        initializer_range=0.02,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WatchedClip:
    """A clip, and where hands and body are in it."""

    kept: KeptClip
    times: NDArray[np.float64]  # s, of each of its pictures
    landmark_times: NDArray[np.float64]  # s
    points: NDArray[np.float32]  # (T, P, 2), NaN where not seen; 0 to 1


def train_tiny(
    start: Path,
    clips: Sequence[tuple[Path, Path]],
    target: Path,
    epochs: int,
    batch: int = 16,
    rate: float = 1e-3,
) -> EncoderSpec:
    """Train the checkpoint `start` on videos and their landmarks; write it to `target`."""
    spec = vjepa2_spec(str(start))
    encoder = load_weights(spec, torch.float32).requires_grad_(True)
    with ThreadPoolExecutor(2) as threads:
        watched = list(threads.map(lambda pair: _watched(pair[0], pair[1], spec), clips))
    times, down, across = encoder.grid
    centres = torch.cartesian_prod(*((torch.arange(n) + 0.5) / n for n in (down, across)))
    centres = centres.flip(1)[:, None]  # tokens of a time step, 1, 2 as x, y
    model = nn.Sequential(PictureEncoder(encoder, pooled=False), nn.Linear(spec.dim, 3 * _POINTS))
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.05)
    draw = np.random.default_rng(0)
    steps, losses, began = math.ceil(len(watched) / _BATCH) * epochs, [], time.monotonic()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _RATE * schedule(step, steps, 0.05)
        chosen = [watched[i] for i in draw.choice(len(watched), _BATCH, replace=False)]
        drawn = [_drawn(clip, spec, encoder.video_size[-1], draw) for clip in chosen]
        points = torch.from_numpy(np.stack([numbers for _, numbers in drawn]))[:, :, None]
        away = points - centres  # clips, times, tokens, points, 2
        there = ~away.isnan().any(-1)
        away = away.nan_to_num()
        inside = (away.abs() < 0.5 / across).all(-1) & there
        found = model(torch.from_numpy(np.stack([pictures for pictures, _ in drawn])))
        found = found.view(_BATCH, times, down * across, _POINTS, 3)
        offsets = nn.functional.smooth_l1_loss(found[..., :2], away / 0.3, reduction="none").sum(-1)
        offset = (offsets * there).sum() / there.sum()
        hit = nn.functional.binary_cross_entropy_with_logits(found[..., 2], inside.float())
        loss = offset + 2 * hit
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append((float(offset.detach()), float(hit.detach())))
        if step % 50 == 49:
            mean, seconds = np.mean(losses[-50:], 0).round(4), time.monotonic() - began
            print(f"{step + 1}/{steps} {mean} {seconds:.0f} s", file=sys.stderr, flush=True)
    return save_encoder(encoder, spec, target)


def _watched(video: Path, landmarks: Path, spec: EncoderSpec) -> WatchedClip:
    frames = middle_window(video, replace(spec, fps=2 * spec.fps, frames=3 * spec.frames))
    different = list(dict.fromkeys(frames))
    place = {id(frame): i for i, frame in enumerate(different)}
    ticks = np.array([place[id(frame)] for frame in frames])
    with np.load(landmarks) as content:
        t = content["t"].astype(np.float64)
        parts = [content["pose"][:, _BODY, :2]]
        parts += [content[side][:, _HAND, :2] for side in ("left", "right")]
    return WatchedClip(
        kept=KeptClip(
            pictures=np.stack([frame.image for frame in different]),
            ticks=ticks,
            first=int((ticks == 0).sum()) - 1,
        ),
        times=np.array([frame.media_s for frame in different]),
        landmark_times=t,
        points=np.concatenate(parts, 1).astype(np.float32),
    )


def _drawn(
    clip: WatchedClip, spec: EncoderSpec, crop: int, draw: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures, changed at random, and (T/2, P, 2) where points are in each time step, 0 to 1."""
    chosen = cut_ticks(clip.kept, spec, _CHANGES, draw)
    images = clip.kept.pictures[chosen]
    height, width = images.shape[1:3]
    matrix = placing((height, width), crop, _CHANGES, draw)
    pictures = changed_pictures(images, matrix, colouring(_CHANGES, draw), crop)
    times = clip.times[chosen].reshape(-1, 2).mean(1)
    nearest = np.abs(clip.landmark_times - times[:, None]).argmin(1)
    points = clip.points[nearest] * np.array([width, height], np.float32)  # T/2, P, 2
    points = (points @ matrix[:, :2].T + matrix[:, 2]) / crop
    return pictures, points.astype(np.float32)
