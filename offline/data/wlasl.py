"""WLASL's JSON files: which clip shows what, who signs, and where in its video.

    WLASL_v0.3.json, nslt_*.json -> [wlasl] -> Instance -> labels

* `WLASL_v0.3.json`: a list of {"gloss", "instances": [{"video_id", "signer_id", "split"}]};
* `nslt_*.json`: {"<id>": {"subset", "action": [class, first, last]}} beside `wlasl_class_list.txt`.
  It names no signers: they are taken from a `WLASL_v0.3.json` beside it, if there is one.

WLASL's scripts cut videos of YouTube to the sign, by `frame_start` and `frame_end` (from 1; -1: to
the end). In `nslt_*.json` frames that begin at 1 count in the cut video, and say nothing more.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline.data.label_tables import LabelError, read_text

_CLASSES = "wlasl_class_list.txt"
_FULL = "WLASL_v0.3.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What WLASL's files say of a clip."""

    video_id: str
    gloss: str
    split: str
    signer: str = ""
    other_names: tuple[str, ...] = ()  # that the file may have
    frames: tuple[int, int | None] | None = None


def read_instances(file: Path) -> list[Instance]:
    """The clips that one of WLASL's files names, in its order.

    Raises:
        LabelError: it can't be read, or is not in their format.
    """
    text = read_text(file)
    try:
        value: Any = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as exc:
        raise LabelError(f"{file}: not JSON: {exc}") from exc
    try:
        return list(_from_split(file, value) if isinstance(value, dict) else _from_full(value))
    except LabelError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as exc:
        raise LabelError(f"{file}: not in the format of WLASL ({exc!r})") from exc


def _from_full(value: Any) -> Iterator[Instance]:
    for entry in value:
        for clip in entry["instances"]:
            url = str(clip.get("url", ""))
            on_youtube = "youtube" in url or "youtu.be" in url
            yield Instance(
                video_id=_name(clip["video_id"]),
                gloss=_text(entry["gloss"]),
                split=_text(clip["split"]),
                signer=f"wlasl:{clip['signer_id']}",
                other_names=(url[-11:],) if on_youtube else (),
                frames=_frames(clip.get("frame_start", 1), clip.get("frame_end", -1)),
            )


def _from_split(file: Path, value: dict[str, Any]) -> Iterator[Instance]:
    classes, names = file.with_name(_CLASSES), dict[int, str]()
    for line_number, line in enumerate(read_text(classes).split("\n"), 1):
        number, _, name = line.strip().replace("\t", " ", 1).partition(" ")
        if not number:
            continue
        if not number.isdecimal() or not name.strip():
            raise LabelError(f"{classes}: line {line_number} is no number, tab and gloss: {line!r}")
        if names.setdefault(int(number), name.strip()) != name.strip():
            raise LabelError(f"{classes}: line {line_number} has number {int(number)} again")
    full = file.with_name(_FULL)
    signers = {one.video_id: one.signer for one in read_instances(full)} if full.is_file() else {}
    for video_id, clip in value.items():
        action = clip["action"]
        if action[0] not in names:
            raise LabelError(f"{classes}: has no class {action[0]}, which video {video_id} shows")
        first, last = action[1:3] if len(action) > 2 else (1, -1)
        frames = _frames(first, last) if first > 1 else None
        yield Instance(
            video_id=video_id,
            gloss=names[action[0]],
            split=_text(clip["subset"]),
            signer=signers.get(video_id, ""),
            frames=frames,
        )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError where it has one key twice, of which JSON would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def _name(value: Any) -> str:
    return str(value) if isinstance(value, int) else _text(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{value!r} is no text")
    return value


def _frames(first: Any, last: Any) -> tuple[int, int | None] | None:
    """The frames of a sign, from 1; None where they are the whole video, or no range."""
    first, last = max(1, int(first)), int(last)
    if last < first:
        return (first, None) if first > 1 and last <= 0 else None
    return first, last
