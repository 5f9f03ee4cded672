"""The demo in Streamlit: a camera, a video file or a camera in the network, read by the same code.

    streamlit run web/demo.py
    streamlit run web/demo.py -- --model bundles/mine

camera -> live -> engine -> display -> drawing -> this page. The script runs anew with each click;
what is shown of a stream is drawn by a fragment several times a second.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import streamlit as st

from models.bundle import Bundle
from models.decoder import (
    DecoderSettings,
    candidate_messages,
    candidates,
    clip_probabilities,
    sign_message,
)
from models.fusion import open_recognizer
from models.schema import Prediction
from offline.scoring.video_predictions import signs_of
from streaming.settings import RecognizerSettings
from streaming.webrtc.ice import gather_loopback
from web import drawing, sources, video_file
from web.engine import DemoEngine
from web.live import Live

DRAW_S = 0.25  # between two drawings
FRESH_S = 3.0  # how long a sign stands once it has ended
MOMENTS = 32  # of a file, in its strip
SILENT_S = 3.0  # without a picture: something is wrong
CAMERA, FILE, NETWORK = "Camera", "Video file", "Network camera"
HONEST = (
    "**Guesses, not a translation.** Each word is a gloss: a label for one sign of American Sign "
    "Language, guessed by a model that is often wrong. Do not rely on it in medical or legal "
    "matters. Video goes to this server and nowhere else, and is not kept."
)


@st.cache_resource(show_spinner="Opening the model …")
def open_engine(model: str, device: str, loopback_ice: bool) -> DemoEngine:
    """The recogniser of all visitors."""
    if loopback_ice:
        gather_loopback()
    most = RecognizerSettings().max_new_frames
    return DemoEngine(lambda: open_recognizer(model, device, max_new_frames=most))


@st.cache_resource(show_spinner=False, scope="session", on_release=Live.close)
def open_live(_engine: DemoEngine) -> Live:
    """This visitor's stream."""
    return _engine.open_live()


def page() -> None:
    st.set_page_config(page_title="livegloss demo", page_icon="🖐", layout="wide")
    st.html(Path(__file__).with_suffix(".css"))
    st.title("Sign, and read which sign it was")
    st.markdown(HONEST)
    given = options()
    try:
        engine = open_engine(given.model, given.device, given.loopback_ice)
    except (ValueError, OSError) as error:
        st.error(f"The model can't be opened. {drawing.plain(error)}")
        st.stop()
    if not engine.bundle.glosses:
        st.error("This model knows no sign yet. Serve it with `make run`, and teach it there.")
        st.stop()
    live = open_live(engine)
    left, right = st.columns(2, gap="large")
    with left:
        source = st.segmented_control(
            "What to look at", [CAMERA, FILE, NETWORK], default=CAMERA, required=True
        )
        threshold = st.slider(
            "How sure a sign must be",
            min_value=5,
            max_value=95,
            value=round(100 * engine.bundle.threshold),
            format="%d %%",
            help="Lower shows more signs and more wrong ones. Higher shows fewer.",
        )
        live.set_threshold(threshold / 100)
        if source != NETWORK:
            sources.hang_up()
        if source == FILE:
            predictions = sources.upload(engine)
            with right:
                draw_file(engine.bundle, predictions, threshold / 100)
        else:
            pictures = st.toggle("Show pictures", value=st.query_params.get("pictures") != "off")
            camera = source == CAMERA
            going = (
                sources.camera(engine, live, pictures) if camera else sources.network_camera(live)
            )
            with right:
                every = DRAW_S if going else None
                st.fragment(draw, run_every=every)(live, engine.bundle.encoder.window_s, pictures)
                st.button("Clear the list", on_click=live.forget_signs)
    with st.expander("The model"):
        st.markdown(drawing.markdown(engine.bundle.card, engine.bundle.glosses))


def options() -> argparse.Namespace:
    """What stands after `--` on the command line."""
    flags = argparse.ArgumentParser(prog="streamlit run web/demo.py --", description=__doc__)
    flags.add_argument("--model", default="builtin", help="a bundle's folder, or builtin")
    flags.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    flags.add_argument("--loopback-ice", action="store_true", help="media over 127.0.0.1 only")
    return flags.parse_args()


def draw(live: Live, window_s: float, pictures: bool) -> None:
    """What there is to show of a stream, now."""
    seen = live.display.look()
    now_s = time.monotonic()
    reader = sources.reading()
    said = seen.prediction
    newest = seen.signs[-1] if seen.signs and said else None
    if newest and said and newest["final"] and said["window"]["end_s"] > newest["end_s"] + FRESH_S:
        newest = None
    st.html(drawing.sign(newest, "No sign yet." if said else "No pictures yet."))
    if said:
        st.html(drawing.candidates(said["top"], said["idle"]))
        ends = f"{window_s:.1f} s ago", "now"
        st.html(drawing.attention(said["attention"], ends, seen.pictures if pictures else ()))
        unix_s = time.time() - now_s + seen.captured_s
        st.html(drawing.delay(seen.delay_s(now_s), unix_s))
    if seen.words:
        st.warning(seen.words)
    elif reader is not None:
        (st.info if reader.reading else st.error)(reader.words)
    elif said and now_s - seen.came_s > SILENT_S:
        st.warning("No pictures are coming. Is the camera still on?")
    st.html(drawing.history(seen.signs))


def draw_file(bundle: Bundle, predictions: list[Prediction], threshold: float) -> None:
    """What a whole file shows, by the code of `offline.predict`."""
    if not predictions:
        st.html(drawing.sign(None, "Choose a video."))
        return
    signs = signs_of(bundle.glosses, predictions, DecoderSettings(threshold=threshold))
    messages = [sign_message(sign) for sign in signs]
    surest = max(messages, key=lambda sign: sign["p"], default=None)
    st.html(drawing.sign(surest, "No sign was sure enough."))
    top = candidates(bundle.glosses, clip_probabilities(predictions), 5)
    least = min(one.idle for one in predictions)
    st.html(drawing.candidates(candidate_messages(top), least))
    weights = video_file.attention_over(predictions, MOMENTS)
    ends = drawing.clock(0), drawing.clock(predictions[-1].end_s)
    st.html(drawing.attention(weights, ends))
    st.html(drawing.history(messages))


if __name__ == "__main__":
    page()
