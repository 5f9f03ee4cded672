"""The recogniser bundle: the only door between the offline half, which writes it, and the live one.

    trained head + encoder -> [write_bundle] -> a folder -> [open_bundle] -> Bundle -> recogniser

The folder holds `card.json` (see `models.card`), `labels.json`, `head.onnx` (unless there is no
trained head), `background.npy` (embeddings that taught signs are compared with, see
`models.few_shot`), `figures.msgpack` (how signs are signed, see `models.drawn_figure`) and, when
the encoder travels along, its files. Opening checks the SHA-256 and size of every file against the
card. A fused bundle holds other bundles, which are opened with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np

from models.card import (
    BACKGROUND,
    CARD,
    FIGURES,
    FORMAT,
    HEAD,
    LABELS,
    NO_HEAD,
    Card,
    check_card,
    check_glosses,
    spec_from,
)
from models.drawn_figure import read_figures
from models.few_shot import EmbeddingSpace, pooled_space, trained_space
from models.files import read_array, sha256
from models.schema import EncoderSpec

BUILTIN = Path(__file__).parent / "builtin"
IN_BUNDLE = "bundle:"  # an encoder source of this form is a folder or file inside the bundle
ENCODER = "encoder"  # the folder of an encoder's files in the bundle

_MAX_JSON_BYTES = 4 << 20
_MAX_FILES = 1000
_MAX_FILE_BYTES = 16 << 30  # an encoder's weights: ViT-g in float32 has 4 GB
_MAX_BYTES = {HEAD: 1 << 30, LABELS: _MAX_JSON_BYTES, BACKGROUND: 64 << 20, FIGURES: 64 << 20}


class BundleError(ValueError):
    """A bundle that can't be opened or written; one line that names the file and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the recognisers of a fused bundle."""

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
    card: dict[str, Any]  # `card.json` as it stands
    head_path: Path | None  # None: no trained head, or only the parts have one
    space: EmbeddingSpace  # where takes of taught signs are compared
    parts: tuple[Part, ...] = ()  # of a fused bundle: two or more
    figures: Mapping[str, bytes] = dataclasses.field(default_factory=dict)  # gloss -> drawn figure

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
    fields, card = _read_card(root)
    for name, digest in card.files.items():
        _check_file(root, name, digest)
    headless = card.head.kind == NO_HEAD
    labels = _read_json(root / LABELS)
    with _errors_name(root / LABELS):
        glosses = check_glosses(labels, headless=headless)
    encoder = _encoder(root, card)
    parts = _parts(root, card, glosses)
    return Bundle(
        path=root,
        name=card.name,
        glosses=glosses,
        encoder=encoder,
        hop_s=card.hop_s,
        idle=card.head.idle,
        temperature=card.calibration.temperature,
        threshold=card.calibration.threshold,
        card=fields,
        head_path=None if headless or parts else root / HEAD,
        # A fused bundle compares takes of taught signs as its first part does.
        space=parts[0].bundle.space if parts else _space(root, card, glosses, encoder),
        parts=parts,
        figures=_figures(root, card, glosses, parts),
    )


def _check_file(root: Path, name: str, digest: str) -> None:
    file = root / name
    if not file.is_file():
        raise BundleError(f"{file}: missing, though card.json lists it")
    if not file.resolve().is_relative_to(root):
        raise BundleError(f"{file}: leads out of the bundle")
    limit = _MAX_BYTES.get(name, _MAX_FILE_BYTES)
    if file.stat().st_size > limit:
        raise BundleError(f"{file}: larger than the {limit} bytes that are allowed")
    if sha256(file) != digest:
        raise BundleError(f"{file}: SHA-256 differs from card.json; the file was changed or cut")


def _encoder(root: Path, card: Card) -> EncoderSpec:
    spec = card.encoder
    if not spec.source.startswith(IN_BUNDLE):
        return spec
    inside = spec.source.removeprefix(IN_BUNDLE)
    if not any(name == inside or name.startswith(f"{inside}/") for name in card.files):
        raise BundleError(f"{root / CARD}: `files` lists nothing in the encoder's folder {inside}")
    return dataclasses.replace(spec, source=str(root / inside))


def _parts(root: Path, card: Card, glosses: tuple[str, ...]) -> tuple[Part, ...]:
    """The bundles inside a fused one; they must agree with its card."""
    parts = []
    for listed in card.fusion:
        bundle = open_bundle(root / listed.bundle)
        if spec_from(bundle.card["encoder"]) != listed.encoder:
            raise BundleError(f"{bundle.path / CARD}: has another encoder than {root / CARD} says")
        ours, its = ((spec.resize, spec.short_side) for spec in (card.encoder, bundle.encoder))
        if "exact" in (ours[0], its[0]) and ours != its:  # parts share the pictures
            raise BundleError(
                f"{bundle.path / CARD}: a part whose pictures are resized exactly (--resize exact) "
                "can only be fused with parts of the same rule and size"
            )
        if bundle.parts or bundle.head_path is None:
            raise BundleError(f"{bundle.path}: a part of a fused bundle has a trained head")
        if bundle.glosses != glosses or bundle.idle != card.head.idle:
            raise BundleError(f"{bundle.path / LABELS}: other classes than {root / LABELS}")
        parts.append(Part(bundle=bundle, weight=listed.weight))
    return tuple(parts)


