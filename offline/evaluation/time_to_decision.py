"""What was told of clips, and how soon: behind `offline.time_to_decision`.

signs told + [ends] -> figures
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.files import replacing
from models.schema import Prediction, Sign
from offline.data.index import UNREADABLE
from offline.scoring.metrics import mean_of, quantile_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SignLog:
    """What was told of one clip. Times count from the clip's first picture, in seconds."""

    video: str
    gloss: str  # what it shows; "": none that is known
    whole: str  # the answer of the whole clip
    end: SignEnd | None  # None: not asked for
    signs: tuple[tuple[float, Sign], ...]  # each time one was told, and when

    @property
    def finals(self) -> list[tuple[float, Sign]]:
        """The last words, each with when it came."""
        return [(at_s, sign) for at_s, sign in self.signs if sign.final]

    @property
    def right(self) -> bool:
        return any(sign.gloss == self.gloss for _, sign in self.finals)

    @property
    def answer(self) -> tuple[float, Sign] | None:
        """The last word that answers the clip: the last right one, else the surest."""
        rights = [final for final in self.finals if final[1].gloss == self.gloss]
        return rights[-1] if rights else max(self.finals, key=lambda f: f[1].p, default=None)


def decision_figures(heard: Sequence[SignLog]) -> dict[str, Any]:
    """What was told of clips of known glosses, and how long after the sign's end, in seconds.

    Raises:
        ValueError: there is no clip, or nothing was told.
    """
    answered = [(one, one.answer) for one in heard if one.answer is not None]
    if not answered:
        raise ValueError("nothing was told of any clip")
    told_of = [one for one, _ in answered]
    return {
        "clips": len(heard),
        "right": _share_of([one.right for one in heard]),
        "wrong": _share_of([not one.right and bool(one.finals) for one in heard]),
        "nothing": _share_of([not one.finals for one in heard]),
        "more_than_one": _share_of([len(one.finals) > 1 for one in heard]),
        "more_signs": _more_signs(heard),
        "whole_clip_right": _share_of([one.whole == one.gloss for one in heard]),
        "told": len(told_of),
        "right_of_told": _share_of([one.right for one in told_of]),
        "whole_clip_right_of_told": _share_of([one.whole == one.gloss for one in told_of]),
        **{name: quantiles(list(delays)) for name, delays in _delays(answered)},
        "final_before_end": sum(
            at_s < one.end.moved_s for one, (at_s, _) in answered if one.end is not None
        ),
    }


def _delays(
    answered: Sequence[tuple[SignLog, tuple[float, Sign]]],
) -> Iterator[tuple[str, Iterator[float]]]:
    """Named lists: from the end to the sign's first message, the first right one, the final one."""
    ended = [(one, one.end, final) for one, final in answered if one.end is not None]

    def first(one: SignLog, final: Sign, gloss: str | None) -> Iterator[float]:
        for at_s, sign in one.signs:
            if sign.id == final.id and gloss in (None, sign.gloss):
                yield at_s
                return

    yield "first_s", (t - e.moved_s for o, e, (_, s) in ended for t in first(o, s, None))
    yield "first_right_s", (t - e.moved_s for o, e, (_, s) in ended for t in first(o, s, o.gloss))
    yield "final_s", (at_s - e.moved_s for _, e, (at_s, _) in ended)
    yield "final_from_lowering_s", (at_s - e.lowering_s for _, e, (at_s, _) in ended)
    yield (
        "final_where_after_end_s",
        (at_s - e.moved_s for _, e, (at_s, _) in ended if at_s >= e.moved_s),
    )


def _more_signs(heard: Sequence[SignLog]) -> dict[str, int]:
    """Signs told of clips that had been told of already: the same once more, or another."""
    again, other, other_after_end = 0, 0, 0
    for one in heard:
        before: set[str] = set()
        for at_s, sign in one.finals:
            again += sign.gloss in before
            if before and sign.gloss not in before:
                other += 1
                other_after_end += one.end is not None and at_s > one.end.moved_s
            before.add(sign.gloss)
    return {"again": again, "other": other, "other_after_end": other_after_end}


def false_signs(outside: Sequence[SignLog], idle_signs: int, idle_s: float) -> dict[str, Any]:
    """What is told where no known gloss is signed: of other signs, and of `idle_s` of nobody's."""
    return {
        "outside": len(outside),
        "outside_taken_for_known": _share_of([bool(one.signs) for one in outside])
        if outside
        else None,
        "false_signs_per_min": round(60 * idle_signs / idle_s, 2) if idle_s else None,
    }


def _share_of(hits: Sequence[bool]) -> dict[str, Any]:
    share, interval = mean_of(np.array(hits, np.float64))
    return {"share": round(share, 4), "interval95": [round(x, 4) for x in interval]}


