"""The demo's widgets for its three sources: own camera, network camera, video file.

[sources] -> the visitor's live stream; a file's bytes -> [sources] -> predictions
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import streamlit as st
from streamlit_webrtc import WebRtcMode, webrtc_streamer

from models.schema import Prediction
from offline.data.videos import VideoError
from offline.scoring.video_predictions import read_predictions
from web.drawing import plain
from web.engine import DemoEngine
from web.live import Live
from web.network_camera import NetworkCamera

_MAX_MB = 50
_MAX_S = 60.0  # of video; the rest of a file is not read
_TYPES = ("mp4", "mov", "m4v", "webm", "mkv", "avi", "gif")
_CAMERA, _FILE = "network camera", "file"  # keys of the session's state


def own_camera(engine: DemoEngine, live: Live, pictures: bool) -> bool:
    """The camera of the visitor's computer. Returns True while it plays."""

    def on_picture(picture: av.VideoFrame) -> av.VideoFrame:
        live.add_picture(picture)
        return picture

    width, height = engine.bundle.encoder.camera_size
    ideal = {"width": width, "height": height, "frameRate": engine.bundle.encoder.fps}
    video = {name: {"ideal": value} for name, value in ideal.items()}
    hidden = {} if pictures else {"visibility": "hidden", "height": "1px"}
    context = webrtc_streamer(
        key="camera",
        mode=WebRtcMode.SENDRECV,  # the picture comes back: without it the component shows none
        rtc_configuration={"iceServers": []},  # no STUN server is contacted
        media_stream_constraints={"video": video, "audio": False},
        video_frame_callback=on_picture,
        on_video_ended=live.pause,
        video_html_attrs={
            "autoPlay": True,
            "muted": True,
            "style": {"width": "100%", "transform": "scaleX(-1)", **hidden},
        },
    )
    if not context.state.playing:
        st.markdown(
            "Press START and allow the camera. Keep your hands and face in the picture. "
            "A NotFoundError means that there is no camera, a NotAllowedError that the browser "
            "does not allow it."
        )
    return bool(context.state.playing)


def network_camera(live: Live) -> bool:
    """A camera in the network. Returns True while it is read."""
    with st.form("network-camera", border=False):
        example = "rtsp://name:password@camera/video"
        url = st.text_input("Address of the camera", placeholder=example)
        submitted = st.form_submit_button("Read this camera")
    if submitted:
        stop_network_camera()
        try:
            st.session_state[_CAMERA] = NetworkCamera(url, live.add_picture, live.pause)
        except ValueError as error:
            st.error(plain(error))
    camera = current_network_camera()
    if camera is None:
        st.markdown("This server connects to the camera. It gives the address to nobody else.")
        return False
    if camera.reading:
        st.button("Stop reading", on_click=stop_network_camera)
    return True


def current_network_camera() -> NetworkCamera | None:
    """The network camera that this visitor asked for."""
    camera: NetworkCamera | None = st.session_state.get(_CAMERA)
    return camera


def stop_network_camera() -> None:
    """Stop this visitor's network camera, if there is one."""
    camera: NetworkCamera | None = st.session_state.pop(_CAMERA, None)
    if camera is not None:
        camera.stop()


def video_file(engine: DemoEngine) -> list[Prediction]:
    """The predictions for the visitor's file; empty while there is none.

    Once a file is read, the uploader makes way for its name: a browser refuses some files without
    telling us, and the result of the one before would stay beside the refusal.
    """
    if _FILE not in st.session_state:
        upload = st.file_uploader(
            f"A video of one sign or a few, of at most {_MAX_S:.0f} seconds",
            type=_TYPES,
            max_upload_size=_MAX_MB,
            help="It is on this server's disk only while it is read.",
        )
        if upload is None:
            return []
        try:
            predictions = _read(engine, upload.name, upload.getvalue())
        except VideoError as error:
            st.error(plain(error))
            return []
        st.session_state[_FILE] = (upload.name, predictions)
        st.rerun()
    name, predictions = st.session_state[_FILE]
    st.markdown(plain(name))
    st.button("Read another video", on_click=lambda: st.session_state.pop(_FILE, None))
    return list(predictions)


def _read(engine: DemoEngine, name: str, content: bytes) -> list[Prediction]:
    """The predictions for the windows of the first `_MAX_S` seconds, with a progress bar.

    Raises:
        VideoError: it can't be read; the text is for the visitor.
    """
    predictions: list[Prediction] = []
    bar = st.progress(0.0, "Reading the video …")
    with tempfile.TemporaryDirectory(prefix="livegloss-") as folder:
        path = Path(folder) / "video"
        path.write_bytes(content)
        try:
            for prediction in read_predictions(engine, path, until_s=_MAX_S):
                predictions.append(prediction)
                seconds = prediction.end_s
                bar.progress(min(1.0, seconds / _MAX_S), f"{seconds:.0f} seconds read …")
        except VideoError as error:
            raise VideoError(str(error).replace(str(path), name)) from error
        finally:
            bar.empty()
    return predictions