def _space(root: Path, card: Card, glosses: Sequence[str], encoder: EncoderSpec) -> EmbeddingSpace:
    if BACKGROUND not in card.files:
        return pooled_space(encoder)
    file = root / BACKGROUND
    try:
        rows = np.array(read_array(file))
    except (OSError, ValueError) as exc:
        raise BundleError(f"{file}: {exc}") from exc
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating) or rows.shape[1] < 1:
        raise BundleError(f"{file}: {rows.dtype} of shape {rows.shape}, not floats (M, E)")
    if len(rows) < len(glosses) or not np.isfinite(rows).all():
        raise BundleError(f"{file}: has no finite row for each of the {len(glosses)} glosses")
    digests = [card.files[name] for name in (HEAD, BACKGROUND) if name in card.files]
    if card.head.weights:
        digests[0] = card.head.weights
    return trained_space(digests, rows, **msgspec.structs.asdict(card.calibration.taught))


def _figures(
    root: Path, card: Card, glosses: tuple[str, ...], parts: tuple[Part, ...]
) -> Mapping[str, bytes]:
    """The drawn figures in the bundle, or else those of the first part that has some."""
    if FIGURES not in card.files:
        return next((part.bundle.figures for part in parts if part.bundle.figures), {})
    with _errors_name(root / FIGURES):
        return read_figures((root / FIGURES).read_bytes(), glosses)


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
        check: called with the new bundle before it replaces the old one; if it raises, the old
            one stays.

    Raises:
        BundleError: the arguments make no valid bundle, or `path` holds something else.
    """
    with _replacing(path) as fresh:
        _fill(fresh, card, glosses, files)
        check(open_bundle(fresh))
    return open_bundle(path)


def copy_bundle(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    more: Mapping[str, str] | None = None,
) -> Bundle:
    """Copy the bundle in folder `source` to folder `path`: all of it appears, or nothing.

    Only what its card lists is copied, links as the files they lead to. The copy is opened, which
    checks every file, before it replaces what was there. `more`: texts to write beside it, by name.

    Raises:
        BundleError: `source` holds no sound bundle, or `path` something else.
        OSError: a file can't be read, or the disk is full.
    """
    root = Path(source).expanduser()
    with _replacing(path) as fresh:
        fresh.mkdir()
        for name in (CARD, *listed_files(root)):
            if not (root / name).is_file():
                raise BundleError(f"{root / name}: missing, though card.json lists it")
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, fresh / name)
        try:
            open_bundle(fresh)
        except BundleError as exc:
            raise BundleError(str(exc).replace(str(fresh.resolve()), str(root))) from exc
        for name, text in (more or {}).items():
            (fresh / name).write_text(text, encoding="utf-8")
    return open_bundle(path)


def listed_files(root: Path) -> tuple[str, ...]:
    """The files that the card in folder `root` lists, which may not be there.

    Raises:
        BundleError: there is no sound card.
    """
    return tuple(_read_card(root)[1].files)


def _read_card(root: Path) -> tuple[dict[str, Any], Card]:
    """The card in folder `root` as it stands, and checked."""
    fields = _read_json(root / CARD)
    with _errors_name(root / CARD):
        card = check_card(fields)
    if len(card.files) > _MAX_FILES:
        raise BundleError(f"{root / CARD}: lists more than {_MAX_FILES} files")
    return fields, card


def try_target(path: str | os.PathLike[str]) -> Path:
    """The folder `path`, whose parents are made: a bundle may be written to it.

    Commands try it before their work.

    Raises:
        BundleError: it holds something else than a bundle.
        OSError: it can't be written.
    """
    target = Path(path).expanduser().absolute()
    if target.exists() and not (target / CARD).is_file():
        if not target.is_dir() or any(target.iterdir()):
            raise BundleError(f"{target}: exists and is no bundle; give another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)).rmdir()
    return target


@contextlib.contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder that is to be made and filled; it takes the place of `path` when the block ends.

    Raises:
        BundleError, OSError: see `try_target`.
    """
    target = try_target(path)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fresh, old = scratch / "new", scratch / "old"
        yield fresh
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
        digests[name] = sha256(file)
    full = {"format": FORMAT, **card, "files": digests}
    try:
        text = json.dumps(full, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        check_card(json.loads(text))
    except (TypeError, ValueError) as exc:
        raise BundleError(f"{CARD}: {exc}") from exc
    (root / CARD).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _errors_name(file: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as exc:
        raise BundleError(f"{file}: {exc}") from exc


def _read_json(file: Path) -> Any:
    if not file.is_file():
        raise BundleError(f"{file}: missing")
    if file.stat().st_size > _MAX_JSON_BYTES:
        raise BundleError(f"{file}: larger than the {_MAX_JSON_BYTES} bytes that are allowed")
    try:
        value = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_constant)
        # It is sent on as JSON: no number like 1e999, which is infinite, and no half character.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return value
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{file}: not JSON: {exc}") from exc


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
