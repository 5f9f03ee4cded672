"""No skew between file and camera: the live path and `offline.predict` agree about a clip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from models.decoder import clip_probabilities
from models.recognizer import Recognizer
from models.schema import Frame, Prediction
from offline.data.videos import read_video
from offline.scoring.video_predictions import hold_ends
from streaming.app import serve
from streaming.settings import RecognizerSettings, ServerSettings, SessionSettings, Settings
from tests import clips
from tests.streaming.caller import Camera, calling

_BEFORE_S, _AFTER_S = 1.0, 1.5  # the first and the last picture are held so long


def playing(frames: list[Frame]) -> Callable[[int], np.ndarray[Any, Any]]:
    """A camera's picture at 30 a second: the clip's frame that stands at that moment."""
    times = [frame.media_s for frame in frames]

    def picture(n: int) -> np.ndarray[Any, Any]:
        at = int(np.searchsorted(times, n / 30 - _BEFORE_S + 1e-6, side="right")) - 1
        image = frames[max(0, at)].image
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        return np.ascontiguousarray(image[:height, :width])

    return picture


def from_message(message: dict[str, Any], glosses: tuple[str, ...]) -> Prediction:
    p = {one["gloss"]: one["p"] for one in message["top"]}
    return Prediction(
        stream="live",
        probabilities=np.array([p.get(gloss, 0) for gloss in glosses], np.float32),
        idle=message["idle"],
        attention=np.array(message["attention"], np.float32),
        start_s=message["window"]["start_s"],
        end_s=message["window"]["end_s"],
    )


def offline(chosen: list[clips.LabelledClip]) -> list[np.ndarray[Any, Any]]:
    recognizer = Recognizer.open(clips.HELD_OUT, "cpu")
    try:
        expected = []
        for clip in chosen:
            frames = hold_ends(clips.frames_of(clip.path, recognizer), _BEFORE_S, _AFTER_S)
            expected.append(clip_probabilities(clips.predictions(recognizer, frames)))
        return expected
    finally:
        recognizer.close()


async def test_the_live_path_agrees_with_the_file(data_dir: Path) -> None:
    """Same top gloss; probabilities apart by no more than VP8 and another frame phase explain."""
    chosen = clips.one_a_gloss(clips.held_out(data_dir))[:5]
    expected = offline(chosen)
    same, gaps = 0, []
    settings = Settings(
        server=ServerSettings(port=0),
        session=SessionSettings(loopback_ice=True, top_k=50),
        recognizer=RecognizerSettings(model=str(clips.HELD_OUT), device="cpu"),
    )
    async with serve(settings) as server, aiohttp.ClientSession() as http:
        glosses = server.bundle.glosses
        for clip, expected_p in zip(chosen, expected, strict=True):
            frames = list(read_video(clip.path, 480))
            length_s = _BEFORE_S + frames[-1].media_s + _AFTER_S
            async with calling(server.url, http, Camera(playing(frames))) as caller:
                predictions = await caller.wait_for("prediction")
                while predictions[-1]["window"]["end_s"] < length_s:
                    predictions = await caller.wait_for("prediction", len(predictions) + 1)
            live = clip_probabilities([from_message(one, glosses) for one in predictions])
            same += int(live.argmax() == expected_p.argmax())
            gaps.append(float(np.abs(live - expected_p).max()))
    assert same >= len(chosen) - 1, gaps
    assert float(np.median(gaps)) <= 0.15, gaps