def quantiles(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    found: dict[str, Any] = {"n": len(values)}
    for name, q in (("p50", 0.5), ("p95", 0.95)):
        value, interval = quantile_of(np.array(values), q)
        found[name] = round(value, 3)
        found[f"{name}_interval95"] = [round(x, 3) for x in interval]
    return found


def decision_row(heard: SignLog) -> dict[str, Any]:
    """One clip, for the report."""
    return {
        "video": heard.video,
        "gloss": heard.gloss,
        "whole": heard.whole,
        "end_s": None if heard.end is None else round(heard.end.moved_s, 3),
        "told": [
            [round(at_s, 3), s.id, s.gloss, round(s.p, 3), s.final] for at_s, s in heard.signs
        ],
    }


# MERGED from offline.kept: What a recogniser said of videos, kept: so that decoder settings are
# tried without reading again. videos -> [reading] -> [kept] -> predictions A file a video, in a
# folder whose name is of all that the answers depend on, but our own code: the bundle's files and
# how it was read. Attention, embedding and what was seen are not kept.

_RESTING = (False, True, None)


def folder_of(root: Path, bundle: Bundle, *how: object) -> Path:
    """The folder in `root` for what `bundle` says when its videos are read in the way of `how`."""
    of = (sorted(bundle.card["files"].items()), bundle.temperature, bundle.encoder, bundle.hop_s)
    digest = hashlib.sha256(repr((of, how)).encode()).hexdigest()[:12]
    return root / f"{bundle.name}-{digest}"


def kept(
    folder: Path | None, video: str, read: Callable[[], Iterable[Prediction]]
) -> list[Prediction]:
    """The predictions of a video: those in `folder`, else what `read` gives, which stays there.

    Without a folder nothing is kept.

    Raises:
        ValueError: what is kept can't be read; one line that names the file.
    """
    if folder is None:
        return list(read())
    file = folder / f"{video}.npz"
    if file.exists():
        return _read(file)
    said = list(read())
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as stream:
        np.savez(
            stream,
            probabilities=np.array([one.probabilities for one in said], np.float32),  # N, G
            idle=np.array([one.idle for one in said]),
            times=np.array([(one.start_s, one.end_s) for one in said]),
            resting=np.array([_RESTING.index(one.resting) for one in said], np.int8),
            took_s=np.array([sum(one.stages_s.values()) for one in said]),
        )
    return said


def _read(file: Path) -> list[Prediction]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return [
                Prediction(
                    stream="",
                    probabilities=p,
                    idle=float(idle),
                    attention=np.zeros(0, np.float32),
                    start_s=float(start_s),
                    end_s=float(end_s),
                    resting=_RESTING[resting],
                    stages_s={"window": float(took_s)},
                )
                for p, idle, (start_s, end_s), resting, took_s in zip(
                    *(stored[n] for n in ("probabilities", "idle", "times", "resting", "took_s")),
                    strict=True,
                )
            ]
    except (*UNREADABLE, TypeError) as exc:
        raise ValueError(f"{file}: no kept predictions to read: {exc}") from exc


# MERGED from offline.ends: Where the sign of a clip ends, by MediaPipe Holistic's landmarks of
# it. landmarks/CLIP.npz -> [ends] -> offline.time_to_decision Other networks than ours have
# looked, and no recogniser is asked: an end can't move with an answer.

_SHOULDERS, _WRISTS = [11, 12], [15, 16]  # BlazePose's numbers: left, right
_LOW = 0.95  # shoulder widths below the shoulders: hands at rest hang lower
_SPEED = 0.7  # shoulder widths a second: held hands tremble with 0.1 to 0.4, signs move with 2 to 9


@dataclass(frozen=True, slots=True, kw_only=True)
class SignEnd:
    """Moments of a clip in seconds from its first picture."""

    moved_s: float  # the last at which a raised wrist moved: by this the sign's end is meant
    lowering_s: float  # where the movement that ends there began to go down: no later
    clip_s: float  # the last picture


def sign_end(times: NDArray[np.floating], wrists: NDArray[np.floating]) -> SignEnd:
    """The end of the sign in wrists (T, 2, 2) at `times` (T,), s.

    Wrists are x, y of left and right in shoulder widths from the middle of the shoulders, y down;
    not a number where nobody is seen. A clip in which no raised wrist moves ends with its last
    raised wrist, or where the clip does.

    Raises:
        ValueError: there is no moment.
    """
    if not len(times):
        raise ValueError("no landmarks")
    clip_s = float(times[-1])
    up = wrists[..., 1] < _LOW  # T, 2; false for what is no number
    speed = np.zeros((len(times), 2, 2))
    speed[1:] = np.nan_to_num(np.diff(wrists, axis=0) / np.diff(times)[:, None, None])
    moving = up & (np.hypot(speed[..., 0], speed[..., 1]) > _SPEED)
    for there in (moving, up):
        steps = np.flatnonzero(there.any(1))
        if len(steps):
            last = began = int(steps[-1])
            while began > 0 and (speed[began, :, 1] * up[began]).max() > _SPEED:
                began -= 1
            return SignEnd(
                moved_s=float(times[last]), lowering_s=float(times[began]), clip_s=clip_s
            )
    return SignEnd(moved_s=clip_s, lowering_s=clip_s, clip_s=clip_s)


def read_end(path: str | os.PathLike[str], aspect: float) -> SignEnd:
    """The end of the sign by the .npz at `path`: `t` (T,), s, and `pose` (T, 33, 4) in fractions of
    a picture `aspect` times as wide as high.

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
