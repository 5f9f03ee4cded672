"""Clips to train on: decoded once, changed anew each time that they are drawn.

    videos -> [drawing]: pictures in bounded memory -> speed, cut, colour -> a step's clips

A clip is kept at twice the encoder's rate and for longer than its window, so that it can be cut
faster, slower, earlier and later. All random numbers come from the seed, the number of the step and
the clip's place in it: a resumed training, and one of several processes, draws the same clips.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.schema import EncoderSpec
from models.vjepa2.preprocess import crop_pictures, resized_short_side
from offline.data.videos import VideoError, VideoPart
from offline.encoding.embed import middle_window
from offline.finetuning.config import ChangeSettings, FinetuneSettings
from offline.finetuning.processes import Processes

_FINER = 2  # pictures kept for each that the encoder takes
_LONGER = 1.5  # a kept clip is so many windows long
_WIDEST = 1.3  # width / height that is kept: no cut reaches further
_AHEAD = 2  # parts of steps that are prepared while one is computed

Pictures = NDArray[np.uint8]  # (T, H, W, 3) RGB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptClip:
    """The middle of a video: different pictures, and which of them each tick shows."""

    pictures: Pictures
    ticks: NDArray[np.int64]  # (F,)
    first: int  # the tick at which the video begins; those before repeat it


class KeptVideos:
    """The videos of a training, decoded on demand by any thread.

    Bound: `limit` bytes; what comes after that is decoded each time that it is asked for.
    """

    def __init__(
        self, paths: Sequence[Path | VideoPart], spec: EncoderSpec, crop: int, limit: float
    ) -> None:
        """`limit`: bytes of pictures to keep."""
        self.paths, self.spec, self.crop = paths, spec, crop
        self._fine = replace(
            spec, fps=spec.fps * _FINER, frames=math.ceil(spec.frames * _FINER * _LONGER)
        )
        self._room = limit
        self._lock = threading.Lock()
        self._kept: dict[int, KeptClip] = {}
        self._windows: dict[int, Pictures] = {}

    def clip(self, number: int) -> KeptClip:
        """More than the middle window of a video, to be cut and changed.

        Raises:
            VideoError: the video can't be read.
        """
        if (kept := self._kept.get(number)) is not None:
            return kept
        frames = middle_window(self.paths[number], self._fine)
        different = list(dict.fromkeys(frames))
        place = {id(frame): i for i, frame in enumerate(different)}
        ticks = np.array([place[id(frame)] for frame in frames])
        pictures = _stacked([frame.image for frame in different], self.paths[number])
        found = KeptClip(pictures=pictures, ticks=ticks, first=int((ticks == 0).sum()) - 1)
        if self._fits(pictures.nbytes):
            self._kept[number] = found
        return found

    def window(self, number: int) -> Pictures:
        """(T, crop, crop, 3) The middle window of a video, unchanged, as `offline.encode` cuts it.

        Raises:
            VideoError: the video can't be read.
        """
        if (kept := self._windows.get(number)) is not None:
            return kept
        frames = middle_window(self.paths[number], self.spec)
        pictures = crop_pictures([frame.image for frame in frames], self.crop)
        if self._fits(pictures.nbytes):
            self._windows[number] = pictures
        return pictures

    def _fits(self, size: int) -> bool:
        """Whether there is room for so many bytes, which are then taken."""
        with self._lock:
            if size > self._room:
                return False
            self._room -= size
            return True


def find_problems(clips: KeptVideos, train: int, workers: int, processes: Processes) -> list[str]:
    """Why each video can't be read, or empty. Each process reads its share once, into memory.

    The first `train` videos are to be trained on, of the others windows are read.
    """

    def problem(number: int) -> str:
        try:
            _ = clips.clip(number) if number < train else clips.window(number)
        except (VideoError, OSError) as exc:
            return str(exc)
        return ""

    count, world = len(clips.paths), processes.world
    with ThreadPoolExecutor(workers, "check") as threads:
        own = list(threads.map(problem, range(processes.rank, count, world)))
    shares = processes.gathered(own)
    return [shares[number % world][number // world] for number in range(count)]


def _stacked(images: Sequence[NDArray[np.uint8]], path: Path | VideoPart) -> Pictures:
    """Pictures of one size, without the sides that no cut reaches."""
    height, width = images[0].shape[:2]
    if any(image.shape != images[0].shape for image in images):
        raise VideoError(f"{path}: its pictures change their size")
    narrow, low = min(width, int(_WIDEST * height)), min(height, int(_WIDEST * width))
    left, top = (width - narrow) // 2, (height - low) // 2
    return np.stack([image[top : top + low, left : left + narrow] for image in images])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepPart:
    """Some of a step's clips, computed at once."""

    pictures: Pictures  # (B, T, H, W, 3)
    target: NDArray[np.float32]  # (B, K); sums to 1


