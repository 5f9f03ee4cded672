from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle, BundleError, open_bundle, write_bundle
from models.files import sha256
from tests.models.bundles import SPEC, npy, small_bundle, small_card
from tests.models.heads_onnx import mean_head


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def test_a_written_bundle_opens(tmp_path: Path) -> None:
    small_bundle(tmp_path / "b")
    bundle = open_bundle(tmp_path / "b")
    assert bundle.glosses == ("a", "b")
    assert bundle.encoder == SPEC
    assert (bundle.name, bundle.hop_s, bundle.idle) == ("small", 0.25, True)
    assert (bundle.temperature, bundle.threshold) == (2.0, 0.4)
    assert bundle.head_path and bundle.head_path.read_bytes() == mean_head(
        np.eye(3, dtype=np.float32)
    )


@pytest.mark.parametrize("name", ["head.onnx", "labels.json"])
def test_a_changed_file_is_named(tmp_path: Path, name: str) -> None:
    small_bundle(tmp_path)
    with (tmp_path / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=f"{name}: SHA-256 differs"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("name", ["head.onnx", "labels.json", "card.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    small_bundle(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: missing"):
        open_bundle(tmp_path)


def set_to(*path: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(card: dict[str, Any]) -> None:
        for key in path[:-1]:
            card = card[key]
        card[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("licence"), "missing required field `licence`$"),
        (lambda c: c["encoder"].pop("fps"), r"missing required field `fps` - at `\$\.encoder`$"),
        (set_to("colour", value="red"), "unknown field `colour`$"),
        (set_to("head", "size", value=3), r"unknown field `size` - at `\$\.head`$"),
        (set_to("format", value=9), "format"),
        (set_to("format", value=True), r"Expected `int`, got `bool` - at `\$\.format`$"),
        (set_to("name", value=" "), "name"),
        (
            set_to("encoder", "dim", value="3"),
            r"Expected `int`, got `str` - at `\$\.encoder\.dim`$",
        ),
        (set_to("encoder", "frames", value=0), "usable encoder"),
        (set_to("encoder", "colour", value="red"), r"unknown field `encoder\.colour`$"),
        (set_to("head", "idle", value=1), r"Expected `bool`, got `int` - at `\$\.head\.idle`$"),
        (set_to("window_s", value=3.0), "window_s"),
        (set_to("hop_s", value=0), "hop_s"),
        (set_to("hop_s", value=float("nan")), "NaN is no JSON value"),
        (
            set_to("calibration", "temperature", value=0),
            r"`float` >= 0\.01 - at `\$\.calibration\.temperature`$",
        ),
        (
            set_to("calibration", "threshold", value=1.5),
            r"`float` <= 1\.0 - at `\$\.calibration\.threshold`$",
        ),
        (set_to("files", "../escape", value="0" * 64), "no plain path"),
        (set_to("files", "/etc/passwd", value="0" * 64), "no plain path"),
        (set_to("files", "a\\b", value="0" * 64), "no plain path"),
        (set_to("files", "./head.onnx", value="0" * 64), "no plain path"),
        (set_to("files", "card.json", value="0" * 64), "no plain path"),
        (set_to("files", "head.onnx", value="abc"), "SHA-256"),
        (lambda c: c["files"].pop("labels.json"), "does not list labels.json"),
    ],
)
def test_a_wrong_card_says_which_field(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    small_bundle(tmp_path)
    edit(tmp_path / "card.json", change)
    with pytest.raises(BundleError, match=says) as caught:
        open_bundle(tmp_path)
    assert "card.json: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_card_that_is_no_json_object(tmp_path: Path, content: bytes) -> None:
    small_bundle(tmp_path)
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"card\.json: not "):
        open_bundle(tmp_path)


@pytest.mark.parametrize("value", ["1e999", '"\\ud800"'])
def test_a_card_that_can_not_be_sent_on(tmp_path: Path, value: str) -> None:
    small_bundle(tmp_path)
    card = (tmp_path / "card.json").read_text()
    (tmp_path / "card.json").write_text(card.replace('"clips": 0', f'"clips": {value}'))
    with pytest.raises(BundleError, match=r"card\.json: not JSON: "):
        open_bundle(tmp_path)


def test_a_huge_card_is_not_read(tmp_path: Path) -> None:
    small_bundle(tmp_path)
    with (tmp_path / "card.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(BundleError, match=r"card\.json: larger than"):
        open_bundle(tmp_path)


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    small_bundle(tmp_path / "b")
    head = tmp_path / "b" / "head.onnx"
    head.rename(tmp_path / "head.onnx")
    head.symlink_to(tmp_path / "head.onnx")
    with pytest.raises(BundleError, match="leads out of the bundle"):
        open_bundle(tmp_path / "b")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle folder"):
        open_bundle(tmp_path / "none")


@pytest.mark.parametrize("glosses", [[], ["a", "a"], ["a", ""]])
def test_wrong_glosses_are_not_written(tmp_path: Path, glosses: list[str]) -> None:
    with pytest.raises(BundleError, match=r"labels\.json: `glosses`"):
        write_bundle(
            tmp_path / "b", card=small_card(), glosses=glosses, files={"head.onnx": b"head"}
        )
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_bundle(tmp_path: Path) -> None:
    before = small_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="hop_s"):
        small_bundle(tmp_path / "b", hop_s=-1)
    assert open_bundle(tmp_path / "b") == before
    assert small_bundle(tmp_path / "b", hop_s=0.5).hop_s == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(BundleError, match="is no bundle"):
        small_bundle(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def npy_header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """The start of a `.npy` file that promises an array of that shape."""
    fields = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(fields).to_bytes(2, "little") + fields.encode()


def npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, rows=np.ones((2, 3)))
    return content.getvalue()


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04 is no archive",
        npz(),
        b"\x80\x04K\x01.",
        b"\x93NUMPY\x01\x00" + (5000).to_bytes(2, "little") + b"[" * 5000,
        npy_header((1 << 50, 3)),
        npy_header((1 << 62, 1 << 62)),
        npy_header((-1, 3)),
        npy_header((1 << 40, 0)),
        npy_header((2, 3), "|O"),
        npy_header((2, 3)) + b"\0" * 20,
        npy(np.full((2, 3), np.inf)),
    ],
)
def test_a_hostile_background_is_an_error_in_words(tmp_path: Path, hostile: bytes) -> None:
    files: dict[str, bytes | Path] = {"head.onnx": b"head", "background.npy": hostile}
    with pytest.raises(BundleError, match=r"background\.npy: ") as caught:
        write_bundle(tmp_path / "b", card=small_card(), glosses=["a", "b"], files=files)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nb", "\x9b31m", "a\x7f", "\ud800"])
