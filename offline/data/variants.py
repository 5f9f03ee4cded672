"""Which rows are variants of one video, where only their names tell: `apple_25000_bw_vjepa.npy`.

    index entries -> [variants] -> entries with variants, pairs of videos -> examples, duplicates

Variants of a video that are taken for videos of their own stand on both sides of a split, and a
head that has learnt nothing but the videos seems good. `offline.encode` names variants in a column.
Indexes from elsewhere, and videos that somebody flipped or cropped before encoding, have it in the
name: words at its end or start, or folders, such as `_bw`, `_aug1`, `-flip`, `_crop_2`, `bw/`. What
other names mean nobody can know: `a.mp4` and `a (1).mp4` stay two videos.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from offline.data.index import ORIGINAL, Entry

_CHANGES = (
    "original orig gaussian gauss blur blurred bw gray grey grayscale greyscale aug augmented "
    "flip flipped hflip vflip mirror mirrored crop cropped centercrop rot rotate rotated rotation "
    "noise noisy bright brightness dark contrast jitter color colour hue saturation speed slow "
    "fast zoom shift shifted scale scaled translate translated warp stretch cutout masked variant"
).split()
_ENCODERS = "vjepa vjepa2 jepa emb embed embedding embeddings feat feats feature features".split()
_FILES = (".npy", ".npz", ".pt", ".mp4", ".mov", ".mkv", ".webm", ".avi")
_LONGEST = 300  # characters: a hostile name takes the square of its length
_NUMBERED = (  # a word, and what it was done by: crop2, rot-15, rot180, speed_0.9
    rf"(?:{'|'.join([*_CHANGES, *_ENCODERS])})(?:\d{{3}}|[_.\-]{{0,2}}\d{{1,2}}(?:\.\d+)?)?"
)
_TAIL = re.compile(
    rf"(?P<video>.*?[^\W_])(?P<words>(?:(?:[\s_.\-+(\[]+|(?<=\d)){_NUMBERED}[)\]]?)+)",
    re.IGNORECASE | re.DOTALL,
)
_HEAD = re.compile(
    rf"(?P<words>(?:{_NUMBERED}[\s_.\-+]+)+)(?P<video>[^\W_].*)", re.IGNORECASE | re.DOTALL
)
_ALONE = re.compile(_NUMBERED, re.IGNORECASE)
_WORD = re.compile(r"([a-z]+)[_.\-]*([\d.]*\d)?")


def split_name(name: str, gloss: str = "") -> tuple[str, str]:
    """The video and the variant that a name tells, `original` where it tells none.

    A word of the `gloss` is no variant: the sign `fast` may be called `go_fast_2`.

    >>> split_name("apple_25000_bw_vjepa.npy")
    ('apple_25000', 'bw')
    >>> split_name("flip/bw_25000")
    ('25000', 'flip+bw')
    """
    path = PurePath(name)
    stem = name.removesuffix(path.suffix) if path.suffix.lower() in _FILES else name
    *folders, last = stem.split("/")
    if len(stem) > _LONGEST or _ALONE.fullmatch(last):
        return name, ORIGINAL
    of_gloss = set(re.findall(r"[a-z]+", gloss.lower()))

    def told(words: str) -> list[tuple[str, str]]:
        found = _WORD.findall(words.lower())
        return [] if of_gloss & {word for word, _ in found} else found

    words = [word for f in folders if _ALONE.fullmatch(f) for word in told(f)]
    kept = [f for f in folders if not (_ALONE.fullmatch(f) and told(f))]
    for pattern in (_HEAD, _TAIL):
        found = pattern.fullmatch(last)
        if found and (more := told(found["words"])):
            last, words = found["video"], words + more
    if not words:
        return name, ORIGINAL
    known = (*_ENCODERS, ORIGINAL, "orig")
    variant = "+".join(w + n for w, n in words if w not in known) or ORIGINAL
    return "/".join([*kept, last]), variant


def with_variants(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with the variants that their names tell, one of each video `original`.

    Rows that `offline.encode` stored keep their ids: `named_pairs` tells which are one video.

    Raises:
        ValueError: a row, or one video, has two glosses.
    """
    names = [split_name(e.video_id, e.gloss) for e in entries]
    glosses, variants = defaultdict(set), defaultdict(set)
    for entry, (video, variant) in zip(entries, names, strict=True):
        glosses[video].add(entry.gloss)
        variants[video].add(variant)
    named = []
    for entry, (video, variant) in zip(entries, names, strict=True):
        if len(glosses[video]) > 1 or (variants[video] == {ORIGINAL} and not _foreign(entry)):
            video, variant = entry.video_id, ORIGINAL
        if _foreign(entry) and variant == ORIGINAL:  # the id tells nothing, the file may
            variant = split_name(PurePath(entry.path_to_npy_file).name, entry.gloss)[1]
        told = [v for v in (entry.variant, variant) if v != ORIGINAL]
        video_id = video if _foreign(entry) else entry.video_id
        named.append(replace(entry, video_id=video_id, variant="+".join(told) or ORIGINAL))
    return _one_original(named)


def named_pairs(names: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of video ids that tell one video, of (video id, gloss) of rows."""
    found = defaultdict(set)
    for video_id, gloss in names:
        found[split_name(video_id, gloss)[0], gloss].add(video_id)
    return [(min(ids), other) for ids in found.values() for other in sorted(ids - {min(ids)})]


def _foreign(entry: Entry) -> bool:
    """True for a row of an index that `offline.encode` did not write."""
    return not entry.checksum


def _one_original(entries: Sequence[Entry]) -> list[Entry]:
    """Two rows of one video and variant become two variants; the first of a video without an
    original becomes it, so that the video can be scored."""
    gloss_of: dict[tuple[str, str], str] = {}
    have = {split_name(e.video_id, e.gloss)[0] for e in entries if e.variant == ORIGINAL}
    times, found = Counter[tuple[str, str]](), []
    for entry in entries:
        video = split_name(entry.video_id, entry.gloss)[0]
        if video not in have:
            have.add(video)
            entry = replace(entry, variant=ORIGINAL)
        key = (entry.video_id, entry.variant)
        if gloss_of.setdefault(key, entry.gloss) != entry.gloss:
            raise ValueError(
                f"{entry.video_id} ({entry.variant}) has two glosses: {gloss_of[key]} and "
                f"{entry.gloss}"
            )
        times[key] += 1
        if times[key] > 1:
            entry = replace(entry, variant=f"{entry.variant} {times[key]}")
        found.append(entry)
    return found