class Drawing:
    """Draws the clips of steps: which ones, and how each is changed."""

    def __init__(
        self,
        clips: KeptVideos,
        numbers: Sequence[int],
        labels: Sequence[int],
        weights: Sequence[float],
        classes: int,
        settings: FinetuneSettings,
        changes: ChangeSettings,
    ) -> None:
        """Of the clips with these `numbers`: their `labels`, and how often each is drawn."""
        self._clips, self._settings, self._changes = clips, settings, changes
        self._numbers = list(numbers)
        self._targets = np.eye(classes, dtype=np.float32)[np.asarray(labels)]
        self._targets *= 1 - settings.smoothing
        self._targets += settings.smoothing / classes
        self._odds = np.asarray(weights, np.float64) / np.sum(weights)

    def steps(
        self, first: int, last: int, rank: int = 0, world: int = 1
    ) -> Iterator[Sequence[StepPart]]:
        """The parts of steps `first` to `last` that are this process's, made by threads, ahead.

        Raises:
            VideoError: a video that could be read can't be any more.
        """
        parts = self._settings.accumulate
        size = self._settings.batch // parts // world
        coming: deque[list[Future[tuple[Pictures, NDArray[np.float32]]]]] = deque()
        wanted = ((step, part) for step in range(first, last + 1) for part in range(parts))
        with ThreadPoolExecutor(self._settings.workers, "clips") as threads:
            try:
                ready: list[StepPart] = []
                for _ in range((last - first + 1) * parts):
                    while len(coming) <= _AHEAD and (next_one := next(wanted, None)) is not None:
                        step, part = next_one
                        begin = (part * world + rank) * size
                        places = range(begin, begin + size)
                        coming.append([threads.submit(self.draw, step, p) for p in places])
                    drawn = [clip.result() for clip in coming.popleft()]
                    ready.append(
                        StepPart(
                            pictures=np.stack([pictures for pictures, _ in drawn]),
                            target=np.stack([target for _, target in drawn]),
                        )
                    )
                    if len(ready) == parts:
                        yield ready
                        ready = []
            finally:
                threads.shutdown(wait=True, cancel_futures=True)

    def draw(self, step: int, place: int) -> tuple[Pictures, NDArray[np.float32]]:
        """(T, crop, crop, 3) and (K,) The clip at `place` of a step, changed, and its target."""
        # What is drawn first is the clip alone, so that the other options do not change which.
        draw = np.random.default_rng((self._settings.seed, step, place))
        number = int(draw.choice(len(self._odds), p=self._odds))
        mixed, other = draw.random() < self._changes.mixup, int(draw.choice(len(self._odds)))
        pictures, target = self._changed(self._numbers[number], draw), self._targets[number]
        if mixed:
            share = float(draw.uniform(0.5, 1))
            beside = self._changed(self._numbers[other], draw)
            pictures = cv2.addWeighted(pictures, share, beside, 1 - share, 0).astype(np.uint8)
            target = share * target + (1 - share) * self._targets[other]
        return pictures, target

    def _changed(self, number: int, draw: np.random.Generator) -> Pictures:
        clip, spec, crop = self._clips.clip(number), self._clips.spec, self._clips.crop
        chosen = clip.pictures[cut_ticks(clip, spec, self._changes, draw)]
        matrix = placing(chosen.shape[1:3], crop, self._changes, draw)
        colours = colouring(self._changes, draw)
        return changed_pictures(chosen, matrix, colours, crop)


def changed_pictures(
    pictures: Pictures, matrix: NDArray[np.float64], colours: NDArray[np.float64], crop: int
) -> Pictures:
    """(T, crop, crop, 3) Pictures moved as `placing` says, in the colours of `colouring`."""
    changed = np.empty((len(pictures), crop, crop, 3), np.uint8)
    for image, into in zip(pictures, changed, strict=True):
        cut = cv2.warpAffine(image, matrix, (crop, crop), borderMode=cv2.BORDER_REPLICATE)
        cv2.transform(cut, colours, into)
    return changed


def cut_ticks(
    clip: KeptClip, spec: EncoderSpec, changes: ChangeSettings, draw: np.random.Generator
) -> NDArray[np.int64]:
    """(T,) Which pictures of a clip make its window, at a random speed and time."""
    speed = 1 + changes.speed * draw.uniform(-1, 1)
    later = changes.shift_s * draw.uniform(-1, 1) * spec.fps * _FINER
    window, there = spec.frames * _FINER, len(clip.ticks) - clip.first
    # Short videos end with the window, as live; of long ones it shows the middle.
    end = len(clip.ticks) - 1 - max(0, there - window) / 2
    middle = end - window / 2 + later
    ticks = middle + (np.arange(spec.frames) - (spec.frames - 1) / 2) * _FINER * speed
    whole = ticks.round().astype(np.int64).clip(clip.first, len(clip.ticks) - 1)
    return np.asarray(clip.ticks[whole], np.int64)


def placing(
    size: tuple[int, int], crop: int, changes: ChangeSettings, draw: np.random.Generator
) -> NDArray[np.float64]:
    """(2, 3) From places in a picture of `size` (height, width) to those in its cut of `crop` px.

    Without changes it is the encoder's own: the short side to 8/7 of the crop, and the middle.
    """
    height, width = size
    zoom = resized_short_side(crop) / min(height, width)
    zoom *= (1 + changes.zoom) ** draw.uniform(-1, 1)
    angle = np.deg2rad(changes.turn * draw.uniform(-1, 1))
    aside = changes.shift * crop * draw.uniform(-1, 1, 2)
    turned = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if draw.random() < changes.mirror:
        turned[:, 0] *= -1
    from_middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([turned, (crop - 1) / 2 + aside - turned @ from_middle])


def colouring(changes: ChangeSettings, draw: np.random.Generator) -> NDArray[np.float64]:
    """(3, 4) From RGB levels and 1 to other levels: saturation, tint, contrast and brightness."""
    saturation, contrast, brightness = 1 + changes.colour * draw.uniform(-1, 1, 3)
    tint = 1 + changes.colour / 4 * draw.uniform(-1, 1, 3)
    grey = np.array([0.299, 0.587, 0.114])
    matrix = saturation * np.eye(3) + (1 - saturation) * grey
    matrix = contrast * brightness * tint[:, None] * matrix
    return np.column_stack([matrix, np.full(3, 128 * brightness * (1 - contrast))])
