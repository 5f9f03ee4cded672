"""The vocabulary of the pipeline as JSON and rows of numbers, and back: what crosses a `Link`.

Each `..._fields` has its counterpart that makes the same value at the other end. Those raise
KeyError, TypeError or ValueError for what is none of ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.faults import DeviceLost, NotANumber, OutOfMemory, RecognitionError, Stuck
from models.lexicon import LexiconError, LexiconFull, SpaceMismatch
from models.schema import Box, EncoderSpec, Frame, Pair, Point, Prediction, Seen, Signer
from models.space import EmbeddingSpace
from streaming.answering import Replaced
from streaming.audience import TooManyListeners
from streaming.sdp import Fragment, Offer, OfferError, TrickleCandidate
from streaming.workers.link import Rows

Fields = dict[str, Any]


class SessionLost(Exception):
    """The session has ended, or its worker has."""


_FAULTS = {
    fault.kind: fault for fault in (RecognitionError, OutOfMemory, NotANumber, Stuck, DeviceLost)
}
_REFUSALS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (LexiconError, LexiconFull, SpaceMismatch, TooManyListeners, SessionLost, KeyError)
}
_REPLACED = "replaced"


# Windows and their answers


def frame_fields(frame: Frame) -> Fields:
    """All but the picture, of which only the size is told."""
    height, width, _ = frame.image.shape
    return {
        "size": [height, width],
        "media_s": frame.media_s,
        "arrival_s": frame.arrival_s,
        "decoded_s": frame.decoded_s,
        "rtp": frame.rtp,
    }


def frame_from(fields: Mapping[str, Any], image: NDArray[np.uint8]) -> Frame:
    return Frame(
        image=image,
        media_s=float(fields["media_s"]),
        arrival_s=float(fields["arrival_s"]),
        decoded_s=float(fields["decoded_s"]),
        rtp=int(fields["rtp"]),
    )


def prediction_fields(said: Prediction) -> tuple[Fields, Rows]:
    fields = {
        "stream": said.stream,
        "idle": float(said.idle),
        "start_s": said.start_s,
        "end_s": said.end_s,
        "seen": None if said.seen is None else dataclasses.asdict(said.seen),
        "resting": None if said.resting is None else bool(said.resting),
        "stages_s": said.stages_s,
    }
    rows = {"probabilities": said.probabilities, "attention": said.attention}
    if said.embedding is not None:
        rows["embedding"] = said.embedding
    return fields, rows


def prediction_from(fields: Mapping[str, Any], rows: Rows) -> Prediction:
    return Prediction(
        stream=fields["stream"],
        probabilities=rows["probabilities"],
        idle=fields["idle"],
        attention=rows["attention"],
        start_s=fields["start_s"],
        end_s=fields["end_s"],
        embedding=rows.get("embedding"),
        seen=None if fields["seen"] is None else _seen(fields["seen"]),
        resting=fields["resting"],
        stages_s=dict(fields["stages_s"]),
    )


def _seen(fields: Mapping[str, Any]) -> Seen:
    signer = fields["signer"]
    return Seen(aspect=fields["aspect"], signer=None if signer is None else _signer(signer))


def _signer(fields: Mapping[str, Any]) -> Signer:
    left, right = fields["hands"]
    return Signer(
        head=_box(fields["head"]),
        shoulders=_pair(fields["shoulders"]),
        elbows=_pair(fields["elbows"]),
        wrists=_pair(fields["wrists"]),
        hands=(left and _box(left), right and _box(right)),
    )


def _box(four: list[float]) -> Box:
    left, top, right, bottom = four
    return left, top, right, bottom


def _pair(two: list[list[float]]) -> Pair:
    left, right = two
    return _point(left), _point(right)


def _point(two: list[float]) -> Point:
    x, y = two
    return x, y


def fault_kind(error: BaseException) -> str:
    """Why a window has no answer, in a word."""
    if isinstance(error, Replaced):
        return _REPLACED
    return error.kind if isinstance(error, RecognitionError) else RecognitionError.kind


def fault_from(kind: str) -> Exception:
    return Replaced() if kind == _REPLACED else _FAULTS[kind]()


# What a session is begun with, and asked


def bundle_fields(bundle: Bundle) -> tuple[Fields, Rows]:
    """What a session needs of a bundle: no files."""
    space = bundle.space
    fields = {
        "name": bundle.name,
        "glosses": bundle.glosses,
        "encoder": dataclasses.asdict(bundle.encoder),
        "hop_s": bundle.hop_s,
        "idle": bundle.idle,
        "temperature": bundle.temperature,
        "threshold": bundle.threshold,
        "card": bundle.card,
        "space": {
            "id": space.id,
            "dim": space.dim,
            "temperature": space.temperature,
            "floor": space.floor,
        },
    }
    return fields, {"background": space.background}


def bundle_from(fields: Mapping[str, Any], rows: Rows) -> Bundle:
    return Bundle(
        **{
            **fields,
            "path": Path(),
            "head_path": None,
            "glosses": tuple(fields["glosses"]),
            "encoder": EncoderSpec(**fields["encoder"]),
            "space": EmbeddingSpace(background=rows["background"], **fields["space"]),
        }
    )


def offer_from(fields: Mapping[str, Any]) -> Offer:
    """Its counterpart is `dataclasses.asdict`."""
    return Offer(**{**fields, "codecs": tuple(fields["codecs"])})


def fragment_from(fields: Mapping[str, Any]) -> Fragment:
    """Its counterpart is `dataclasses.asdict`."""
    candidates = tuple(TrickleCandidate(**one) for one in fields["candidates"])
    return Fragment(**{**fields, "candidates": candidates})


def refusal_fields(error: Exception) -> Fields | None:
    """An exception that whoever asked is to get; None for a fault of ours."""
    if isinstance(error, OfferError):
        return {"kind": "OfferError", "text": str(error), "status": error.status}
    kind = type(error).__name__
    if kind not in _REFUSALS:
        return None
    return {"kind": kind, "text": str(error.args[0]) if error.args else "", "status": 0}


def refusal_from(fields: Mapping[str, Any]) -> Exception:
    if fields["kind"] == "OfferError":
        return OfferError(int(fields["status"]), str(fields["text"]))
    return _REFUSALS[fields["kind"]](str(fields["text"]))
