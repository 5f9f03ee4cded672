"""Messages <-> JSON, strictly."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.schema import Candidate, Prediction, Seen, Sign, Signer
from streaming.messages import (
    Bye,
    Clear,
    ClientMessage,
    ErrorMessage,
    Hint,
    MessageError,
    Ping,
    Pong,
    SettingsChange,
    Stats,
    TakeStart,
    encode,
    parse,
    prediction_message,
    to_sign_message,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"settings","threshold":0.4,"top_k":3}', SettingsChange(0.4, 3)),
        ('{"type":"settings"}', SettingsChange(None, None)),
        ('{"type":"settings","threshold":1,"top_k":3.0}', SettingsChange(1.0, 3)),
        ('{"type":"settings","threshold":null}', SettingsChange(None, None)),
        ('{"type":"take","id":"mine"}', TakeStart("mine")),
        ('{"type":"ping","t":12.5}', Ping(12.5)),
        ('{"type":"clear"}', Clear()),
        ('{"type":"bye"}', Bye()),
    ],
)
def test_client_messages_are_read(text: str, message: ClientMessage) -> None:
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
        ('{"type":"settings","threshold":NaN}', "not-json"),
        ('{"type":"settings","threshold":true}', "bad-field"),
        ('{"type":"settings","threshold":"0.5"}', "bad-field"),
        ('{"type":"settings","top_k":2.5}', "bad-field"),
        ('{"type":"settings","top_k":1e9}', "bad-field"),
        ('{"type":"settings","top_k":0}', "bad-field"),
        ('{"type":"settings","top_k":51}', "bad-field"),
        ('{"type":"take"}', "bad-field"),
        ('{"type":"take","id":""}', "bad-field"),
        ('{"type":"take","id":"' + 41 * "x" + '"}', "bad-field"),
        ('{"type":"ping"}', "bad-field"),
        ('{"type":"ping","t":1e999}', "bad-field"),
        ('{"type":"ping","t":' + 4000 * "9" + "}", "bad-field"),
        ('{"type":"\\ud800"}', "not-json"),
        ('{"type":"clear","\\udfff":1}', "not-json"),
        (4000 * "[", "not-json"),
    ],
)
def test_bad_client_messages_are_errors(data: str | bytes, code: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse(data)
    assert caught.value.code == code
    assert len(str(caught.value)) < 200


@given(st.text() | st.binary())
def test_anything_else_is_an_error_never_a_fault(data: str | bytes) -> None:
    with pytest.raises(MessageError):
        parse(data)


PREDICTION = Prediction(
    stream="a",
    probabilities=np.array([0.1, 0.7, 0.05], np.float32),
    idle=np.float64(0.15),  # as NumPy code may leave it
    attention=np.full(4, 0.25, np.float32),
    start_s=1.0,
    end_s=3.0,
)


def test_a_prediction_is_compact_json_with_the_contract_s_fields() -> None:
    message = prediction_message(
        PREDICTION,
        ["book", "drink", "help"],
        seq=7,
        top_k=2,
        rtp_end=2**32 - 1,
        latency_ms={"total": 31.26, "encode": 20.0},
        dropped={"frames": 1, "windows": 0},
    )
    assert json.loads(encode(message)) == {
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
    face=((0.5, 0.23456),),
    joints=((), ((0.1, 0.2), (0.3, 0.45678), (0.2, float("inf")))),
)


@pytest.mark.parametrize(
    ("seen", "expected"),
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
                    "face": [[0.5, 0.235]],
                    "joints": [None, base64.b64encode(bytes([0, 0, 255, 255, 128, 255])).decode()],
                }
            },
        ),
    ],
)
def test_the_signer_is_sent_in_bounds(seen: Seen | None, expected: dict[str, object]) -> None:
    message = prediction_message(
        replace(PREDICTION, seen=seen), "abc", seq=1, top_k=1, rtp_end=0, latency_ms={}, dropped={}
    )
    sent = json.loads(encode(message))
    assert {name: value for name, value in sent.items() if name == "seen"} == expected


def test_a_hint_names_the_edge() -> None:
    assert json.loads(encode(Hint("hands-out", "Move back.", "bottom"))) == {
        "type": "hint",
        "code": "hands-out",
        "text": "Move back.",
        "edge": "bottom",
    }


def test_a_sign_is_sent_in_full() -> None:
    sign = Sign(
        id=3,
        gloss="thank you",
        p=0.81234,
        alternatives=(Candidate(gloss="please", p=0.1),),
        start_s=1.23456,
        end_s=2.0,
        final=True,
    )
    assert json.loads(encode(to_sign_message(sign))) == {
        "type": "sign",
        "id": 3,
        "gloss": "thank you",
        "p": 0.8123,
        "alternatives": [{"gloss": "please", "p": 0.1}],
        "start_s": 1.235,
        "end_s": 2.0,
        "final": True,
    }


@pytest.mark.parametrize("p", [float("nan"), float("inf")])
def test_only_numbers_that_json_knows_are_sent(p: float) -> None:
    with pytest.raises(ValueError):
        encode(Stats(p, 0, 0, 0, 0, 0.1, 0.0))


def test_messages_are_compact_and_in_the_order_of_their_fields() -> None:
    assert encode(Pong(1.0)) == '{"type":"pong","t":1.0}'
    assert encode(ErrorMessage("a", "naïve")) == '{"type":"error","code":"a","message":"naïve"}'
