"""The signs that a bundle decodes from held-out clips, and how soon after the signing has ended.

    clips -> predictions, as live -> sign updates + ends -> [time_to_decision] -> figures

A sign is decided with its final message. The end of the signing comes from MediaPipe Holistic's
landmarks of the clip: other networks than ours, so that it does not depend on a prediction.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import open_bundle
from models.decoder import DecoderSettings, clip_probabilities
from models.landmarks import layout
from models.recognizer import Recognizer
from models.schema import Prediction, Sign
from offline.data.index import UNREADABLE
from offline.data.labels import holds_landmarks, read_negatives
from offline.evaluation.figures import mean_of
from offline.scoring.metrics import bootstrapped
from offline.scoring.video_predictions import (
    VideoReader,
    read_predictions,
    sign_updates,
    signs_of,
)

_BEFORE_S, _AFTER_S = 1.0, 3.0  # clips are cut close to their sign: their ends are held so long
_SHOULDERS, _WRISTS = [11, 12], [15, 16]  # BlazePose's numbers: left, right
_SPEED = 0.7  # shoulder widths a second: held hands tremble with 0.1 to 0.4, signs move with 2 to 9


@dataclass(frozen=True, slots=True, kw_only=True)
class SignEnd:
    """Moments of a clip in seconds from its first frame."""

    moved_s: float  # the last at which a raised wrist moved: the end of the signing
    lowering_s: float  # where the movement that ends there began to go down: no later
    clip_s: float  # the last frame


def sign_end(times: NDArray[np.floating], wrists: NDArray[np.floating]) -> SignEnd:
    """The end of the signing by wrists (T, 2, 2) at `times` (T,), s.

    Wrists are x, y of left and right in shoulder widths from the middle of the shoulders, y down;
    NaN where nobody is seen. A clip in which no raised wrist moves ends with its last raised wrist,
    or with the clip.

    Raises:
        ValueError: there is no moment.
    """
    if not len(times):
        raise ValueError("no landmarks")
    clip_s = float(times[-1])
    up = wrists[..., 1] < layout.LOW  # T, 2; false for NaN
    speed = np.zeros((len(times), 2, 2))
    speed[1:] = np.nan_to_num(np.diff(wrists, axis=0) / np.diff(times)[:, None, None])
    moving = up & (np.hypot(speed[..., 0], speed[..., 1]) > _SPEED)
    for chosen in (moving, up):
        steps = np.flatnonzero(chosen.any(1))
        if len(steps):
            last = began = int(steps[-1])
            while began > 0 and (speed[began, :, 1] * up[began]).max() > _SPEED:
                began -= 1
            moved_s, lowering_s = float(times[last]), float(times[began])
            return SignEnd(moved_s=moved_s, lowering_s=lowering_s, clip_s=clip_s)
    return SignEnd(moved_s=clip_s, lowering_s=clip_s, clip_s=clip_s)


def read_end(path: str | os.PathLike[str], aspect: float) -> SignEnd:
    """The end of the signing by the .npz at `path`: `t` (T,), s, and `pose` (T, 33, 4) in fractions
    of a picture `aspect` times as wide as high.

    Raises:
        ValueError: one line that names the file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            times = stored["t"].astype(np.float64)
            points = stored["pose"][..., :2].astype(np.float64) * (aspect, 1.0)
    except (*UNREADABLE, IndexError) as exc:
        raise ValueError(f"{os.fspath(path)}: no landmarks to read: {exc}") from exc
    left, right = points[:, _SHOULDERS[0]], points[:, _SHOULDERS[1]]
    seen = np.isfinite(left[:, 0])
    if not seen.any():
        raise ValueError(f"{os.fspath(path)}: shows nobody")
    middle = np.median(((left + right) / 2)[seen], axis=0)
    unit = np.median(np.hypot(*(left - right)[seen].T))
    return sign_end(times, (points[:, _WRISTS] - middle) / max(float(unit), 1e-6))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignLog:
    """The signs decoded from one clip. Times are seconds from the clip's first frame."""

    video: str
    gloss: str  # what the clip shows
    clip_gloss: str  # the prediction for the whole clip
    end: SignEnd
    updates: tuple[tuple[float, Sign], ...]  # each message about a sign, and when it came

    @property
    def finals(self) -> list[tuple[float, Sign]]:
        return [(at_s, sign) for at_s, sign in self.updates if sign.final]

    @property
    def right(self) -> bool:
        return any(sign.gloss == self.gloss for _, sign in self.finals)

    @property
    def decision(self) -> tuple[float, Sign] | None:
        """The clip's final sign: the last right one, else the most probable."""
        rights = [final for final in self.finals if final[1].gloss == self.gloss]
        return rights[-1] if rights else max(self.finals, key=lambda f: f[1].p, default=None)

    def delays_s(self, id: int, gloss: str | None = None) -> list[float]:
        """From the end of the signing to each message about a sign, or to those with `gloss`."""
        sent = [(at_s, sign) for at_s, sign in self.updates if sign.id == id]
        return [at_s - self.end.moved_s for at_s, sign in sent if gloss in (None, sign.gloss)]


@dataclass(slots=True, kw_only=True)
class BundleLog:
    """The signs that one bundle decoded."""

    logs: list[SignLog] = field(default_factory=list)  # of its held-out clips
    idle_signs: int = 0  # of the idle videos of held-out groups: all are false
    idle_s: float = 0.0
    window_ms: list[float] = field(default_factory=list)  # encoder and head, a window


