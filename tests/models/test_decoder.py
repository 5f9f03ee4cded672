"""Signs, not flicker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.decoder import (
    DecoderSettings,
    Movement,
    SignDecoder,
    clip_probabilities,
    top_candidates,
)
from models.schema import Prediction, Sign

GLOSSES = ("book", "drink", "help")


def window(end_s: float, idle: float, *p: float, resting: bool | None = None) -> Prediction:
    return Prediction(
        stream="a",
        probabilities=np.array(p, np.float32),
        idle=idle,
        attention=np.ones(1, np.float32),
        start_s=end_s - 2,
        end_s=end_s,
        resting=resting,
    )


def prediction(
    end_s: float, idle: float = 1.0, *, resting: bool | None = None, **p: float
) -> Prediction:
    return window(end_s, idle, *(p.get(gloss, 0.0) for gloss in GLOSSES), resting=resting)


def play(script: list[tuple[float, str | None]], hop_s: float = 0.1) -> list[Sign]:
    """The signs of predictions from (seconds, gloss) pieces, None for rest; flushed."""
    decoder = SignDecoder(GLOSSES)
    signs: list[Sign] = []
    now_s = 0.0
    for seconds, gloss in script:
        for _ in range(round(seconds / hop_s)):
            now_s += hop_s
            one = (
                prediction(now_s)
                if gloss is None
                else prediction(now_s, 0.1, resting=None, **{gloss: 0.9})
            )
            signs += decoder.update(one)
    return signs + decoder.flush()


def finals(signs: list[Sign]) -> list[str]:
    return [sign.gloss for sign in signs if sign.final]


def test_one_sign_is_sent_early_and_once() -> None:
    signs = play([(1, None), (1, "book"), (1, None)])
    assert finals(signs) == ["book"]
    assert {sign.id for sign in signs} == {1}
    assert not signs[0].final
    assert 0.9 < signs[0].start_s < 1.5
    assert 1.9 < signs[-1].end_s < 2.4


def test_a_flicker_is_no_sign() -> None:
    assert play([(1, None), (0.1, "book"), (1, None), (0.2, "drink"), (1, None)]) == []


def test_rest_is_no_sign() -> None:
    assert play([(30, None)]) == []


def test_a_true_repeat_is_kept() -> None:
    signs = play([(1, "book"), (0.8, None), (1, "book"), (1, None)])
    assert finals(signs) == ["book", "book"]
    assert len({sign.id for sign in signs}) == 2


def test_signs_that_follow_without_a_rest_are_two() -> None:
    assert finals(play([(2, "book"), (2, "drink"), (1, None)])) == ["book", "drink"]


@pytest.mark.parametrize("hop_s", [2 / 15, 4 / 15, 7 / 15])
def test_a_longer_hop_changes_when_signs_come_and_not_which(hop_s: float) -> None:
    script = [(2.0, None), (2.0, "book"), (2.0, None), (2.0, "drink"), (2.0, "help"), (2.0, None)]
    assert finals(play(script, hop_s)) == ["book", "drink", "help"]
    assert play([(2, None), (hop_s, "book"), (2, None)], hop_s) == [], "one window is no proof"


def test_an_early_guess_is_revised_under_the_same_id() -> None:
    signs = play([(1, None), (0.4, "book"), (1.2, "drink"), (1, None)])
    assert finals(signs) == ["drink"]
    assert signs[0].gloss == "book"
    assert {sign.id for sign in signs} == {1}


def test_the_end_of_the_stream_closes_the_sign() -> None:
    assert finals(play([(1, "help")])) == ["help"]


def test_a_gap_closes_the_sign_and_starts_over() -> None:
    decoder = SignDecoder(GLOSSES)
    for n in range(10):
        decoder.update(prediction(n / 10, 0.1, book=0.9))
    after = decoder.update(prediction(30.0))
    assert [(sign.gloss, sign.final) for sign in after] == [("book", True)]


def test_predictions_out_of_order_are_ignored() -> None:
    decoder = SignDecoder(GLOSSES)
    decoder.update(prediction(1.0))
    assert decoder.update(prediction(0.5, 0.0, book=1.0)) == []


@pytest.mark.parametrize("hop_s", [0.05, 0.1, 0.2])
def test_time_counts_not_the_number_of_predictions(hop_s: float) -> None:
    script = [(1.0, None), (1.0, "book"), (1.0, None)]
    sent = play(script, hop_s)
    assert finals(sent) == ["book"]
    assert sent[0].start_s == pytest.approx(1.2, abs=0.25)


def test_alternatives_are_the_next_likeliest() -> None:
    decoder = SignDecoder(GLOSSES)
    sent = [
        sign
        for n in range(9)
        for sign in decoder.update(prediction(n / 10, 0.1, book=0.6, help=0.3))
    ]
    assert [c.gloss for c in sent[0].alternatives] == ["help", "drink"]


def with_hands(script: Sequence[tuple[float, str | None, bool]]) -> list[tuple[float, Sign]]:
    """From (seconds, gloss in the windows, hands at rest) pieces: each sign and when it came."""
    decoder = SignDecoder(GLOSSES)
    sent: list[tuple[float, Sign]] = []
    now_s = 0.0
    for seconds, gloss, resting in script:
        for _ in range(round(seconds / 0.1)):
            now_s += 0.1
            p = {} if gloss is None else {gloss: 0.9}
            one = prediction(now_s, 1 - sum(p.values()), resting=resting, **p)
            sent += [(now_s, sign) for sign in decoder.update(one)]
    return sent + [(now_s, sign) for sign in decoder.flush()]


def test_a_sign_ends_as_the_hands_rest_though_windows_still_show_it() -> None:
    sent = with_hands([(1, None, True), (1, "book", False), (1.5, "book", True), (1, None, True)])
    assert [sign.gloss for _, sign in sent if sign.final] == ["book"]
    at_s, last = sent[-1]
    assert last.final and at_s == pytest.approx(2.1)
    assert last.end_s == pytest.approx(2.1)


def test_windows_that_still_show_a_closed_sign_open_no_other_as_the_hands_move_on() -> None:
    script = [(1, "book", False), (0.4, "book", True), (1.0, "book", False), (1.0, "drink", False)]
    assert finals([sign for _, sign in with_hands(script)]) == ["book", "drink"]


def test_a_repeat_after_rest_is_kept_once_the_first_has_faded() -> None:
    script = [
        (1, "book", False),
        (0.8, "book", True),
        (0.6, None, True),
        (1, "book", False),
        (0.3, "book", True),
    ]
    sent = with_hands(script)
    assert finals([sign for _, sign in sent]) == ["book", "book"]
    assert len({sign.id for _, sign in sent}) == 2


def test_a_sign_that_windows_show_only_at_rest_is_sent_once_and_final() -> None:
    sent = with_hands([(1, None, True), (1.5, "help", True), (1, None, True)])
    assert finals([sign for _, sign in sent]) == ["help"]
    assert sent[0][0] == sent[-1][0]


def movement(idle: float, **p: float) -> list[Sign]:
    """The signs of half a second of such windows, and of the rest that follows."""
    decoder = SignDecoder(GLOSSES)
    signs: list[Sign] = []
    for n in range(5):
        signs += decoder.update(prediction(n / 10, idle, resting=False, **p))
    for n in range(5, 20):
        signs += decoder.update(prediction(n / 10, resting=True))
    return signs + decoder.flush()


def test_a_movement_that_no_gloss_led_is_judged_as_a_whole_once_it_rests() -> None:
    (sign,) = movement(0.37, book=0.48, drink=0.15)
    assert (sign.gloss, sign.final, sign.start_s, sign.end_s) == ("book", True, 0.0, 0.5)
    assert 0.45 < sign.p < 0.5
    assert [c.gloss for c in sign.alternatives] == ["drink", "help"]


@pytest.mark.parametrize(
    ("idle", "p"),
    [(0.8, {"book": 0.2}), (0.1, {"book": 0.32, "drink": 0.3, "help": 0.28})],  # nothing; anything
)
def test_a_movement_without_a_clear_gloss_is_no_sign(idle: float, p: dict[str, float]) -> None:
    assert movement(idle, **p) == []


def test_a_movement_after_a_sign_is_not_judged_as_a_whole_while_windows_show_the_sign() -> None:
    decoder = SignDecoder(GLOSSES)
    signs: list[Sign] = []
    for n in range(8):
        signs += decoder.update(prediction(n / 10, 0.1, resting=n == 7, book=0.9))
    for n in range(8, 12):  # the hands go down
        signs += decoder.update(prediction(n / 10, 0.2, resting=n == 11, book=0.42, drink=0.38))
    assert finals(signs) == ["book"]


def test_another_gloss_is_not_delayed_by_the_one_just_closed() -> None:
    script = [(1, "book", False), (0.3, "book", True), (0.6, "drink", False), (0.3, "drink", True)]
    assert finals([sign for _, sign in with_hands(script)]) == ["book", "drink"]


@given(
    st.lists(
        st.tuples(
            st.floats(0.01, 0.5),
            st.sampled_from([None, *GLOSSES]),
            st.floats(0.3, 1.0),
            st.sampled_from([None, False, True]),
        ),
        max_size=80,
    )
)
def test_every_sign_ends_once_and_in_order(
    steps: list[tuple[float, str | None, float, bool | None]],
) -> None:
    decoder = SignDecoder(GLOSSES)
    signs: list[Sign] = []
    now_s = 0.0
    for dt_s, gloss, p, resting in steps:
        now_s += dt_s
        shown: dict[str, float] = {} if gloss is None else {gloss: p}
        signs += decoder.update(
            prediction(now_s, 1 - sum(shown.values()), resting=resting, **shown)
        )
    signs += decoder.flush()
    ends = [sign.id for sign in signs if sign.final]
    assert ends == sorted(set(ends)) == sorted({sign.id for sign in signs})
    assert all(sign.start_s <= sign.end_s for sign in signs)


def test_candidates_come_likeliest_first() -> None:
    ranked = top_candidates(GLOSSES, np.array([0.2, 0.5, 0.3], np.float32), 2)
    assert [c.gloss for c in ranked] == ["drink", "help"]


def test_a_clip_is_judged_by_the_windows_in_which_someone_signs() -> None:
    rest = [prediction(n / 10, 0.98, book=0.02) for n in range(20)]
    signing = [prediction(2 + n / 10, 0.1, drink=0.6, book=0.3) for n in range(5)]
    p = clip_probabilities(rest + signing)
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert GLOSSES[int(p.argmax())] == "drink"
    with pytest.raises(ValueError, match="window"):
        clip_probabilities([])


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold": 0.0},
        {"threshold": 1.1},
        {"whole": 0.0},
        {"hold_s": -1},
        {"alternatives": -1},
    ],
)
def test_settings_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        DecoderSettings(**bad)  # type: ignore[arg-type]


def together(*windows: Prediction) -> Movement:
    movement = Movement(2)
    for one in windows:
        movement.add(one)
    return movement


def test_a_movement_is_the_geometric_mean_of_windows_given_that_someone_signs() -> None:
    movement = together(window(1.0, 0.2, 0.72, 0.08), window(1.1, 0.2, 0.4, 0.4))
    assert movement.probabilities == pytest.approx([0.75, 0.25], abs=0.01)
    assert movement.signing == pytest.approx(0.8)
    assert movement.start_s == 1.0


def test_windows_without_signing_hardly_count() -> None:
    signing, still = window(1.0, 0.1, 0.1, 0.8), [window(1 + n, 0.99, 0.01, 0.0) for n in range(9)]
    movement = together(signing, *still)
    assert movement.probabilities.argmax() == 1
    assert movement.signing == pytest.approx(0.9)


def test_one_window_rules_no_gloss_out() -> None:
    movement = together(window(1.0, 0.0, 1.0, 0.0), *[window(1.1, 0.0, 0.1, 0.9)] * 5)
    assert movement.probabilities.argmax() == 1


def test_windows_that_agree_are_as_sure_among_2000_glosses_as_among_2() -> None:
    few, many = Movement(2), Movement(2000)
    for end_s in (1.0, 1.1, 1.2):
        few.add(window(end_s, 0.1, 0.88, 0.02))
        many.add(window(end_s, 0.1, 0.88, 0.02, *[0.0] * 1998))
    assert many.probabilities[0] == pytest.approx(few.probabilities[0], abs=0.02)
    assert many.probabilities.sum() == pytest.approx(1)


def test_a_movement_needs_a_window() -> None:
    movement = Movement(2)
    assert not movement
    with pytest.raises(ValueError, match="window"):
        _ = movement.probabilities
