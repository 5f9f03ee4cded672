"""The space in which takes of signs are compared: a vector for each window, near for like signs.

With a trained head it is the head's own embedding, and the bundle brings the background. Without,
it is the encoder's features averaged over time: nothing needs to have been trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.schema import EncoderSpec

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
        background=unit(np.asarray(background, np.float32)),
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
    return unit(np.concatenate([mean, change]))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., E) at length 1; what is as good as nothing stays so."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-6)).astype(np.float32)
    return scaled


def _name(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
