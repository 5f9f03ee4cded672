"""Where a V-JEPA 2 checkpoint lies: a folder, a file, or a model of the hub. No torch.

"models/vitl", "vjepa2_1_vitb.pt", "owner/name@revision" -> [source] -> a path on this disk
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.hub import snapshot, split_id

_CONFIG = "config.json"
_WEIGHTS = "*.safetensors*"  # the files and their index; never a pickle


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checkpoint that was found."""

    name: str  # as an `EncoderSpec` states it: the absolute path, or the hub's id
    path: Path  # its folder or file
    commit: str = ""  # of the hub


def locate(source: str, revision: str = "", *, weights: bool = True) -> Source:
    """The checkpoint that `source` names. From the hub its files are fetched.

    Args:
        source: a folder, a file, or a hub id like owner/name or owner/name@revision.
        revision: of a hub id, where `source` states none; "": the newest.
        weights: False fetches no more than the config.

    Raises:
        OSError: it is not there, or the hub can't be reached.
        ValueError: two revisions, or huggingface_hub is not installed.
    """
    path = Path(source).expanduser()
    if path.is_dir() or path.is_file():
        path = path.resolve()
        return Source(name=str(path), path=path)
    named = None if _is_path(source) else split_id(source)
    if named is None:
        raise FileNotFoundError(f"{source}: no such folder or file, nor a hub id like owner/name")
    name, stated = named
    if stated and revision and stated != revision:
        raise ValueError(f"{source}: not revision {revision}")
    patterns = [_CONFIG, *([_WEIGHTS] if weights else [])]
    found = snapshot(name, stated or revision, patterns)
    return Source(name=name, path=found.folder, commit=found.commit)


def _is_path(source: str) -> bool:
    return source.startswith(("/", ".", "~")) or source.endswith((".pt", ".safetensors"))
