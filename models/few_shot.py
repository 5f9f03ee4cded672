"""A session's own signs: the head's glosses, and signs taught by a few takes. Plain numpy, no I/O.

    prediction of the head + its embedding -> [FewShotClassifier] -> prediction over more glosses

A take is the embedding of one window in which the signer makes a sign. The mean of a sign's takes
is its prototype. A window's similarity to the sign is the mean of its similarity to the prototype
and to the nearest take. The sign's probability is a softmax over this similarity and those to
everything else: the other taught signs, the bundle's background (what the head was trained on), the
signer's own `idle` takes, and a floor that stands for anything unknown. The probability that
remains is shared out as the head's prediction says.
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

IDLE = "idle"  # the gloss of windows in which nobody signs; takes under this name are no sign
MAX_SIGNS = 50  # of one session
MAX_TAKES = 8  # of one sign
MAX_NAME = 60  # characters
TEMPERATURE = 0.1  # of similarities, unless a bundle has its own
FLOOR = 0.5


class FewShotError(ValueError):
    """A sign that can't be taught; the text says why. Nothing has changed."""


class SpaceMismatch(FewShotError):
    """The takes were recorded with another model."""


class FewShotFull(FewShotError):
    """The session has as many taught signs as it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSpace:
    """Where embeddings of windows are compared: the head's own space, or the encoder's features.

    Similarity is the cosine between embeddings after the background's mean is subtracted from both.
    Divided by `temperature` it is a logit. At a similarity of `floor`, a window is as likely the
    taught sign as something unknown. Takes from another space, with another `id`, are useless here.
    """

    id: str
    dim: int  # E
    # (M, E) unit rows that the head distinguishes: its glosses first, in their order, then other
    # signs and rest. M may be 0.
    background: NDArray[np.float32] = field(compare=False)  # `id` stands for it
    temperature: float = TEMPERATURE
    floor: float = FLOOR
    # Of the background, once for all sessions: (E,) its mean, and (M, E) unit rows without it.
    centre: NDArray[np.float32] = field(init=False, compare=False, repr=False)
    centred: NDArray[np.float32] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        rows = self.background
        centre = rows.mean(0) if len(rows) else np.zeros(self.dim, np.float32)
        object.__setattr__(self, "centre", centre)
        object.__setattr__(self, "centred", unit_length(rows - centre))


def trained_space(
    digests: Iterable[str],
    background: NDArray[np.floating],
    temperature: float = TEMPERATURE,
    floor: float = FLOOR,
) -> EmbeddingSpace:
    """The space of a head's embeddings; `digests` are those of the files that define it."""
    return EmbeddingSpace(
        id=_space_id(*digests),
        dim=background.shape[1],
        background=unit_length(np.asarray(background, np.float32)),
        temperature=temperature,
        floor=floor,
    )


def pooled_space(spec: EncoderSpec) -> EmbeddingSpace:
    """The space of an encoder's pooled features: it needs no trained head, has no background."""
    dim = 2 * spec.dim
    return EmbeddingSpace(
        id=_space_id("pooled", spec.kind, spec.revision, str(spec.frames), str(spec.fps), str(dim)),
        dim=dim,
        background=np.zeros((0, dim), np.float32),
    )


