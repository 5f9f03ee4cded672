"""The demo's streams without a browser: none waits for the recogniser, buffers keep bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
import pytest

from models.schema import Clip, Prediction
from streaming.bench.standin import StandIn
from streaming.settings import SessionSettings
from web.engine import DemoEngine
from web.live import HISTORY, Display, Live

FPS = 30
PATIENT_S = 30.0


def picture(number: int, level: int = 128) -> av.VideoFrame:
    """What aiortc hands over: the `number`th picture of a camera, times at 90 kHz."""
    frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), level, np.uint8), format="rgb24")
    frame.pts = number * 90_000 // FPS
    frame.time_base = Fraction(1, 90_000)
    return frame


def until(true: Callable[[], bool]) -> None:
    """Wait for what other threads do; fails when it does not come."""
    end_s = time.monotonic() + PATIENT_S
    while not true():
        assert time.monotonic() < end_s, "it never came"
        time.sleep(0.01)


class Held(StandIn):
    """A recogniser that blocks until `leave` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.leave = threading.Event(), threading.Event()

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]:
        self.entered.set()
        assert self.leave.wait(PATIENT_S)
        return super().recognise(clips)


@pytest.fixture
def core() -> StandIn:
    return StandIn()


@pytest.fixture
def engine(core: StandIn) -> Iterator[DemoEngine]:
    engine = DemoEngine(lambda: core)
    yield engine
    engine.close()
    assert not [t for t in threading.enumerate() if t.name in ("engine", "recognizer")]


def final_glosses(live: Live) -> list[str]:
    return [sign["gloss"] for sign in live.display.state().signs if sign["final"]]


def play(live: Live, levels: Sequence[int], start: int = 0) -> int:
    """A second of each level, each window predicted before the next picture; returns the end."""
    for number, level in enumerate(np.repeat(levels, FPS), start):
        assert live.add_picture(picture(number, int(level)))
        end_s = number / FPS
        if number % 3 == 0 and number > start:
            until(lambda end_s=end_s: _predicted_s(live) >= end_s - 0.15)  # type: ignore[misc]
    return start + len(levels) * FPS


def _predicted_s(live: Live) -> float:
    prediction = live.display.state().prediction
    return float(prediction["window"]["end_s"]) if prediction else -1.0


def test_a_stream_is_recognised_and_its_history_can_be_emptied(engine: DemoEngine) -> None:
    live = engine.open_live()
    at = play(live, [128, 250, 128, 10, 128])
    until(lambda: final_glosses(live) == ["bright", "dark"])
    state = live.display.state()
    assert state.prediction and len(state.prediction["attention"]) == 32
    assert 0 <= state.delay_s(time.monotonic()) < PATIENT_S
    assert {small.shape for small in state.pictures} == {(60, 80, 3)}
    assert 28 <= len(state.pictures) <= 33  # a window, and one for the rounding of its times
    live.clear_signs()
    assert final_glosses(live) == []
    play(live, [250, 128], at)
    until(lambda: final_glosses(live) == ["bright"])


def test_a_sign_under_way_when_the_list_is_emptied_does_not_come_back(engine: DemoEngine) -> None:
    live = engine.open_live()
    play(live, [128, 250])
    until(lambda: len(live.display.state().signs) == 1)
    live.clear_signs()
    live.pause()
    play(live, [128, 10, 128], 300)
    until(lambda: final_glosses(live) == ["dark"])


def test_the_threshold_moves_while_a_stream_plays(engine: DemoEngine) -> None:
    live = engine.open_live()
    live.set_threshold(0.95)  # the stand-in is never surer than 0.9
    at = play(live, [128, 250, 128])
    assert final_glosses(live) == []
    live.set_threshold(0.5)
    play(live, [250, 128], at)
    until(lambda: final_glosses(live) == ["bright"])


@pytest.mark.parametrize("core", [Held()])
def test_frames_never_wait_for_the_recogniser(engine: DemoEngine, core: Held) -> None:
    live = engine.open_live()
    live.add_picture(picture(0))
    assert core.entered.wait(PATIENT_S)
    began_s = time.monotonic()
    for number in range(1, 20 * FPS):  # twenty seconds of video while one window is being read
        assert live.add_picture(picture(number))
    assert not core.leave.is_set() and live.display.state().prediction is None
    assert time.monotonic() - began_s < 10
    buffers = {
        **live._pipeline.buffers(),
        "pictures": (len(live.display._pictures), 2 * engine.bundle.encoder.frames),
        "outbox_messages": (live._subscribers.fullest, SessionSettings().outbox),
    }
    for name, (count, bound) in buffers.items():
        assert count <= bound, name
    core.leave.set()
    until(lambda: _predicted_s(live) > 19)  # the newest window is next, not the oldest


def test_a_closed_stream_refuses_pictures_and_the_others_go_on(engine: DemoEngine) -> None:
    gone, live = engine.open_live(), engine.open_live()
    assert gone.add_picture(picture(0)) and live.add_picture(picture(0))
    gone.close()
    until(lambda: not gone.add_picture(picture(1)))
    play(live, [128, 250, 128])
    until(lambda: final_glosses(live) == ["bright"])


@pytest.mark.parametrize("core", [type("Broken", (StandIn,), {"recognise": lambda *_: 1 / 0})()])
def test_an_error_of_the_recogniser_is_shown(engine: DemoEngine) -> None:
    live = engine.open_live()
    live.add_picture(picture(0))
    until(lambda: "could not be read" in live.display.state().notice)


def test_an_engine_whose_model_is_missing_raises_at_once() -> None:
    def make() -> StandIn:
        raise OSError("no such bundle")

    with pytest.raises(OSError, match="no such bundle"):
        DemoEngine(make)


def test_pictures_without_times_are_timed_by_their_arrival(engine: DemoEngine) -> None:
    live = engine.open_live()
    began_s = time.monotonic()
    while _predicted_s(live) < 0.3:
        timeless = picture(0)
        timeless.pts = None
        live.add_picture(timeless)
    assert _predicted_s(live) <= time.monotonic() - began_s < PATIENT_S


def test_the_history_drops_its_oldest_sign() -> None:
    display = Display(32)
    for id in range(1, HISTORY + 6):
        display.receive({"type": "sign", "id": id, "gloss": str(id), "final": True})
    signs = display.state().signs
    assert len(signs) == HISTORY and signs[0]["gloss"] == "6"


def test_delays_before_a_picture_arrives_count() -> None:
    display = Display(32)
    display.arrived(0.0, 100.0)
    display.arrived(1.0, 101.5)  # half a second later than the first was
    display.receive({"type": "prediction", "window": {"start_s": -1.0, "end_s": 1.0}})
    assert display.state().delay_s(101.5) == pytest.approx(0.5)
