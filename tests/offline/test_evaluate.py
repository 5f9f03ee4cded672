"""Evaluating by its command: figures, refusals, and a page that hostile names cannot break."""

from __future__ import annotations

import base64
import csv
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from offline import evaluate, export, train
from offline.data.fingerprints import write_fingerprints
from offline.evaluation.report import points
from offline.training.checkpoint import load_checkpoint
from tests.offline.indexes import write_index
from tests.offline.made_up import LANDMARK_OPTIONS as _LANDMARKS
from tests.offline.made_up import last_line as _last_line

_HOSTILE = {
    "down": '<script>alert("1")</script>',
    "up": "{{ 7 * 7 }} $\\frac$ 手",
    "signer 1": '"><img src=http://evil.example/x onerror=alert(2)>',
    "clip-1": "</title><iframe src='//evil.example'>",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows/index.csv, hostile names in it, and head.pt, trained on some of it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "rows").mkdir()
    index = write_index(folder / "rows", kind="vjepa2")
    with index.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    with index.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        for line in lines:
            writer.writerow({key: _HOSTILE.get(value, value) for key, value in line.items()})
    how = ("--epochs", "6", "--lr", "1e-3", "--batch", "8", "--min-clips", "4", "--threads", "1")
    assert train.main(["--index", str(index), "--out", str(folder / "head.pt"), *how]) == 0
    return folder


def _evaluate(made: Path, *options: str) -> int:
    index = str(made / "rows" / "index.csv")
    return evaluate.main(["--index", index, "--threads", "1", *options])