def _space_id(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def pooled(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2 * D,) of features (T, D): mean over time, and mean change from first to second half."""
    half = (len(features) + 1) // 2
    mean = features.mean(0)
    change = features[-half:].mean(0) - features[:half].mean(0)
    return unit_length(np.concatenate([mean, change]))


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., E) scaled to length 1; vectors close to zero stay so."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-6)).astype(np.float32)
    return scaled


class FewShotClassifier:
    """Starts with the head's `glosses`; `teach` and `forget` change them.

    Bounds: `MAX_SIGNS` signs of `MAX_TAKES` takes.
    """

    def __init__(self, glosses: Sequence[str], space: EmbeddingSpace) -> None:
        self._trained = tuple(glosses)
        self._space = space
        self._taught: dict[str, NDArray[np.float32]] = {}  # (n, E) takes
        self._update()

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
        """Add `gloss` with `takes` (n, E), or replace its takes.

        A gloss of the head may be taught too. Takes of `IDLE` show what is no sign.

        Raises:
            FewShotFull: there are `MAX_SIGNS` already.
            FewShotError: the name or the takes can't be used.
        """
        gloss = sign_name(gloss)
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
        self._update()

    def forget(self, gloss: str) -> None:
        """Drop a taught sign.

        Raises:
            FewShotError: no sign can have that name.
            KeyError: it was not taught.
        """
        del self._taught[sign_name(gloss)]
        self._update()

    def apply(self, prediction: Prediction) -> Prediction:
        """The head's prediction, over `glosses`. Unchanged while nothing is taught."""
        if not self._taught or prediction.embedding is None:
            return prediction
        taught = self._taught_probabilities(prediction.embedding)  # (K,)
        rest = 1 - float(taught.sum())
        probabilities = np.zeros(len(self._glosses), np.float32)
        probabilities[: len(self._trained)] = rest * prediction.probabilities
        np.add.at(probabilities, self._places, taught)
        return dataclasses.replace(
            prediction, probabilities=probabilities, idle=rest * prediction.idle
        )

    def _taught_probabilities(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """(K,) Of each taught sign but `IDLE`; their sum is at most 1."""
        x = unit_length(unit_length(embedding) - self._centre)
        nearest = np.zeros(0, np.float32)
        if len(self._firsts):
            nearest = np.maximum.reduceat(self._takes @ x, self._firsts)
        signs = (self._prototypes @ x + nearest) / 2 / self._space.temperature
        background = self._space.centred @ x
        background[self._retaught] = -np.inf
        others = np.concatenate([background, self._idle @ x, [self._space.floor]])
        others /= self._space.temperature
        top = max(signs.max(initial=-np.inf), others.max())
        powers = np.exp(signs - top)
        result: NDArray[np.float32] = powers / (powers.sum() + np.exp(others - top).sum())
        return result

    def _update(self) -> None:
        """Compute the arrays of `apply` after a change."""
        signs = [gloss for gloss in self._taught if gloss != IDLE]
        places = {gloss: place for place, gloss in enumerate(self._trained)}
        for gloss in signs:
            places.setdefault(gloss, len(places))
        self._glosses = tuple(places)
        self._places = np.array([places[gloss] for gloss in signs], np.intp)
        background = len(self._space.background)
        size = self._space.dim
        means = {gloss: unit_length(takes.mean(0)) for gloss, takes in self._taught.items()}
        self._centre = self._space.centre
        if not background:  # only the taught signs can be compared with each other
            self._centre = np.stack([*means.values(), np.zeros(size, np.float32)]).mean(0)
        # A gloss of the head that is taught as well does not compete with its own background row.
        self._retaught = self._places[self._places < min(len(self._trained), background)]
        idle = self._taught.get(IDLE, np.zeros((0, size), np.float32))
        self._idle = unit_length(idle - self._centre)
        rows = np.array([means[gloss] for gloss in signs], np.float32).reshape(-1, size)
        self._prototypes = unit_length(rows - self._centre)  # (K, E)
        takes = np.concatenate([np.zeros((0, size), np.float32), *(self._taught[g] for g in signs)])
        self._takes = unit_length(takes - self._centre)  # (N, E), those of a sign together
        counts = [len(self._taught[gloss]) for gloss in signs]
        self._firsts = np.cumsum([0, *counts[:-1]])[: len(signs)]  # (K,) first take of each sign


def sign_name(gloss: str) -> str:
    """The name of a sign that is to be taught, as it is compared: in the form NFC of Unicode.

    Raises:
        FewShotError: it is empty, too long, or has control characters.
    """
    name = unicodedata.normalize("NFC", gloss)
    if not name.strip() or name != name.strip() or len(name) > MAX_NAME:
        raise FewShotError(f"a sign's name has 1 to {MAX_NAME} characters, no space at its ends")
    if any(unicodedata.category(character)[0] == "C" for character in name):
        raise FewShotError("a sign's name has no control characters")
    return name


def check_takes(takes: NDArray[np.float32]) -> None:
    """Check takes (n, E).

    Raises:
        FewShotError: one of them is all zeros, or has a NaN or infinity in it.
    """
    if not np.isfinite(takes).all() or (np.linalg.norm(takes, axis=1) < 1e-3).any():
        raise FewShotError("a take is empty or has something in it that is no number")
