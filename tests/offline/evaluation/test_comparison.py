"""Two recognisers on the same clips: paired, and never on different ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from offline.evaluation.comparison import compare_outcomes
from offline.evaluation.figures import figures_of
from offline.evaluation.report import write_report
from offline.scoring.outcomes import clip_rows, read_outcomes
from tests.offline.made_up import outcomes

_A = [i % 4 != 0 for i in range(80)]  # 60 of 80 right
_B = [i % 4 != 0 or i % 8 == 0 for i in range(80)]  # the same, and 10 more


def test_pairing_finds_what_intervals_of_each_alone_do_not() -> None:
    a, b = outcomes(_A), outcomes(_B)
    report = compare_outcomes(a, b, ("a", "b"))
    top1 = report["figures"]["top1"]
    assert (top1["a"], top1["b"], top1["difference"]) == (0.75, 0.875, 0.125)
    low, high = top1["difference_interval95"]
    assert 0 < low < 0.125 < high
    assert figures_of(a)["top1_interval95"][1] > figures_of(b)["top1_interval95"][0]  # they overlap
    assert report["mcnemar"] == {
        "both_right": 60,
        "only_a_right": 0,
        "only_b_right": 10,
        "neither_right": 10,
        "p": pytest.approx(2 / 2**10, rel=0.01),
    }
    assert report["figures"]["top5"]["difference"] == 0
    assert [row["video_id"] for row in report["differ"]] == [str(i) for i in range(0, 80, 8)]


def test_the_order_of_clips_makes_no_difference() -> None:
    a, b = outcomes(_A), outcomes(_B)
    order = np.random.default_rng(0).permutation(len(b))
    shuffled = replace(b, clips=tuple(b.clips[i] for i in order))
    assert compare_outcomes(a, shuffled, ("a", "b")) == compare_outcomes(a, b, ("a", "b"))


def test_one_signer_proves_little() -> None:
    """All that is better about B is one signer of four."""
    groups = [f"signer {i // 20}" for i in range(80)]
    b = [right or i < 20 for i, right in enumerate(_A)]
    low, _ = compare_outcomes(outcomes(_A, groups), outcomes(b, groups), ("a", "b"))["figures"][
        "top1"
    ]["difference_interval95"]
    assert low == 0


def test_other_clips_are_refused_and_counted() -> None:
    with pytest.raises(ValueError, match=r"3 only in a \(0, 1, 2\), 5 only in b \(80, 81, 82, …\)"):
        compare_outcomes(outcomes(_A), outcomes([True] * 82, first=3), ("a", "b"))


def test_other_glosses_labels_or_signers_are_refused() -> None:
    a, b = outcomes(_A), outcomes(_B)
    more = replace(b, glosses=(*b.glosses, "new"))
    with pytest.raises(ValueError, match=r"7 glosses, b of 8; 1 are not in both \(new\)"):
        compare_outcomes(a, more, ("a", "b"))
    with pytest.raises(ValueError, match=r"80 clips have another gloss or signer in b"):
        clips = tuple(replace(clip, signer="someone") for clip in b.clips)
        compare_outcomes(a, replace(b, clips=clips), ("a", "b"))


def test_a_saved_report_gives_back_what_was_answered(tmp_path: Path) -> None:
    a = outcomes(_A, [f"signer {i % 9}" for i in range(80)])
    path = str(tmp_path / "a.json")
    write_report(path, {"glosses": a.glosses, "clips": clip_rows(a)})
    again = read_outcomes(path)
    assert clip_rows(again) == clip_rows(a)
    assert compare_outcomes(a, again, ("a", "b"))["mcnemar"]["p"] == 1.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rank": 9}, "a rank is out of range"),
        ({"rank": 10**30}, "out of range"),
        ({"p": float("nan")}, "malformed"),
        ({"p": 1.5}, "Expected `float` <= 1.0"),
        ({"rank": 0}, "Expected `int` >= 1"),
        ({"predicted": "nowhere"}, "has no 'nowhere'"),
        ({"rank": 2}, "contradict"),
        ({"video_id": "1"}, "lists a video twice"),
    ],
)
def test_a_report_that_is_not_whole_is_refused(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    a = outcomes([True] * 3)
    rows = clip_rows(a)
    rows[0] |= change
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"glosses": a.glosses, "clips": rows}), encoding="utf-8")
    with pytest.raises(ValueError, match=says) as caught:
        read_outcomes(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"glosses": ["a"], "clips": [{"gloss": "a"}]}', "{}"])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="no report to compare, evaluate again"):
        read_outcomes(str(tmp_path / "a.json"))
