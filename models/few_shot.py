"""The signs that one session knows: the head's, and those that it was taught by a few takes.

A take is the embedding of one window in which someone makes a sign. The mean of a sign's takes is
its prototype, and a window is as like the sign as it is, on average, like the prototype and like
the nearest take. It is that sign as far as it is more like it than like everything else: the other
taught signs, what the model was trained on (the background that comes with its bundle), what the
signer taught as `idle`, and a floor for what is like nothing at all. What remains of the
probability is the head's to give.

Plain numpy, no I/O.
"""

from __future__ import annotations

import dataclasses
import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.schema import EncoderSpec, Prediction

IDLE = "idle"  # taught under this name: what is no sign
MAX_SIGNS = 50  # of one session
MAX_TAKES = 8  # of one sign
MAX_NAME = 60  # characters


class FewShotError(ValueError):
    """What was taught can't be used; the text says why. Nothing has changed."""


class SpaceMismatch(FewShotError):
    """The takes were recorded with another model."""


class FewShotFull(FewShotError):
    """The session knows as many taught signs as it may."""


class FewShotClassifier:
    """Starts with the head's `glosses`; `teach` and `forget` change it.

    Bounds: `MAX_SIGNS` signs of `MAX_TAKES` takes.
    """

    def __init__(self, glosses: Sequence[str], space: EmbeddingSpace) -> None:
        self._trained = tuple(glosses)
        self._space = space
        self._taught: dict[str, NDArray[np.float32]] = {}  # (n, E) takes
        self._arrange()

    @property
    def space(self) -> EmbeddingSpace:
        return self._space

    @property
    def glosses(self) -> tuple[str, ...]:
        """In the order of probabilities that `apply` returns: the head's, then the taught ones."""
        return self._glosses

    @property
    def taught(self) -> tuple[str, ...]:
        return tuple(self._taught)

    def teach(self, gloss: str, takes: NDArray[np.float32]) -> None:
        """Know `gloss` by `takes` (n, E) from now on; earlier takes of it are replaced.

        A gloss of the head's gains by takes; `IDLE` takes show what is no sign.

        Raises:
            FewShotFull: there are `MAX_SIGNS` already.
            FewShotError: the name or the takes can't be used.
        """
        check_name(gloss)
        takes = np.asarray(takes, np.float32)
        if takes.ndim != 2 or not 1 <= len(takes) <= MAX_TAKES:
            raise FewShotError(f"a sign is taught by 1 to {MAX_TAKES} takes")
        if takes.shape[1] != self._space.dim:
            raise SpaceMismatch(
                f"a take has {takes.shape[1]} numbers, this model's have {self._space.dim}"
            )
        check_takes(takes)
        if gloss not in self._taught and len(self._taught) >= MAX_SIGNS:
            raise FewShotFull(f"{MAX_SIGNS} signs are taught already: delete one first")
        self._taught[gloss] = unit_length(takes)
        self._arrange()

    def forget(self, gloss: str) -> None:
        """Know a taught sign no more.

        Raises:
            KeyError: it was not taught.
        """
        del self._taught[gloss]
        self._arrange()

    def apply(self, said: Prediction) -> Prediction:
        """`said`, over `glosses` instead of the head's alone. Unchanged while nothing is taught."""
        if not self._taught or said.embedding is None:
            return said
        shares = self._shares(said.embedding)  # (K,)
        rest = 1 - float(shares.sum())
        probabilities = np.zeros(len(self._glosses), np.float32)
        probabilities[: len(self._trained)] = rest * said.probabilities
        np.add.at(probabilities, self._places, shares)
        return dataclasses.replace(said, probabilities=probabilities, idle=rest * said.idle)

    def _shares(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """(K,) The probability of each taught sign but `IDLE`; their sum is at most 1."""
        x = unit_length(unit_length(embedding) - self._centre)
        nearest = np.zeros(0, np.float32)
        if len(self._firsts):
            nearest = np.maximum.reduceat(self._takes @ x, self._firsts)
        signs = (self._prototypes @ x + nearest) / 2 / self._space.temperature
        others = np.append(self._others @ x, self._space.floor) / self._space.temperature
        top = max(signs.max(initial=-np.inf), others.max())
        powers = np.exp(signs - top)
        shares: NDArray[np.float32] = powers / (powers.sum() + np.exp(others - top).sum())
        return shares

    def _arrange(self) -> None:
        """What `apply` computes with, after a change."""
        new = [gloss for gloss in self._taught if gloss != IDLE]
        known = {gloss: place for place, gloss in enumerate(self._trained)}
        for gloss in new:
            known.setdefault(gloss, len(known))
        self._glosses = tuple(known)
        self._places = np.array([known[gloss] for gloss in new], np.intp)
        background = self._space.background
        size = self._space.dim
        means = {gloss: unit_length(takes.mean(0)) for gloss, takes in self._taught.items()}
        if len(background):
            self._centre = background.mean(0)
        else:  # nothing to compare with but what was taught
            self._centre = np.stack([*means.values(), np.zeros(size, np.float32)]).mean(0)
        # A gloss that was taught is no longer told from what the head learnt of it.
        kept = np.ones(len(background), bool)
        of_trained = self._places[self._places < min(len(self._trained), len(background))]
        kept[of_trained] = False
        idle = self._taught.get(IDLE, np.zeros((0, size), np.float32))
        self._others = unit_length(np.concatenate([background[kept], idle]) - self._centre)
        rows = np.array([means[gloss] for gloss in new], np.float32).reshape(-1, size)
        self._prototypes = unit_length(rows - self._centre)  # (K, E)
        takes = np.concatenate([np.zeros((0, size), np.float32), *(self._taught[g] for g in new)])
        self._takes = unit_length(takes - self._centre)  # (N, E), those of a sign together
        counts = [len(self._taught[gloss]) for gloss in new]
        self._firsts = np.cumsum([0, *counts[:-1]])[: len(new)]  # (K,) where each sign's begin


def check_name(gloss: str) -> None:
    """A gloss that may be taught.

    Raises:
        FewShotError: it is empty, too long, or has characters that are not to be printed.
    """
    if not gloss.strip() or gloss != gloss.strip() or len(gloss) > MAX_NAME:
        raise FewShotError(f"a sign's name has 1 to {MAX_NAME} characters, no space at its ends")
    if any(unicodedata.category(character)[0] == "C" for character in gloss):
        raise FewShotError("a sign's name has no control characters")


def check_takes(takes: NDArray[np.float32]) -> None:
    """Takes (n, E) that a sign can be known by.

    Raises:
        FewShotError: one of them is all zeros, or has something in it that is no number.
    """
    if not np.isfinite(takes).all() or (np.linalg.norm(takes, axis=1) < 1e-3).any():
        raise FewShotError("a take is empty or has something in it that is no number")


# MERGED from models.space: The space in which takes of signs are compared: a vector for each
# window, near for like signs. With a trained head it is the head's own embedding, and the bundle
# brings the background. Without, it is the encoder's features averaged over time: nothing needs
# to have been trained.

TEMPERATURE = 0.1  # of likenesses, unless a bundle has its own
FLOOR = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSpace:
    """Where takes live. Takes of another space mean nothing here; `id` tells them apart.

    `background` (M, E), unit rows: what the model learnt to tell apart, the head's glosses first,
    in their order, then other signs and rest; M may be 0. A likeness is a cosine about the mean of
    the background; divided by `temperature` it is a logit; `floor` is the likeness at which a
    window is as likely a taught sign as something never seen.
    """

    id: str
    dim: int  # E
    background: NDArray[np.float32] = field(compare=False)  # `id` tells them apart
    temperature: float = TEMPERATURE
    floor: float = FLOOR


def trained_space(
    digests: Iterable[str],
    background: NDArray[np.floating],
    temperature: float = TEMPERATURE,
    floor: float = FLOOR,
) -> EmbeddingSpace:
    """The space of a head's embeddings; `digests` of the files that make it."""
    return EmbeddingSpace(
        id=_name(*digests),
        dim=background.shape[1],
        background=unit_length(np.asarray(background, np.float32)),
        temperature=temperature,
        floor=floor,
    )


def pooled_space(spec: EncoderSpec) -> EmbeddingSpace:
    """The space of an encoder's pooled features: it asks for no head and has no background."""
    dim = 2 * spec.dim
    return EmbeddingSpace(
        id=_name("pooled", spec.kind, spec.revision, str(spec.frames), str(spec.fps), str(dim)),
        dim=dim,
        background=np.zeros((0, dim), np.float32),
    )


def pooled(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2 * D,) of features (T, D): their mean over time, and how the second half differs."""
    half = (len(features) + 1) // 2
    mean = features.mean(0)
    change = features[-half:].mean(0) - features[:half].mean(0)
    return unit_length(np.concatenate([mean, change]))


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., E) at length 1; what is as good as nothing stays so."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-6)).astype(np.float32)
    return scaled


def _name(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