def _model(made: Path) -> tuple[str, str, str, str]:
    """The head on all clips, those that it was trained on too."""
    signers = ",".join(_HOSTILE.get(name, name) for name in (f"signer {n}" for n in range(6)))
    return "--model", str(made / "head.pt"), "--groups", signers


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that says what was wrong."""
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("evaluate: ")
    return last


class _Page(HTMLParser):
    """Which elements a page has, what they would fetch, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.text = ""
        self.tables: list[set[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag == "table":
            self.tables.append(set())
        elif self.tables and tag in ("caption", "th"):
            self.tables[-1].add(tag)
            assert tag != "th" or "scope" in dict(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_stay_text_on_a_page_that_fetches_nothing(made: Path, tmp_path: Path) -> None:
    assert _evaluate(made, *_model(made), "--report", str(tmp_path / "full.json")) == 0
    text = (tmp_path / "full.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert not {"script", "iframe", "object", "link"} & set(page.tags)
    assert page.tags.count("img") == 2 and page.tags.count("title") == 1
    assert all(name in page.text for name in _HOSTILE.values() if "title" not in name)
    assert all(tags == {"caption", "th"} for tags in page.tables)
    for uri in page.fetched:
        kind, _, content = uri.partition(",")
        assert kind == "data:image/svg+xml;base64"
        picture = ElementTree.fromstring(base64.b64decode(content))
        assert picture.tag.endswith("svg")
    assert "may have been trained on" in page.text


def test_a_comparison_has_a_page_too(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, out = str(tmp_path / "saved.json"), tmp_path / "compared"
    assert _evaluate(made, *_model(made), "--report", saved) == 0
    capsys.readouterr()
    same = ("--compare", saved, str(made / "head.pt"), *_model(made)[2:])
    assert _evaluate(made, *same, "--report", str(out)) == 0
    last = _last_line(capsys)
    assert last["figures"]["top1"]["difference"] == 0 and last["mcnemar"]["p"] == 1
    page = " ".join(_Page(out.with_suffix(".html").read_text("utf-8")).text.split())
    assert "on the same 24 clips" in page and "+0.0 points (+0.0 to +0.0)" in page
    assert "These clips do not show which of the two is better" in page
    groups = ("--groups", "signer 0,signer 2")
    assert _evaluate(made, "--compare", saved, str(made / "head.pt"), *groups) == 2
    assert "16 only in" in _error(capsys)
    assert evaluate.main(["--compare", saved, str(made / "head.pt")]) == 2
    assert "--index" in _error(capsys)


def test_a_head_is_scored_on_what_it_did_not_learn_unless_told_otherwise(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = ("--model", str(made / "head.pt"))
    assert _evaluate(made, *head) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["clips"] == 8
    assert "kept out" not in captured.err and "right first" in captured.out
    assert _evaluate(made, *_model(made)) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["clips"] == 24
    assert "16 of 24 clips are not among those" in captured.err
    card = json.loads((made / "head.json").read_text("utf-8"))
    card["data"]["held_out_clips"] = []
    (tmp_path / "head.json").write_text(json.dumps(card), "utf-8")
    (tmp_path / "head.pt").write_bytes((made / "head.pt").read_bytes())
    assert _evaluate(made, "--model", str(tmp_path / "head.pt")) == 2
    assert "give --split, --groups or --official" in _error(capsys)


def test_tables_for_spreadsheets_lie_beside_a_report(made: Path, tmp_path: Path) -> None:
    assert _evaluate(made, *_model(made), "--report", str(tmp_path / "full")) == 0

    def table(name: str) -> list[dict[str, str]]:
        with (tmp_path / f"full_{name}.csv").open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    report = json.loads((tmp_path / "full.json").read_text("utf-8"))
    clips = table("predictions")
    assert len(clips) == 24
    for line, clip in zip(clips, report["clips"], strict=True):
        assert (line["video_id"], line["gloss"]) == (clip["video_id"], clip["gloss"])
        assert line["predicted1"] == clip["predicted"] and float(line["p1"]) == clip["p"]
        assert float(line["p1"]) >= float(line["p2"]) and line["predicted3"] == ""
    wrong = sum(line["gloss"] != line["predicted1"] for line in clips)
    confusion = table("confusion")
    right = sum(int(line[line["gloss"]]) for line in confusion)
    assert (len(confusion), 24 - right) == (2, wrong)
    for line in table("per_gloss"):
        n_right, n = report["scores"]["per_gloss"][line["gloss"]]
        assert int(line["clips"]) == n and float(line["top1"]) == pytest.approx(
            n_right / n, abs=1e-4
        )
        assert int(line["times"]) == n - n_right and bool(line["most_confused_with"]) == (
            n_right < n
        )
    assert (tmp_path / "full_run.yaml").read_text().startswith("# Repeat this run: --config")


def test_differences_keep_their_signs_and_zero_has_none() -> None:
    assert points(-0.004, 0.028) == "\N{MINUS SIGN}0.4 to +2.8"
    assert points(-0.0, -0.0001) == "+0.0 to +0.0"


def test_figures_of_kept_out_signers_are_those_of_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, model = write_index(tmp_path), tmp_path / "head.pt"
    groups = "signer 0,signer 1"
    options = ("--index", str(index), *_LANDMARKS, "--epochs", "1", "--hold-out-groups", groups)
    assert train.main([*options, "--out", str(model)]) == 0
    kept_out = _last_line(capsys)["kept_out_top1"]
    chosen = ["--index", str(index), "--model", str(model), "--groups", groups, "--threads", "1"]
    assert evaluate.main(chosen) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["top1"] == kept_out
    assert "kept out" not in captured.err


def test_rows_of_another_rule_than_the_heads_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = shutil.copytree(made / "rows", tmp_path / "rows")
    report = json.loads((rows / "encode_report.json").read_text())
    report["encoder"]["resize"] = "exact"
    (rows / "encode_report.json").write_text(json.dumps(report))
    assert _evaluate(tmp_path, *_model(made)) == 2
    assert "--resize exact; the head: vjepa2, 16, fast" in _error(capsys)
    how = ("--epochs", "0.1", "--batch", "8", "--min-clips", "4", "--threads", "1")
    where = ("--index", str(rows / "index.csv"), "--out", str(tmp_path / "head.pt"))
    assert train.main([*where, *how]) == 0
    assert load_checkpoint(tmp_path / "head.pt").card["encoder"]["resize"] == "exact"
    assert _evaluate(tmp_path, *_model(tmp_path)) == 0


def test_a_report_on_the_official_split_has_its_coverage(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten instances: eight available, of which one is captioned and one of an unknown gloss."""
    lines = ["path,gloss,video_id,split"]
    for number in (0, 2, 4, 6, 8, 10, 26, 27):
        gloss = "other 0" if number > 26 else '"<script>alert(""1"")</script>"'
        lines.append(f"{number}.mp4,{gloss},clip-{number},test")
    lines += ["x.mp4,up,gone-1,test", "y.mp4,up,gone-2,test", "z.mp4,up,clip-3,train"]
    labels = tmp_path / "official.csv"
    labels.write_text("\n".join(lines), encoding="utf-8")
    report = str(tmp_path / "report")
    assert _evaluate(made, *_model(made), "--official", str(labels), "--report", report) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))
    official = found["official"]
    assert (official["instances"], official["available"], official["scored"]) == (10, 8, 6)
    assert (official["glosses"], official["glosses_scored"]) == (3, 1)
    right = round(6 * found["scores"]["top1"])
    assert official["top1_bounds"] == [right / 10, (right + 4) / 10]
    assert official["missing"] == ["gone-1", "gone-2"]
    assert "6 of 10 instances (60.0 %)" in _Page((tmp_path / "report.html").read_text("utf-8")).text

    for text, says in (
        ("path,gloss,video_id,split\nx.mp4,up,gone,test", "none of its 1 test instances"),
        ("path,gloss,video_id,split\nx.mp4,up,clip-1,val", "no instance in the split test"),
        ("path,gloss,video_id,split\nx.mp4,tree,clip-2,test", "clip-2 is <script>"),
    ):
        labels.write_text(text, encoding="utf-8")
        assert _evaluate(made, *_model(made), "--official", str(labels)) == 2
        assert says in _error(capsys)


def test_cross_validation_keeps_duplicates_on_one_side_or_lists_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two clips of two signers are one recording: they are one group, or stand in the report."""
    index, report = write_index(tmp_path), tmp_path / "report.json"
    draw = np.random.default_rng(0)
    prints = {f"clip-{i}": draw.integers(0, 255, (20, 64)).astype(np.uint8) for i in range(26)}
    prints["clip-0"] = prints["clip-8"]  # signers 0 and 4, who are tested in different folds
    write_fingerprints(tmp_path, prints)
    options = ["--index", str(index), *_LANDMARKS, "--epochs", "8", "--validation", "none"]
    assert evaluate.main([*options, "--cross-validate", "6"]) == 2
    assert "5 signer groups can't make 6 folds" in _error(capsys)

    more = ["--duplicates", "allow", "--vocabulary", "2", "--report", str(report)]
    assert evaluate.main([*options, "--cross-validate", "2", "--sentences", "4", *more]) == 0
    last = _last_line(capsys)
    low, high = last["top1_interval95"]
    assert low <= last["top1"] <= high
    full = json.loads(report.read_text(encoding="utf-8"))
    # Neither the captioned nor the idle nor the other signs, and the recording once.
    assert full["scores"]["clips"] == 23
    assert full["scores"]["intervals_over"] == "6 signer groups"
    assert full["how"]["shared_signer_groups"] == 0
    assert 0.25 <= full["calibration"]["temperature"] <= 4
    assert full["live"][0]["idle_s"] == 4.0
    assert len(full["decoder"]["thresholds"]) == 2 and full["sentences"] == []  # of two glosses
    [pair] = full["duplicates"]["pairs"]
    named = ["clip-0 (original, down, signer 0)", "clip-8 (original, down, signer 4)"]
    assert sorted(pair) == named
    assert full["duplicates"]["scores_without"]["clips"] == 22
    assert [point["glosses"] for point in full["vocabulary"]] == [2]
    assert sum(row["clips"] for row in full["signers"]) == 23

    model = tmp_path / "all.pt"
    train_all = ["--index", str(index), *_LANDMARKS, "--epochs", "1", "--split", "none"]
    assert train.main([*train_all, "--out", str(model)]) == 0
    bundle = tmp_path / "bundle"
    exported = ["--model", str(model), "--out", str(bundle), "--report", str(report)]
    assert export.main(exported) == 0
    card = json.loads((bundle / "card.json").read_text("utf-8"))
    assert card["calibration"] == full["calibration"]
    assert card["metrics"]["cross_validation"]["top1"] == last["top1"]
    assert card["data"]["held_out_groups"] == []


def test_heads_of_folds_are_tested_on_the_signers_that_each_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sentences too, which only their heads can read."""
    index, glosses = write_index(tmp_path), tmp_path / "glosses.txt"
    glosses.write_text("down\nup\nother 0\n", encoding="utf-8")
    heads = []
    for first in (0, 3):
        held = ",".join([*(f"signer {first + n}" for n in range(3)), f"idle/{24 + first // 3}"])
        how = ("--glosses", str(glosses), "--epochs", "1", "--hold-out-groups", held)
        heads.append(str(tmp_path / f"head{first}.pt"))
        options = ("--index", str(index), *_LANDMARKS, *how, "--out", heads[-1])
        assert train.main(options) == 0
    more = ("--threads", "1", "--sentences", "6", "--report", str(tmp_path / "report"))
    assert evaluate.main(["--fold-heads", *heads, "--index", str(index), *more]) == 0
    last = _last_line(capsys)
    assert last["clips"] == 26  # all of the three glosses, but the captioned one
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert {clip["signer"]: clip["fold"] for clip in report["clips"]} == {
        f"signer {n}": n // 3 for n in range(6)
    }
    assert report["live"][0]["clips_of_other_signs"] == 2 and report["live"][0]["idle_s"] == 4.0
    assert [row["sentences"] for row in last["sentences"]] == [6, 6, 6]
    assert len(last["decoder"]["thresholds"]) == 2
    page = " ".join(_Page((tmp_path / "report.html").read_text("utf-8")).text.split())
    assert "head0.pt, head3.pt" in page and "none: hand to hand" in page

    fewer = tmp_path / "fewer.txt"
    fewer.write_text("up\ndown\n", encoding="utf-8")
    less = ("--glosses", str(fewer), "--threads", "1", "--report", str(tmp_path / "less"))
    assert evaluate.main(["--fold-heads", *heads, "--index", str(index), *less]) == 0
    assert _last_line(capsys)["clips"] == 24
    report = json.loads((tmp_path / "less.json").read_text("utf-8"))
    assert report["glosses"] == ["up", "down"]
    assert report["live"][0]["clips_of_other_signs"] == 4  # the third gloss too
    fewer.write_text("up\nmoon\n", encoding="utf-8")
    assert evaluate.main(["--fold-heads", *heads, "--index", str(index), *less]) == 2
    assert "head0.pt with --glosses" in (said := _error(capsys)) and "do not know moon" in said

    assert evaluate.main(["--fold-heads", heads[0], "none.pt", "--index", str(index)]) == 2
    assert "none.pt" in _error(capsys)
    card = tmp_path / "head3.json"
    card.write_text(card.read_text("utf-8").replace('"hop_s": 0.1', '"hop_s": 0.2'), "utf-8")
    assert evaluate.main(["--fold-heads", *heads, "--index", str(index)]) == 2
    assert "head3.pt: has another hop_s than" in _error(capsys)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--model", "none.pt"), "none.pt"),
        (("--model", "HEAD", "--split", "dev"), "no clip to score"),
        (("--model", "HEAD", "--split", "nowhere"), "no split is called 'nowhere'"),
        (("--model", "HEAD", "--report", "/dev/null/report"), "can't be written"),
        (("--cross-validate", "2", "--vocabulary", "99"), "--vocabulary 99: only"),
    ],
)
def test_wrong_use_ends_with_one_clear_line(
    made: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], says: str
) -> None:
    head = str(made / "head.pt")
    assert _evaluate(made, *(head if option == "HEAD" else option for option in options)) == 2
    assert says in _error(capsys)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "give one of --model"),
        (("--model", "a.pt", "--cross-validate", "5"), "give one of --model"),
        (("--model", "a.pt", "--vocabulary", "3"), "--vocabulary"),
        (("--cross-validate", "5", "--official", "a.json"), "--official"),
        (("--fold-heads", "a.pt", "b.pt", "--split", "test"), "--split"),
        (("--fold-heads", "a.pt"), "one head a fold"),
        (("--cross-validate", "5", "--false-cost", "-1"), "--false-cost"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    made: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], says: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        _evaluate(made, *options)
    assert refused.value.code == 2
    assert says in capsys.readouterr().err


def test_help_explains_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["--help"])
    text = capsys.readouterr().out
    for figure in ("topK_class_mean", "interval95", "ece", "aurc", "mcnemar", "coverage"):
        assert f"  {figure}: " in text
