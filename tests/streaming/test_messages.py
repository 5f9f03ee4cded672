"""Messages <-> JSON, strictly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.schema import Candidate, Prediction, Seen, Sign, Signer
from streaming import messages
from streaming.hints import Hint
from streaming.messages import Bye, Clear, MessageError, Ping, SettingsChange, parse


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"settings","threshold":0.4,"top_k":3}', SettingsChange(0.4, 3)),
        ('{"type":"settings"}', SettingsChange(None, None)),
        ('{"type":"ping","t":12.5}', Ping(12.5)),
        ('{"type":"clear"}', Clear()),
        ('{"type":"bye"}', Bye()),
    ],
)
def test_what_a_page_says(text: str, message: messages.ClientMessage) -> None:
    assert parse(text) == message


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"type":"bye"}', "not-text"),
        ("", "not-json"),
        ("{", "not-json"),
        ("[" * 100_000, "not-json"),
        ("[]", "not-object"),
        ("null", "not-object"),
        ("{}", "unknown-type"),
        ('{"type":["bye"]}', "unknown-type"),
        ('{"type":"hello"}', "unknown-type"),
        ('{"type":"bye","more":1}', "unknown-field"),
        ('{"type":"settings","treshold":0.4}', "unknown-field"),
        ('{"type":"settings","threshold":0}', "bad-field"),
        ('{"type":"settings","threshold":NaN}', "bad-field"),
        ('{"type":"settings","threshold":true}', "bad-field"),
        ('{"type":"settings","threshold":"0.5"}', "bad-field"),
        ('{"type":"settings","top_k":2.5}', "bad-field"),
        ('{"type":"settings","top_k":1e9}', "bad-field"),
        ('{"type":"ping"}', "bad-field"),
        ('{"type":"ping","t":1e999}', "bad-field"),
    ],
)
def test_what_a_page_must_not_say(data: str | bytes, code: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse(data)
    assert caught.value.code == code
    assert len(str(caught.value)) < 200


@given(st.text() | st.binary())
def test_anything_else_is_an_error_never_a_fault(data: str | bytes) -> None:
    with pytest.raises(MessageError):
        parse(data)


def test_a_prediction_is_compact_json_with_the_contract_s_fields() -> None:
    said = Prediction(
        stream="a",
        probabilities=np.array([0.1, 0.7, 0.05], np.float32),
        idle=0.15,
        attention=np.full(4, 0.25, np.float32),
        start_s=1.0,
        end_s=3.0,
    )
    message = messages.prediction(
        said,
        ["book", "drink", "help"],
        seq=7,
        top_k=2,
        rtp_end=2**32 - 1,
        latency_ms={"total": 31.26, "encode": 20.0},
        dropped={"frames": 1, "windows": 0},
    )
    assert json.loads(messages.encode(message)) == {
        "type": "prediction",
        "seq": 7,
        "top": [{"gloss": "drink", "p": 0.7}, {"gloss": "book", "p": 0.1}],
        "idle": 0.15,
        "attention": [0.25] * 4,
        "window": {"start_s": 1.0, "end_s": 3.0},
        "rtp_end": 2**32 - 1,
        "latency_ms": {"total": 31.3, "encode": 20.0},
        "dropped": {"frames": 1, "windows": 0},
    }


SIGNER = Signer(
    head=(0.40004, 0.1, 0.6, 0.35),
    shoulders=((0.7, 0.5), (0.3, 0.5)),
    elbows=((0.8, 0.9), (0.2, 0.9)),
    wrists=((0.7, 123.0), (-7.0, float("inf"))),
    hands=(None, (0.1, 0.2, 0.3, 0.45678)),
)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (None, {}),
        (Seen(aspect=4 / 3, signer=None), {"seen": None}),
        (
            Seen(aspect=4 / 3, signer=SIGNER),
            {
                "seen": {
                    "head": [0.4, 0.1, 0.6, 0.35],
                    "shoulders": [[0.7, 0.5], [0.3, 0.5]],
                    "elbows": [[0.8, 0.9], [0.2, 0.9]],
                    "wrists": [[0.7, 2.0], [-1.0, 2.0]],
                    "hands": [None, [0.1, 0.2, 0.3, 0.457]],
                }
            },
        ),
    ],
)
def test_what_was_seen_is_told_in_bounds(seen: Seen | None, told: dict[str, object]) -> None:
    said = Prediction(
        stream="a",
        probabilities=np.array([0.4], np.float32),
        idle=0.6,
        attention=np.ones(1, np.float32),
        start_s=1.0,
        end_s=3.0,
        seen=seen,
    )
    message = messages.prediction(
        said, ["book"], seq=1, top_k=1, rtp_end=0, latency_ms={}, dropped={}
    )
    sent = json.loads(messages.encode(message))
    assert {name: value for name, value in sent.items() if name == "seen"} == told


def test_a_hint_names_the_edge() -> None:
    assert messages.hint(Hint("hands-out", "Move back.", "bottom")) == {
        "type": "hint",
        "code": "hands-out",
        "text": "Move back.",
        "edge": "bottom",
    }


def test_a_sign_is_told_in_full() -> None:
    sign = Sign(
        id=3,
        gloss="thank you",
        p=0.81234,
        alternatives=(Candidate(gloss="please", p=0.1),),
        start_s=1.23456,
        end_s=2.0,
        final=True,
    )
    assert json.loads(messages.encode(messages.sign(sign))) == {
        "type": "sign",
        "id": 3,
        "gloss": "thank you",
        "p": 0.8123,
        "alternatives": [{"gloss": "please", "p": 0.1}],
        "start_s": 1.235,
        "end_s": 2.0,
        "final": True,
    }


def test_what_is_not_a_number_never_leaves() -> None:
    with pytest.raises(ValueError):
        messages.encode({"type": "stats", "x": float("nan")})
    assert messages.stats({"x": float("inf"), "y": 1.0}) == {"type": "stats", "y": 1.0}
