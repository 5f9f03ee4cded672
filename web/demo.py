"""The demo in Streamlit: signs in a camera, a video file or a network camera, read by one model.

    streamlit run web/demo.py
    streamlit run web/demo.py -- --model bundles/mine

    sources -> live -> engine -> live -> drawing -> [page]

The script runs again with each click; a fragment draws a stream's state several times a second.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from models.bundle import Bundle
from models.command_line import read_command_line
from models.decoder import DecoderSettings, Movement, top_candidates
from models.fusion import open_recognizer
from models.schema import Prediction
from offline.scoring.video_predictions import signs_of
from streaming.settings import RecognizerSettings
from streaming.webrtc.ice import gather_loopback
from web import drawing, sources
from web.engine import DemoEngine
from web.known_signs import KnownSigns
from web.live import Live

_DRAW_S = 0.25  # between two drawings
_FRESH_S = 3.0  # how long a sign is shown once it has ended
_COLUMNS = 3  # of themes
_MOMENTS = 32  # of a file, in its strip
_SILENT_S = 3.0  # without a picture: something is wrong
_CAMERA, _FILE, _NETWORK = "Camera", "Video file", "Network camera"
_ABOUT = (
    "**Guesses, not a translation.** Each word is a gloss: a label for one sign of American Sign "
    "Language, guessed by a model that is often wrong. Do not rely on it in medical or legal "
    "matters. Video goes to this server and nowhere else, and is not kept."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """Options after `--` on the command line."""

    model: str = "builtin"  # a bundle's folder, or builtin
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    loopback_ice: bool = False  # media over 127.0.0.1 only


@st.cache_resource(show_spinner="Opening the model …")
def _open_engine(settings: DemoSettings) -> DemoEngine:
    """The recogniser of all visitors."""
    if settings.loopback_ice:
        gather_loopback()
    most = RecognizerSettings().max_new_frames
    return DemoEngine(lambda: open_recognizer(settings.model, settings.device, max_new_frames=most))


@st.cache_resource(show_spinner=False, scope="session", on_release=Live.close)
def _open_live(_engine: DemoEngine) -> Live:
    """This visitor's stream."""
    return _engine.open_live()


def _page() -> None:
    st.set_page_config(page_title="livegloss demo", page_icon="🖐", layout="wide")
    st.html(Path(__file__).with_suffix(".css"))
    st.title("Sign, and read which sign it was")
    st.markdown(_ABOUT)
    settings = read_command_line(
        DemoSettings, prog="streamlit run web/demo.py --", description=__doc__
    )
    try:
        engine = _open_engine(settings)
    except (ValueError, OSError) as error:
        st.error(f"The model can't be opened. {drawing.plain(error)}")
        st.stop()
    if not engine.bundle.glosses:
        st.error("This model knows no sign yet. Serve it with `make run`, and teach it there.")
        st.stop()
    live = _open_live(engine)
    left, right = st.columns(2, gap="large")
    with left:
        source = st.segmented_control(
            "Video from", [_CAMERA, _FILE, _NETWORK], default=_CAMERA, required=True
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
        if source != _NETWORK:
            sources.stop_network_camera()
        if source == _FILE:
            predictions = sources.video_file(engine)
            with right:
                _draw_file(engine.bundle, predictions, threshold / 100)
        else:
            pictures = st.toggle("Show pictures", value=st.query_params.get("pictures") != "off")
            if source == _CAMERA:
                playing = sources.own_camera(engine, live, pictures)
            else:
                playing = sources.network_camera(live)
                if playing and pictures:
                    st.fragment(_draw_picture, run_every=_DRAW_S)(live)
            with right:
                every = _DRAW_S if playing else None
                draw = st.fragment(_draw_live, run_every=every)
                draw(live, engine.bundle.encoder.window_s, pictures)
                st.button("Clear the list", on_click=live.clear_signs)
    st.fragment(_draw_signs)(KnownSigns(engine.bundle.glosses, engine.bundle.card))
    with st.expander("The model"):
        st.markdown(drawing.model_card(engine.bundle.card))


def _draw_signs(signs: KnownSigns) -> None:
    """The signs that the model knows: the surest first, a search, themes."""
    st.subheader(f"Signs it knows: {len(signs.glosses)}")
    if signs.surest:
        first = drawing.gloss_names(signs, signs.surest)
        st.markdown(f"**Try one of these first:** {first}.")
    sought = "" if signs.few else st.text_input("Find a sign", max_chars=60)
    if weak := drawing.weak_signs(signs):
        st.markdown(weak)
    found = set(signs.find(sought))
    if not found:
        st.info(f"It does not know “{drawing.plain(sought)}”.")
    themes = {
        theme: here
        for theme, glosses in signs.groups.items()
        if (here := [gloss for gloss in glosses if gloss in found])
    }
    columns = st.columns(_COLUMNS)
    for place, (theme, glosses) in enumerate(themes.items()):
        names = drawing.gloss_names(signs, glosses)
        if theme:
            column = columns[_COLUMNS * place // len(themes)]
            column.expander(f"{theme} · {len(glosses)}", expanded=bool(sought)).markdown(names)
        else:
            st.markdown(names)


def _draw_picture(live: Live) -> None:
    """The newest picture of a stream."""
    if picture := drawing.live_picture(live.display.state().picture):
        st.html(picture)  # it takes no empty text


def _draw_live(live: Live, window_s: float, pictures: bool) -> None:
    """The state of a stream, now."""
    state = live.display.state()
    now_s = time.monotonic()
    camera = sources.current_network_camera()
    prediction = state.prediction
    newest = state.signs[-1] if state.signs and prediction else None
    if newest and prediction and newest["final"]:
        if prediction["window"]["end_s"] > newest["end_s"] + _FRESH_S:
            newest = None
    if prediction is None:
        st.html(drawing.no_sign("No pictures yet."))
    else:
        top, idle = prediction["top"], prediction["idle"]
        st.html(drawing.moment(newest, top, idle, "Not sure yet"))
        ends = f"{window_s:.1f} s ago", "now"
        shown = state.pictures if pictures else ()
        st.html(drawing.attention_strip(prediction["attention"], ends, shown))
        st.html(drawing.delay(state.delay_s(now_s), time.time() - now_s + state.captured_s))
    if state.notice:
        st.warning(state.notice)
    elif camera is not None:
        (st.info if camera.reading else st.error)(camera.status)
    elif prediction and now_s - state.arrival_s > _SILENT_S:
        st.warning("No pictures are coming. Is the camera still on?")
    st.html(drawing.history(state.signs))


def _draw_file(bundle: Bundle, predictions: list[Prediction], threshold: float) -> None:
    """The result for a whole file, by the code of `offline.predict`."""
    if not predictions:
        st.html(drawing.no_sign("Choose a video."))
        return
    signs = signs_of(bundle.glosses, predictions, DecoderSettings(threshold=threshold))
    messages = [sign.message() for sign in signs]
    surest = max(messages, key=lambda sign: sign["p"], default=None)
    whole = Movement(len(bundle.glosses))
    for prediction in predictions:
        whole.add(prediction)
    top = top_candidates(bundle.glosses, whole.probabilities * whole.signing, 5)
    shown = [one.message() for one in top]
    st.html(drawing.moment(surest, shown, 1 - whole.signing, "No sign was sure enough."))
    weights = drawing.file_attention(predictions, _MOMENTS)
    ends = drawing.clock(0), drawing.clock(predictions[-1].end_s)
    st.html(drawing.attention_strip(weights, ends))
    st.html(drawing.history(messages))


if __name__ == "__main__":
    _page()
