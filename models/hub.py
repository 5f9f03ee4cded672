"""Models on the Hugging Face hub: which commit is meant, and its files on this disk. No torch.

    "owner/name[@revision]" -> [hub] -> commit, and a folder in huggingface_hub's cache

A commit that is in the cache is not asked for again, so that it serves without a network. Whoever
asks gets an answer or an error in seconds: the library itself would retry for most of a minute.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE_S = 4.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Files of one commit."""

    folder: Path
    commit: str


def is_commit(revision: str) -> bool:
    """Whether `revision` is a commit's whole hash, which never means anything else."""
    return _COMMIT.fullmatch(revision) is not None


def split_id(text: str) -> tuple[str, str] | None:
    """Name and revision ("" if it states none) of "owner/name[@revision]"; None: it is no id."""
    found = _ID.fullmatch(text)
    return (found["name"], found["revision"] or "") if found else None


def snapshot(name: str, revision: str, patterns: Sequence[str]) -> Snapshot:
    """The files of hub model `name` at `revision` ("": the newest) that match `patterns`.

    Without a network a revision that is in the cache is taken from there.

    Raises:
        OSError: there is no such model or revision, it can't be reached, or the disk is full.
        ValueError: huggingface_hub is not installed.
    """
    hub = library(name)

    def fetched(*, here: bool) -> Snapshot:
        """here: only out of the cache."""
        folder = hub.snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=list(patterns),
            local_files_only=here,
        )
        return Snapshot(folder=Path(folder), commit=Path(folder).name)

    def cached() -> Snapshot | None:
        try:
            return fetched(here=True)
        except Exception:  # not there, or not all of it
            return None

    if is_commit(revision) and (there := cached()):
        return there
    try:
        commit_of(name, revision)  # so that an error comes soon: what follows tries for long
    except ConnectionError:
        if there := cached():
            return there
        raise
    try:
        return fetched(here=False)
    except Exception as exc:  # the errors of its HTTP client share no public base
        raise OSError(f"{name}: can't be fetched from the hub: {first_line(exc)}") from exc


def commit_of(name: str, revision: str) -> str:
    """The commit that `revision` of hub model `name` means; "": the newest.

    Raises:
        FileNotFoundError: there is no such model or revision, or it is private.
        ConnectionError: the hub does not answer, or not in time.
        ValueError: huggingface_hub is not installed.
    """
    hub = library(name)
    try:
        api = hub.HfApi()
        # The client's limit ends no more than the thread that was given up.
        info = _in_time(lambda: api.model_info(name, revision=revision or None, timeout=60.0))
    except hub.errors.RevisionNotFoundError as exc:
        raise FileNotFoundError(f"{name}: has no revision {revision!r} on the hub") from exc
    except (hub.errors.RepositoryNotFoundError, hub.errors.HFValidationError) as exc:
        raise FileNotFoundError(
            f"{name}: no such file or folder here, and no model of the hub that you may read"
        ) from exc
    except Exception as exc:  # the errors of its HTTP client share no public base
        raise ConnectionError(
            f"{name}: no such file or folder here, and the hub can't be reached: {first_line(exc)}"
        ) from exc
    return str(info.sha)


def library(name: str) -> Any:
    """The module huggingface_hub, for the sake of model `name`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ModuleNotFoundError as exc:
        raise ValueError(
            f"{name}: no such file or folder here, and the hub needs {exc.name}: "
            'pip install "livegloss[train]"'
        ) from exc
    return huggingface_hub


def _in_time(call: Callable[[], T]) -> T:
    """The result of `call`.

    Where a firewall swallows packets, the client tries one address after the other, each for its
    own limit: so it waits in a thread that nobody waits for.

    Raises:
        TimeoutError: it took too long.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except BaseException as exc:
            answers.put((None, exc))

    threading.Thread(target=work, name="hub", daemon=True).start()
    try:
        result, problem = answers.get(timeout=_PATIENCE_S)
    except queue.Empty:
        raise TimeoutError(f"no answer in {_PATIENCE_S:.0f} s") from None
    if problem is not None:
        raise problem
    return result  # type: ignore[return-value]


def first_line(exc: BaseException) -> str:
    """The first line of an error, which may be long."""
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), repr(exc))