def read_bundle(
    path: str, data: Path, hop_s: float | None, max_new_frames: int | None
) -> BundleLog:
    """Read the held-out clips and idle videos of a bundle, by its own hop unless one is given.

    Raises:
        ValueError, OSError: one line that names the file.
    """
    bundle = open_bundle(path)
    bundle = replace(bundle, hop_s=hop_s or bundle.hop_s)
    about, found = bundle.card["data"], BundleLog()
    if not isinstance(about, dict) or not about.get("held_out_clips"):
        raise ValueError(f"{bundle.path}: its card names no held-out clips")
    manifest = read_manifest(data)
    with closing(Recognizer.open(bundle, "cpu", max_new_frames=max_new_frames)) as recognizer:
        clips = [c for c in about["held_out_clips"] if not holds_landmarks(Path(c["video"]))]
        for clip in clips:
            if clip["video"] not in manifest:
                raise ValueError(f"{data / 'manifest.csv'}: does not list {clip['video']}")
            line = manifest[clip["video"]]
            windows, log = read_clip(recognizer, data, line, clip["gloss"])
            found.logs.append(log)
            found.window_ms += [1000 * sum(w.stages_s.values()) for w in windows[1:]]
        for video in read_negatives(data / "negatives"):
            if video.signer in about["held_out_groups"]:
                windows = list(read_predictions(recognizer, video.path))
                found.idle_s += windows[-1].end_s
                settings = DecoderSettings(threshold=bundle.threshold)
                found.idle_signs += len(signs_of(bundle.glosses, windows, settings))
    return found


def read_manifest(data: Path) -> dict[str, dict[str, str]]:
    """The lines of the data's manifest.csv by the names of the clips."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return {Path(line["path"]).name: line for line in csv.DictReader(stream)}


def read_clip(
    reader: VideoReader, data: Path, line: Mapping[str, str], gloss: str
) -> tuple[list[Prediction], SignLog]:
    """The predictions for a clip of the manifest, with held ends, and the signs in them."""
    bundle, path = reader.bundle, data / line["path"]
    end = read_end(data / line["landmarks"], float(line["width"]) / float(line["height"]))
    windows = list(read_predictions(reader, path, hold_s=(_BEFORE_S, _AFTER_S)))
    shown = [p for p in windows if 0 <= p.end_s - _BEFORE_S <= end.clip_s + 1e-3]
    updates = sign_updates(bundle.glosses, windows, DecoderSettings(threshold=bundle.threshold))
    return windows, SignLog(
        video=path.name,
        gloss=gloss,
        clip_gloss=bundle.glosses[int(clip_probabilities(shown or windows).argmax())],
        end=end,
        updates=tuple((at_s - _BEFORE_S, sign) for at_s, sign in updates),
    )


def decision_figures(logs: Sequence[SignLog]) -> dict[str, Any]:
    """Accuracy of the decided signs, and the time from the end of the signing to them, in seconds.

    Raises:
        ValueError: there is no clip, or no sign in any.
    """
    decided = [(log, log.decision) for log in logs if log.decision is not None]
    if not decided:
        raise ValueError("no sign was decoded from any clip")
    final_s = [at_s - log.end.moved_s for log, (at_s, _) in decided]
    return {
        "clips": len(logs),
        "right": mean_of([log.right for log in logs]),
        "wrong": mean_of([not log.right and bool(log.finals) for log in logs]),
        "undecided": mean_of([not log.finals for log in logs]),
        "more_than_one": mean_of([len(log.finals) > 1 for log in logs]),
        "further_signs": _further_signs(logs),
        "clip_right": mean_of([log.clip_gloss == log.gloss for log in logs]),
        "decided": len(decided),
        "right_of_decided": mean_of([log.right for log, _ in decided]),
        "clip_right_of_decided": mean_of([log.clip_gloss == log.gloss for log, _ in decided]),
        "first_s": quantiles([log.delays_s(sign.id)[0] for log, (_, sign) in decided]),
        "first_right_s": quantiles(
            [s for log, (_, sign) in decided for s in log.delays_s(sign.id, log.gloss)[:1]]
        ),
        "final_s": quantiles(final_s),
        "final_from_lowering_s": quantiles(
            [at_s - log.end.lowering_s for log, (at_s, _) in decided]
        ),
        "final_where_after_end_s": quantiles([after_s for after_s in final_s if after_s >= 0]),
        "final_before_end": sum(at_s < log.end.moved_s for log, (at_s, _) in decided),
    }


def _further_signs(logs: Sequence[SignLog]) -> dict[str, int]:
    """Signs of clips that had a final sign already: the same gloss again, or another one."""
    same, other, other_after_end = 0, 0, 0
    for log in logs:
        before: set[str] = set()
        for at_s, sign in log.finals:
            same += sign.gloss in before
            if before and sign.gloss not in before:
                other += 1
                other_after_end += at_s > log.end.moved_s
            before.add(sign.gloss)
    return {"same": same, "other": other, "other_after_end": other_after_end}


def quantiles(values: Sequence[float]) -> dict[str, Any] | None:
    """Median and 95th percentile with their 95 % intervals; None without a value."""
    if not values:
        return None
    found: dict[str, Any] = {"n": len(values)}
    for name, q in (("p50", 0.5), ("p95", 0.95)):
        value, interval = bootstrapped(np.array(values), partial(np.quantile, q=q))
        found[name] = round(value, 3)
        found[f"{name}_interval95"] = [round(x, 3) for x in interval]
    return found


def decision_row(log: SignLog) -> dict[str, Any]:
    """One clip, for the report."""
    return {
        "video": log.video,
        "gloss": log.gloss,
        "clip_gloss": log.clip_gloss,
        "end_s": round(log.end.moved_s, 3),
        "updates": [
            [round(at_s, 3), s.id, s.gloss, round(s.p, 3), s.final] for at_s, s in log.updates
        ],
    }
