"""Which words are one sign: small tables that show the rule, and WLASL's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from offline.builtin_labels import EVERYDAY
from offline.builtin_synonyms import read_synonyms, synonyms_of

_NUMBER = iter(range(10_000))


def entry(word: str, *instances: tuple[str, str, int]) -> dict[str, Any]:
    """An entry of WLASL: `word` with (dictionary, recording, variation)."""
    return {
        "gloss": word,
        "instances": [
            {
                "video_id": str(next(_NUMBER)),
                "url": url,
                "frame_start": 1,
                "frame_end": -1,
                "source": source,
                "variation_id": variation,
            }
            for source, url, variation in instances
        ],
    }


CITY = entry("city", ("a", "a/1", 0), ("b", "b/1", 0), ("c", "c/1", 0), ("c", "c/2", 0))
TOWN = entry("town", ("a", "a/1", 0), ("b", "b/1", 0))


def test_two_dictionaries_that_have_one_recording_for_both_make_one_sign() -> None:
    synonyms = synonyms_of([CITY, TOWN])
    assert synonyms.sign("town") == synonyms.sign("city") == "city"  # it has more recordings
    assert synonyms.words() == {"city": ["town"]}
    assert synonyms.sign("village") == "village"
    assert synonyms_of([CITY, TOWN], preferred=["town"]).sign("city") == "town"


def test_one_dictionary_is_not_enough_and_half_of_them_neither() -> None:
    one = entry("town", ("a", "a/1", 0), ("a", "a/2", 0))
    assert synonyms_of([CITY, one]).words() == {}
    # c and d show one recording for other words, so that two of four dictionaries do for these.
    others = [entry(f"{name}{i}", (name, f"{name}/9", 0)) for name in "cd" for i in (1, 2)]
    city = entry("city", *((name, f"{name}/1", 0) for name in "abcd"))
    town = entry("town", *((name, f"{name}/{1 + (name in 'cd')}", 0) for name in "abcd"))
    assert synonyms_of([city, town, *others]).words() == {}
    # e never does, so that it says nothing of the two words.
    more = entry("town", *((name, f"{name}/{1 + (name in 'de')}", 0) for name in "abcde"))
    city = entry("city", *((name, f"{name}/1", 0) for name in "abcde"))
    assert synonyms_of([city, more, *others]).words() == {"city": ["town"]}


def test_another_variation_of_a_word_stays_its_own_sign() -> None:
    fine = entry("fine", ("a", "a/5", 0), ("b", "b/5", 0), ("a", "a/7", 1), ("b", "b/7", 1))
    cost = entry("cost", ("a", "a/7", 0), ("b", "b/7", 0), ("c", "c/7", 0))
    synonyms = synonyms_of([fine, cost], preferred=["fine"])
    ids = [video["video_id"] for video in fine["instances"]]
    assert [synonyms.sign("fine", name) for name in ids] == ["fine", "fine", "cost", "cost"]
    assert synonyms.sign("fine") == "fine"
    assert synonyms.words() == {"cost": ["fine"]}


def test_known_words_are_joined_whatever_the_recordings_say() -> None:
    bye = entry("bye", ("a", "a/3", 0), ("b", "b/3", 1))
    synonyms = synonyms_of([bye, CITY, TOWN], known={"bye": "goodbye", "job": "work"})
    ids = [video["video_id"] for video in bye["instances"]]
    assert [synonyms.sign("bye", name) for name in ids] == ["goodbye", "goodbye"]
    assert synonyms.sign("job") == "work", "a word that WLASL does not have"
    assert synonyms.words() == {"city": ["town"], "goodbye": ["bye"], "work": ["job"]}


def test_wlasls_words(data_dir: Path) -> None:
    synonyms = read_synonyms(data_dir / "wlasl" / "WLASL_v0.3.json", EVERYDAY)
    words = synonyms.words()
    assert {"mother": ["mom"], "city": ["town"]}.items() <= words.items()
    assert words["bathroom"] == ["restroom", "toilet"]
    assert 150 < len(words) < 250
    assert max(map(len, words.values())) < 5  # no chain of signs that are a little alike
    everyday = {synonyms.sign(word): word for word in sorted(EVERYDAY)}
    assert all(sign == word for sign, word in everyday.items())
    assert len(everyday) == len(EVERYDAY)
    for one, other in (("play", "act"), ("name", "short"), ("see", "watch"), ("walk", "run")):
        assert synonyms.sign(one) != synonyms.sign(other)
