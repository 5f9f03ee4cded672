"""The recogniser bundle: the only door between the offline half, which writes it, and the live one.

A folder: `card.json` (see `models.card`), `labels.json`, `head.onnx` (unless there is no trained
head), `background.npy` (what taught signs are told from, see `models.few_shot`) and, when the
encoder travels along, its files. Opening checks every file's SHA-256 and size against the card. It
may hold several recognisers whose answers are fused: bundles in its folder, opened with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from models.card import (
    BACKGROUND,
    CARD,
    FORMAT,
    HEAD,
    LABELS,
    NO_HEAD,
    check_card,
    check_glosses,
    spec_from,
)
from models.few_shot import EmbeddingSpace, pooled_space, trained_space
from models.schema import EncoderSpec

BUILTIN = Path(__file__).parent / "builtin"
IN_BUNDLE = "bundle:"  # an encoder source of this form is a folder or file inside the bundle
ENCODER = "encoder"  # the folder of an encoder's files in the bundle

_MAX_JSON_BYTES = 4 << 20
_MAX_HEAD_BYTES = 1 << 30
_MAX_FILE_BYTES = 16 << 30  # an encoder's weights: ViT-g in float32 has 4 GB
_MAX_FILES = 1000
_MAX_BACKGROUND_BYTES = 64 << 20


class BundleError(ValueError):
    """A bundle that can't be opened or written; one line that names the file and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the recognisers of a bundle that has several."""

    bundle: Bundle
    weight: float  # of its log-probabilities, see `models.fusion`


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An opened, checked bundle."""

    path: Path
    name: str
    glosses: tuple[str, ...]  # in the order of the head's logits
    encoder: EncoderSpec  # a source inside the bundle is given as its absolute path
    hop_s: float
    idle: bool  # the head has one more logit after the glosses': nobody signs
    temperature: float  # logits are divided by it before the softmax
    threshold: float  # probability from which a gloss counts
    card: dict[str, Any]
    head_path: Path | None  # None: there is no trained head, or it is the parts that have one
    space: EmbeddingSpace  # where takes of taught signs are compared
    parts: tuple[Part, ...] = ()  # two or more, whose answers are fused; else none

    @property
    def encoder_files(self) -> dict[str, Path]:
        """The encoder's files that travel in the bundle: name in the folder `encoder` -> path."""
        folder = f"{ENCODER}/"
        return {
            file.removeprefix(folder): self.path / file
            for file in self.card["files"]
            if file.startswith(folder)
        }


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open the bundle in folder `path`, or the one that ships with livegloss for `"builtin"`.

    Raises:
        BundleError: the folder, the card, a listed file or its checksum is not as it should be.
    """
    root = BUILTIN if os.fspath(path) == "builtin" else Path(path).expanduser()
    if not root.is_dir():
        raise BundleError(f"{root}: no such bundle folder")
    root = root.resolve()
    try:
        card = check_card(_read_json(root / CARD))
    except BundleError:
        raise
    except ValueError as exc:
        raise BundleError(f"{root / CARD}: {exc}") from exc
    if len(card["files"]) > _MAX_FILES:
        raise BundleError(f"{root / CARD}: lists more than {_MAX_FILES} files")
    for name, digest in card["files"].items():
        _check_file(root, name, digest)
    headless = card["head"]["kind"] == NO_HEAD
    try:
        glosses = check_glosses(_read_json(root / LABELS), none=headless)
    except BundleError:
        raise
    except ValueError as exc:
        raise BundleError(f"{root / LABELS}: {exc}") from exc
    encoder = _encoder(root, card)
    parts = _parts(root, card, glosses)
    return Bundle(
        path=root,
        name=card["name"],
        glosses=glosses,
        encoder=encoder,
        hop_s=float(card["hop_s"]),
        idle=card["head"]["idle"],
        temperature=float(card["calibration"]["temperature"]),
        threshold=float(card["calibration"]["threshold"]),
        card=card,
        head_path=None if headless or parts else root / HEAD,
        # Takes of taught signs are compared where the first part compares them.
        space=parts[0].bundle.space if parts else _space(root, card, glosses, encoder),
        parts=parts,
    )


def write_bundle(
    path: str | os.PathLike[str],
    *,
    card: Mapping[str, Any],
    glosses: Sequence[str],
    files: Mapping[str, bytes | Path],
    check: Callable[[Bundle], object] = lambda bundle: None,
) -> Bundle:
    """Write a bundle to folder `path` and open it again: all of it appears, or nothing.

    Args:
        path: replaced when it is a bundle already or an empty folder; nothing else is.
        card: all fields but `format` and `files`, which are filled in here.
        glosses: in the order of the head's logits.
        files: path in the bundle -> its content, or the file to copy. `head.onnx` must be there.
        check: given the new bundle before it takes its place; what it raises leaves the old one.

    Raises:
        BundleError: what was given makes no bundle, or `path` holds something else.
    """
    target = Path(path).expanduser().absolute()
    if target.exists() and not (target / CARD).is_file():
        if not target.is_dir() or any(target.iterdir()):
            raise BundleError(f"{target}: exists and is no bundle; give another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fresh, old = scratch / "new", scratch / "old"
        _fill(fresh, card, glosses, files)
        check(open_bundle(fresh))
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return open_bundle(target)


def _fill(
    root: Path,
    card: Mapping[str, Any],
    glosses: Sequence[str],
    files: Mapping[str, bytes | Path],
) -> None:
    labels = json.dumps({"glosses": list(glosses)}, indent=1, ensure_ascii=False) + "\n"
    contents: dict[str, bytes | Path] = {**files, LABELS: labels.encode()}
    digests = {}
    root.mkdir()
    for name, content in sorted(contents.items()):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, file)
        else:
            file.write_bytes(content)
        digests[name] = _sha256(file)
    full = {"format": FORMAT, **card, "files": digests}
    try:
        check_card(full)
        text = json.dumps(full, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as exc:
        raise BundleError(f"{CARD}: {exc}") from exc
    (root / CARD).write_text(text, encoding="utf-8")


def _check_file(root: Path, name: str, digest: str) -> None:
    file = root / name
    if not file.is_file():
        raise BundleError(f"{file}: missing, though card.json lists it")
    if not file.resolve().is_relative_to(root):
        raise BundleError(f"{file}: leads out of the bundle")
    limits = {
        HEAD: _MAX_HEAD_BYTES,
        LABELS: _MAX_JSON_BYTES,
        BACKGROUND: _MAX_BACKGROUND_BYTES,
    }
    limit = limits.get(name, _MAX_FILE_BYTES)
    if file.stat().st_size > limit:
        raise BundleError(f"{file}: larger than the {limit} bytes that are allowed")
    if _sha256(file) != digest:
        raise BundleError(f"{file}: SHA-256 differs from card.json; the file was changed or cut")


def _encoder(root: Path, card: Mapping[str, Any]) -> EncoderSpec:
    spec = spec_from(card["encoder"])
    if not spec.source.startswith(IN_BUNDLE):
        return spec
    inside = spec.source.removeprefix(IN_BUNDLE)
    if not any(name == inside or name.startswith(f"{inside}/") for name in card["files"]):
        raise BundleError(f"{root / CARD}: `files` lists nothing in the encoder's folder {inside}")
    return dataclasses.replace(spec, source=str(root / inside))


def _parts(root: Path, card: Mapping[str, Any], glosses: tuple[str, ...]) -> tuple[Part, ...]:
    """The bundles inside a fused one; they must be those that its card tells of."""
    parts = []
    for told in card.get("fusion", []):
        bundle = open_bundle(root / told["bundle"])
        if bundle.card["encoder"] != told["encoder"]:
            raise BundleError(f"{bundle.path / CARD}: has another encoder than {root / CARD} says")
        if bundle.parts or bundle.head_path is None:
            raise BundleError(f"{bundle.path}: a part of a fused bundle has a trained head")
        if bundle.glosses != glosses or bundle.idle != card["head"]["idle"]:
            raise BundleError(f"{bundle.path / LABELS}: other classes than {root / LABELS}")
        parts.append(Part(bundle=bundle, weight=float(told["weight"])))
    return tuple(parts)


def _space(
    root: Path, card: Mapping[str, Any], glosses: Sequence[str], encoder: EncoderSpec
) -> EmbeddingSpace:
    if BACKGROUND not in card["files"]:
        return pooled_space(encoder)
    file = root / BACKGROUND
    try:
        rows = np.load(file, allow_pickle=False)
    except (OSError, EOFError, ValueError) as exc:
        raise BundleError(f"{file}: no array of numbers: {exc}") from exc
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating) or rows.shape[1] < 1:
        raise BundleError(f"{file}: {rows.dtype} of shape {rows.shape}, not floats (M, E)")
    if len(rows) < len(glosses) or not np.isfinite(rows).all():
        raise BundleError(f"{file}: has no finite row for each of the {len(glosses)} glosses")
    digests = [card["files"][name] for name in (HEAD, BACKGROUND) if name in card["files"]]
    return trained_space(digests, rows, **card["calibration"].get("taught", {}))


def _read_json(file: Path) -> object:
    if not file.is_file():
        raise BundleError(f"{file}: missing")
    if file.stat().st_size > _MAX_JSON_BYTES:
        raise BundleError(f"{file}: larger than the {_MAX_JSON_BYTES} bytes that are allowed")
    try:
        value: object = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{file}: not JSON: {exc}") from exc
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