def test_no_name_in_a_bundle_steers_a_terminal(tmp_path: Path, hostile: str) -> None:
    files: dict[str, bytes | Path] = {"head.onnx": b"head"}
    with pytest.raises(BundleError, match=r"card\.json: `name` has .*control character"):
        write_bundle(tmp_path / "b", card=small_card(name=hostile), glosses=["a"], files=files)
    small_bundle(tmp_path / "b")
    edit(tmp_path / "b" / "labels.json", lambda labels: labels.update(glosses=["a", hostile]))
    digest = sha256(tmp_path / "b" / "labels.json")
    edit(tmp_path / "b" / "card.json", set_to("files", "labels.json", value=digest))
    with pytest.raises(BundleError, match=r"labels\.json: .*(control character|surrogates)"):
        open_bundle(tmp_path / "b")


def test_glosses_are_compared_as_unicode_composes_them(tmp_path: Path) -> None:
    files: dict[str, bytes | Path] = {"head.onnx": b"head"}
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    bundle = write_bundle(tmp_path / "b", card=small_card(), glosses=[decomposed], files=files)
    assert bundle.glosses == (composed,)
    with pytest.raises(BundleError, match="twice"):
        write_bundle(tmp_path / "c", card=small_card(), glosses=[composed, decomposed], files=files)


def test_an_encoder_that_travels_along(tmp_path: Path) -> None:
    card = small_card()
    card["encoder"]["source"] = "bundle:encoder"
    head = mean_head(np.eye(3, dtype=np.float32))
    files: dict[str, bytes | Path] = {"head.onnx": head, "encoder/weights.bin": b"123"}
    write_bundle(tmp_path / "b", card=card, glosses=["a", "b"], files=files)
    (tmp_path / "b").rename(tmp_path / "moved")
    bundle = open_bundle(tmp_path / "moved")
    source = Path(bundle.encoder.source)
    assert (source / "weights.bin").read_bytes() == b"123"
    card["encoder"]["source"] = "bundle:encoder/weights.bin"
    bundle = write_bundle(tmp_path / "c", card=card, glosses=["a", "b"], files=files)
    assert Path(bundle.encoder.source).read_bytes() == b"123"
    assert bundle.encoder_files == {"weights.bin": bundle.path / "encoder" / "weights.bin"}
    with pytest.raises(BundleError, match="encoder's folder"):
        write_bundle(tmp_path / "b", card=card, glosses=["a", "b"], files={"head.onnx": head})


def test_a_check_that_fails_leaves_the_old_bundle(tmp_path: Path) -> None:
    before = small_bundle(tmp_path / "b")

    def check(bundle: Bundle) -> None:
        assert bundle.hop_s == 0.5 and bundle.head_path and bundle.head_path.is_file()
        raise BundleError("the graph does not open")

    files: dict[str, bytes | Path] = {"head.onnx": b"head"}
    with pytest.raises(BundleError, match="does not open"):
        write_bundle(
            tmp_path / "b",
            card=small_card(hop_s=0.5),
            glosses=["a", "b"],
            files=files,
            check=check,
        )
    assert open_bundle(tmp_path / "b") == before
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
