"""Bundles on a hub: pushed with a README.md, pulled with every checksum checked.

    bundle -> [push] -> "owner/name" of the Hugging Face hub, or "file:FOLDER"
    "owner/name[@revision]" or "file:FOLDER" -> [pull] -> bundle

Only files that the card lists travel. No code of a hub is run, and nothing is unpickled.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from models.bundle import (
    IN_BUNDLE,
    Bundle,
    BundleError,
    copy_bundle,
    listed_files,
    open_bundle,
    try_target,
)
from models.card import CARD
from models.encoders import KINDS
from models.hub import commit_of, first_line, library, snapshot, split_id
from offline.exporting.readme import readme

README = "README.md"
_FOLDER = "file:"
_KEPT = ".gitattributes"  # which the hub itself puts into each model


def push(path: Path, target: str, *, public: bool = False) -> str:
    """Copy the bundle in folder `path` to `target`; returns it as `pull` takes it, pinned.

    A new model of the hub is private, unless `public`.

    Raises:
        BundleError: the bundle is broken or works on this machine alone, or the target holds
            something else.
        OSError: the target can't be written, or the hub refuses.
        ValueError: no such target, or huggingface_hub is not installed.
    """
    bundle = open_bundle(path)
    _check_travels(bundle)
    if target.startswith(_FOLDER):
        folder = target.removeprefix(_FOLDER)
        copy_bundle(bundle.path, folder, {README: readme(bundle, target)})
        return target
    name, revision = split_id(target) or ("", "")
    if not name or revision:
        raise ValueError(f"{target}: no target; give OWNER/NAME or file:FOLDER")
    hub = library(name)
    files: dict[str, bytes | Path] = {f: bundle.path / f for f in (CARD, *bundle.card["files"])}
    files[README] = readme(bundle, name).encode()
    try:
        api = hub.HfApi()
        api.create_repo(name, private=not public, exist_ok=True)
        there = set(api.list_repo_files(name)) - {_KEPT}
        if there - {README} and CARD not in there:
            raise BundleError(f"{name}: holds something else than a bundle; give another name")
        done = api.create_commit(
            name,
            operations=[
                *(hub.CommitOperationDelete(path_in_repo=file) for file in there - files.keys()),
                *(_addition(hub, file, content) for file, content in files.items()),
            ],
            commit_message=f"Push {bundle.name}",
        )
    except BundleError:
        raise
    except Exception as exc:  # the errors of its HTTP client share no public base
        raise OSError(f"{name}: the hub did not take it: {first_line(exc)}") from exc
    return f"{name}@{done.oid}"


def _addition(hub: Any, file: str, content: bytes | Path) -> Any:
    held = content if isinstance(content, bytes) else str(content)
    return hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=held)


def _check_travels(bundle: Bundle) -> None:
    """Raise BundleError where the encoder lies on this machine, outside of the bundle."""
    for one in [part.bundle for part in bundle.parts] or [bundle]:
        source = one.card["encoder"]["source"]
        local = one.encoder.kind in KINDS[1:] and not source.startswith(IN_BUNDLE)
        if local and (Path(source).is_absolute() or not split_id(source)):
            raise BundleError(
                f"{one.path}: its encoder is {source}, which nobody else has: export it with "
                "--with-encoder"
            )


def pull(source: str, out: Path) -> tuple[Bundle, str]:
    """Fetch the bundle at `source` to folder `out`; also returns `source`, pinned.

    Raises:
        BundleError: it is no sound bundle, or `out` holds something else: nothing was written.
        OSError: it is not there, can't be reached, or the disk is full.
        ValueError: no such source, or huggingface_hub is not installed.
    """
    try_target(out)
    if source.startswith(_FOLDER):
        folder = Path(source.removeprefix(_FOLDER)).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
        return copy_bundle(folder, out), source
    if (named := split_id(source)) is None:
        raise ValueError(f"{source}: no source; give OWNER/NAME[@REVISION] or file:FOLDER")
    name, revision = named
    commit = commit_of(name, revision)
    listed = listed_files(snapshot(name, commit, [CARD]).folder)
    # Escaped, as the hub's client takes patterns.
    found = snapshot(name, commit, [glob.escape(file) for file in (CARD, *listed)])
    return copy_bundle(found.folder, out), f"{name}@{found.commit}"
