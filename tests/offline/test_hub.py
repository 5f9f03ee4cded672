"""offline.hub: bundles pushed to and pulled from a folder, and a small hub on the loopback."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from models.bundle import BUILTIN, open_bundle
from offline import hub
from tests.hub_server import FIRST, SECOND, ask, serving
from tests.models.bundles import small_bundle


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_to_a_folder_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    assert hub.main(["push", str(BUILTIN), f"file:{there}"]) == 0
    assert hub.main(["pull", f"file:{there}", str(back)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["bundle"] == str(back)
    for name in names(BUILTIN):
        assert (back / name).read_bytes() == (BUILTIN / name).read_bytes()
    assert names(there) == sorted([*names(BUILTIN), "README.md"])
    assert names(tmp_path) == ["back", "there"]  # no scratch is left
    assert hub.main(["push", str(back), f"file:{there}"]) == 0  # again


def test_the_readme_says_what_the_card_says(tmp_path: Path) -> None:
    hub.main(["push", str(BUILTIN), f"file:{tmp_path / 'there'}"])
    text = (tmp_path / "there" / "README.md").read_text(encoding="utf-8")
    bundle = open_bundle(BUILTIN)
    figures = bundle.card["metrics"]["cross_validation"]
    low, high = figures["top1_interval95"]
    assert f"| right gloss first | {figures['top1']:.1%} | {low:.1%} to {high:.1%} |" in text
    assert f"{len(bundle.glosses)} glosses: " in text and bundle.glosses[-1] in text
    assert "It is not a translator" in text and "C-UDA" in text


def test_a_card_can_not_write_the_readme(tmp_path: Path) -> None:
    small_bundle(tmp_path / "b", name="a | b <b> `x`", licence="MIT\\n\x85# Safe for hospitals")
    assert hub.main(["push", str(tmp_path / "b"), f"file:{tmp_path / 'there'}"]) == 0
    text = (tmp_path / "there" / "README.md").read_text(encoding="utf-8")
    assert r"# a \| b \<b\> \`x\`" in text.splitlines()
    assert not any(line.startswith("# Safe") for line in text.splitlines())
    assert "how good it is on signers that it never met is open" in text


def test_nothing_appears_of_a_broken_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    hub.main(["push", str(BUILTIN), f"file:{there}"])
    head = there / "head.onnx"
    head.write_bytes(head.read_bytes()[:-1] + b"!")
    assert hub.main(["pull", f"file:{there}", str(back)]) == 2
    assert f"{head}: SHA-256 differs" in capsys.readouterr().err
    head.unlink()
    assert hub.main(["pull", f"file:{there}", str(back)]) == 2
    assert f"{head}: missing, though card.json lists it" in capsys.readouterr().err
    (there / "card.json").write_text("[]")
    assert hub.main(["pull", f"file:{there}", str(back)]) == 2
    assert "card.json: not a JSON object" in capsys.readouterr().err
    assert names(tmp_path) == ["there"]


def test_a_link_out_of_the_folder_becomes_its_content_only_if_the_card_has_its_sum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    hub.main(["push", str(BUILTIN), f"file:{there}"])
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (there / "labels.json").unlink()
    (there / "labels.json").symlink_to(secret)
    assert hub.main(["pull", f"file:{there}", str(tmp_path / "back")]) == 2
    assert "labels.json: SHA-256 differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["push", str(BUILTIN), "somewhere"], "give OWNER/NAME or file:FOLDER"),
        (["push", str(BUILTIN), "a/b@main"], "give OWNER/NAME or file:FOLDER"),
        (["push", "none", "a/b"], "none: no such bundle folder"),
        (["pull", "somewhere", "out"], "give OWNER/NAME[@REVISION] or file:FOLDER"),
        (["pull", "file:/none", "out"], "/none: no such folder"),
        (["pull", f"file:{BUILTIN}", "full"], "full: exists and is no bundle"),
    ],
)
def test_wrong_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    assert hub.main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("offline.hub: ") and says in line
    assert names(tmp_path) == ["full"]


def test_a_bundle_that_works_here_alone_is_not_pushed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = dict(kind="vjepa2", source="/home/me/vitl", revision="sha256:1", dim=3, frames=8)
    small_bundle(tmp_path / "b", encoder={**encoder, "fps": 8.0, "short_side": 292})
    assert hub.main(["push", str(tmp_path / "b"), f"file:{tmp_path / 'there'}"]) == 2
    assert "/home/me/vitl, which nobody else has: export it with --with" in capsys.readouterr().err
    assert names(tmp_path) == ["b"]


def test_without_huggingface_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert hub.main(["pull", "a/b", str(tmp_path / "out")]) == 2
    assert 'pip install "livegloss[train]"' in capsys.readouterr().err


def test_to_the_hub_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Private, pinned, pushed again without what is gone, and pulled with no code of it fetched."""
    bundle, back = tmp_path / "bundle", tmp_path / "back"
    small_bundle(bundle)

    def last() -> dict[str, str]:
        printed: dict[str, str] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return printed

    with serving() as served:
        ask(served.url, tmp_path / "cache", monkeypatch)
        assert hub.main(["push", str(bundle), "me/signs"]) == 0
        assert last()["pushed"] == f"me/signs@{SECOND}"
        assert served.private == {"me/signs": True}
        files = served.models["me/signs"][SECOND]
        assert files.keys() == {".gitattributes", "README.md", *names(bundle)}
        assert b"offline.hub pull me/signs bundles/mine" in files["README.md"]

        files["run_me.py"] = b"raise SystemExit"
        assert hub.main(["pull", "me/signs", str(back)]) == 0
        assert last()["pulled"] == f"me/signs@{SECOND}"
        assert names(back) == names(bundle)
        assert not any("run_me" in path for path in served.asked)

        assert hub.main(["push", str(bundle), "me/signs"]) == 0
        assert "run_me.py" not in served.models["me/signs"]["c" * 40]

        ask(served.url, tmp_path / "another_cache", monkeypatch)
        files["head.onnx"] = b"another"
        served.models["me/thesis"] = {FIRST: {"thesis.txt": b"precious"}}
        for words, says in (
            (["push", str(bundle), "me/thesis"], "me/thesis: holds something else than a bundle"),
            (["pull", f"me/signs@{SECOND}", str(tmp_path / "x")], "head.onnx: SHA-256 differs"),
            (["pull", "me/none", str(tmp_path / "x")], "no model of the hub that you may read"),
            (["pull", "me/signs@v9", str(tmp_path / "x")], "has no revision 'v9'"),
            (["pull", "me/thesis", str(tmp_path / "x")], "card.json"),
        ):
            assert hub.main(words) == 2
            *_, line = capsys.readouterr().err.splitlines()  # after the client's bars
            assert line.startswith("offline.hub: ") and says in line
        assert served.models["me/thesis"].keys() == {FIRST}
        assert not (tmp_path / "x").exists()
