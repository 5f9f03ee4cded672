"""What crosses a link is the same value at the other end, after a detour through JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from models.faults import DeviceLost, NotANumber, OutOfMemory, RecognitionError, Stuck
from models.lexicon import LexiconError, LexiconFull, SpaceMismatch
from models.schema import Prediction, Seen, Signer
from streaming.answering import Replaced
from streaming.audience import TooManyListeners
from streaming.sdp import Fragment, Offer, OfferError, TrickleCandidate
from streaming.standin import StandIn
from streaming.workers import wire

SIGNER = Signer(
    head=(0.1, 0.2, 0.3, 0.4),
    shoulders=((0.1, 0.5), (0.4, 0.5)),
    elbows=((0.0, 0.7), (0.5, 0.7)),
    wrists=((0.0, 0.9), (0.5, 1.2)),
    hands=(None, (0.4, 1.0, 0.6, 1.3)),
)


def through_json(fields: Any) -> Any:
    return json.loads(json.dumps(fields, allow_nan=False))


@pytest.mark.parametrize(
    "seen", [None, Seen(aspect=1.5, signer=None), Seen(aspect=0.75, signer=SIGNER)]
)
@pytest.mark.parametrize("embedding", [None, np.array([0.6, 0.8], np.float32)])
def test_predictions(seen: Seen | None, embedding: Any) -> None:
    said = Prediction(
        stream="0.a",
        probabilities=np.array([0.1, 0.2], np.float32),
        idle=0.7,
        attention=np.full(4, 0.25, np.float32),
        start_s=-0.1,
        end_s=2.0333333333333333,
        embedding=embedding,
        seen=seen,
        resting=None if seen is None else True,
        stages_s={"encode": 0.1},
    )
    fields, rows = wire.prediction_fields(said)
    back = wire.prediction_from(through_json(fields), rows)
    for field in dataclasses.fields(Prediction):
        np.testing.assert_equal(getattr(back, field.name), getattr(said, field.name))
    assert back.seen == seen


def test_bundles_without_their_files() -> None:
    bundle = StandIn().bundle
    fields, rows = wire.bundle_fields(bundle)
    back = wire.bundle_from(through_json(fields), rows)
    assert back == bundle
    np.testing.assert_array_equal(back.space.background, bundle.space.background)


@pytest.mark.parametrize(
    "fault", [RecognitionError, OutOfMemory, NotANumber, Stuck, DeviceLost, Replaced]
)
def test_why_there_is_no_answer(fault: type[Exception]) -> None:
    assert type(wire.fault_from(wire.fault_kind(fault()))) is fault


def test_a_fault_of_ours_is_one_that_the_signer_may_know() -> None:
    assert type(wire.fault_from(wire.fault_kind(RuntimeError("/secret")))) is RecognitionError


def test_offers_and_fragments() -> None:
    offer = Offer(
        sdp="v=0\r\n",
        video_mid="0",
        codecs=("VP8", "H264"),
        data=True,
        audio=False,
        ufrag="abcd",
        candidates=2,
    )
    candidate = TrickleCandidate(mid=None, line="candidate:1")
    fragment = Fragment(ufrag=None, candidates=(candidate,), end=True)
    assert wire.offer_from(through_json(dataclasses.asdict(offer))) == offer
    assert wire.fragment_from(through_json(dataclasses.asdict(fragment))) == fragment


@pytest.mark.parametrize(
    "error",
    [
        OfferError(422, "That codec is not known."),
        LexiconError("no"),
        LexiconFull("full"),
        SpaceMismatch("other"),
        TooManyListeners("4"),
        KeyError("hello"),
        wire.SessionLost(),
    ],
)
def test_refusals(error: Exception) -> None:
    fields = wire.refusal_fields(error)
    assert fields is not None
    back = wire.refusal_from(through_json(fields))
    assert type(back) is type(error) and str(back) == str(error)
    assert getattr(back, "status", None) == getattr(error, "status", None)


def test_what_is_nobody_s_business_stays_behind() -> None:
    assert wire.refusal_fields(RuntimeError("/secret")) is None
