"""Videos of real signers, drawn: hands and face of their landmarks as coloured figures.

    wlasl/landmarks.csv + .npz -> [drawn] -> clips/*.mp4 and labels of two sets of glosses

Tiny encoders see too little in small pictures of people, and the clips themselves are few. The
movement, the signers and the groups are the real ones.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _FPS = 96, 72, 25
_STEP = 2  # every other picture
_FINGERS = [(0, *range(first, first + 4)) for first in (1, 5, 9, 13, 17)]  # of a hand's points
_COLOURS = {"left": (255, 120, 60), "right": (80, 160, 255)}


def draw_sets(data: Path, out: Path, glosses: tuple[int, int]) -> list[Path]:
    """Draw the glosses with the most signers; labels of the first so many, and of the next."""
    with (data / "wlasl" / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        clips = [clip for clip in csv.DictReader(file) if clip["group"]]
    signers: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        signers[clip["gloss"]].add(clip["group"])
    order = sorted(signers, key=lambda gloss: (-len(signers[gloss]), gloss))
    sets = [order[: glosses[0]], order[glosses[0] : sum(glosses)]]
    (out / "clips").mkdir(parents=True, exist_ok=True)
    files = []
    for number, names in enumerate(sets):
        files.append(out / f"labels{number}.csv")
        with files[-1].open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "gloss", "group"])
            for clip in clips:
                if clip["gloss"] in names:
                    name = f"clips/{clip['video_id']}.mp4"
                    if not (out / name).exists():
                        _draw(data / "wlasl" / "landmarks" / f"{clip['video_id']}.npz", out / name)
                    writer.writerow([name, clip["gloss"], clip["group"]])
        print(files[-1], Counter(c["gloss"] in names for c in clips)[True], flush=True)
    return files


def _draw(landmarks: Path, video: Path) -> None:
    with np.load(landmarks) as content:
        hands = {side: content[side].astype(np.float32)[::_STEP, :, :2] for side in _COLOURS}
        body = content["body"].astype(np.float32)
    pose = np.full((len(hands["left"]), 33, 2), np.nan, np.float32)
    pose[:, [0, 11, 12]] = body[[0, 7, 8]]
    times = np.arange(len(pose)) / (_FPS // _STEP)
    np.savez(video.with_suffix(".npz"), t=times, pose=pose, **hands)
    pictures = [
        _picture(body, {side: points[i] for side, points in hands.items()})
        for i in range(len(hands["left"]))
    ]
    with av.open(str(video), "w") as container:
        stream = container.add_stream(
            "libx264", rate=_FPS // _STEP, options={"preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _picture(body: NDArray[np.float32], hands: dict[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    image = np.full((_HEIGHT, _WIDTH, 3), 30, np.uint8)
    size = np.array([_WIDTH, _HEIGHT], np.float32)
    if np.isfinite(body[[0, 7, 8]]).all():
        nose, left, right = (body[i] * size for i in (0, 7, 8))
        width = max(4.0, float(np.abs(left - right)[0]))
        cv2.circle(image, _whole(nose), int(width / 4), (200, 200, 200), -1)
        cv2.line(image, _whole(left), _whole(right), (120, 200, 120), 2)
    for side, points in hands.items():
        if np.isfinite(points).all():
            for finger in _FINGERS:
                line = (points[list(finger)] * size).round().astype(np.int32)
                cv2.polylines(image, [line], False, _COLOURS[side], 2)
    return image


def _whole(point: NDArray[np.float32]) -> tuple[int, int]:
    return int(point[0]), int(point[1])
