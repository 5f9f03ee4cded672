"""Which of WLASL's words are one sign: dictionaries show one recording for several of them.

    WLASL_v0.3.json -> [builtin_synonyms] -> the sign of a word's variation -> builtin_labels

Dictionaries list a sign under each of its English words, so WLASL has one recording as `city` and
as `town`. A head that learns these apart learns noise, and to read a `town` as `city` is no error.
Two words are one sign where at least two dictionaries, and more than half of those that list both,
have one recording for both. WLASL numbers the variations of a word, which are other signs: `fine`
is `cost` in its second one only. So it is variations that are joined, not words.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scipy.cluster.hierarchy import DisjointSet

Variation = tuple[str, int]  # a word, and the number of its variation: 0 is the usual one
Recording = tuple[str, int, int]  # address, first and last frame

_LEAST, _MOST_OF = 2, 0.5  # dictionaries, and more than this share of those with both words


@dataclass(frozen=True, slots=True, kw_only=True)
class Synonyms:
    """The signs that WLASL has under several words, each named by one of these."""

    sign_of: Mapping[Variation, str]  # of those alone that share their sign
    variation_of: Mapping[str, int]  # of WLASL's video ids
    recording_of: Mapping[str, Recording]  # of WLASL's video ids

    def sign(self, word: str, video_id: str = "") -> str:
        """The name of the sign that a video shows; of the word's usual one without a video."""
        return self.sign_of.get((word, self.variation_of.get(video_id, 0)), word)

    def words(self) -> dict[str, list[str]]:
        """The other words of each sign that has several."""
        found: dict[str, set[str]] = defaultdict(set)
        for (word, _), sign in self.sign_of.items():
            found[sign].update({word} - {sign})
        return {sign: sorted(words) for sign, words in sorted(found.items()) if words}


def read_synonyms(
    file: Path, preferred: Collection[str] = (), known: Mapping[str, str] = MappingProxyType({})
) -> Synonyms:
    """The synonyms in `file`, a WLASL_v0.3.json.

    A sign is named by the `preferred` word that it is the usual variation of, if there is one, else
    by the word with the most recordings of it. `known` are words that are one sign with another
    word whatever the recordings say, which is then preferred.

    Raises:
        OSError: the file can't be read.
        ValueError: it is not such a JSON; KeyError, TypeError: it lacks a field.
    """
    return synonyms_of(json.loads(file.read_text(encoding="utf-8")), preferred, known)


def synonyms_of(
    entries: Sequence[Mapping[str, Any]],
    preferred: Collection[str] = (),
    known: Mapping[str, str] = MappingProxyType({}),
) -> Synonyms:
    """The synonyms among WLASL's `entries`, as `read_synonyms`."""
    recordings: dict[str, Recording] = {}
    variations: dict[str, int] = {}
    shown: dict[Variation, set[tuple[str, Recording]]] = defaultdict(set)
    for entry in entries:
        for video in entry["instances"]:
            recording = (video["url"], video["frame_start"], video["frame_end"])
            variations[video["video_id"]] = video["variation_id"]
            recordings[video["video_id"]] = recording
            shown[entry["gloss"], video["variation_id"]].add((video["source"], recording))

    both = _dictionaries_that_share(shown)
    sharing = {dictionary for names in both.values() for dictionary in names}
    lists = {one: {name for name, _ in pairs} & sharing for one, pairs in shown.items()}
    sets = DisjointSet(sorted(shown))
    for (one, other), names in both.items():
        if len(names) >= _LEAST and len(names) > _MOST_OF * len(lists[one] & lists[other]):
            sets.merge(one, other)
    for word, name in known.items():
        sets.add((name, 0))
        for one in {(word, 0), *(one for one in shown if one[0] == word)}:
            sets.add(one)
            sets.merge(one, (name, 0))

    usual = {(word, 0) for word in (*preferred, *known.values())}
    sign_of: dict[Variation, str] = {}
    for joined in sets.subsets():
        if len(joined) > 1:
            name, _ = min(joined, key=lambda one: (one not in usual, -len(shown[one]), one))
            sign_of |= dict.fromkeys(joined, name)
    return Synonyms(sign_of=sign_of, variation_of=variations, recording_of=recordings)


def _dictionaries_that_share(
    shown: Mapping[Variation, set[tuple[str, Recording]]],
) -> dict[tuple[Variation, Variation], set[str]]:
    """For each two variations of different words: who has one recording for both."""
    users: dict[tuple[str, Recording], list[Variation]] = defaultdict(list)
    for one in sorted(shown):
        for pair in shown[one]:
            users[pair].append(one)
    found: dict[tuple[Variation, Variation], set[str]] = defaultdict(set)
    for (name, _), those in users.items():
        for one, other in itertools.combinations(those, 2):
            if one[0] != other[0]:
                found[one, other].add(name)
    return found
