"""Where the demo's pictures come from: widgets that feed the visitor's stream, or read a file."""

from __future__ import annotations

import av
import streamlit as st
from streamlit_webrtc import WebRtcMode, webrtc_streamer

from models.schema import Prediction
from offline.data.videos import VideoError
from web import drawing, video_file
from web.engine import DemoEngine
from web.live import Live
from web.network_camera import NetworkCamera

_READER = "network camera"  # in the session's state
_READ = "read"


def camera(engine: DemoEngine, live: Live, pictures: bool) -> bool:
    """The visitor's own camera; True while it plays."""

    def show(picture: av.VideoFrame) -> av.VideoFrame:
        live.show(picture)
        return picture

    width, height = engine.bundle.encoder.camera_size
    video = {
        "width": {"ideal": width},
        "height": {"ideal": height},
        "frameRate": {"ideal": engine.bundle.encoder.fps},
    }
    hidden = {} if pictures else {"visibility": "hidden", "height": "1px"}
    context = webrtc_streamer(
        key="camera",
        mode=WebRtcMode.SENDRECV,  # the picture comes back: without it the component shows none
        rtc_configuration={"iceServers": []},  # no STUN server is contacted
        media_stream_constraints={"video": video, "audio": False},
        video_frame_callback=show,
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
    """A camera in the network; True while it is read."""
    with st.form("network-camera", border=False):
        url = st.text_input(
            "Address of the camera", placeholder="rtsp://name:password@camera/video"
        )
        called = st.form_submit_button("Read this camera")
    if called:
        hang_up()
        try:
            st.session_state[_READER] = NetworkCamera(url, live.show, live.pause)
        except ValueError as error:
            st.error(drawing.plain(error))
    reader = reading()
    if reader is None:
        st.markdown("This server calls the camera. The address stays here.")
        return False
    if reader.reading:
        st.button("Stop reading", on_click=hang_up)
    return True


def upload(engine: DemoEngine) -> list[Prediction]:
    """What the recogniser says of the visitor's file; nothing while there is none."""
    sent = st.file_uploader(
        f"A video of one sign or a few, of at most {video_file.MAX_S:.0f} seconds",
        type=video_file.TYPES,
        max_upload_size=video_file.MAX_MB,
        help="It is on this server's disk only while it is read.",
    )
    if sent is None:
        st.session_state.pop(_READ, None)
        return []
    id, predictions = st.session_state.get(_READ, ("", []))
    if id != sent.file_id:
        st.session_state.pop(_READ, None)
        bar = st.progress(0.0, "Looking at the video …")

        def progress(seconds: float) -> None:
            bar.progress(min(1.0, seconds / video_file.MAX_S), f"{seconds:.0f} seconds read …")

        try:
            predictions = video_file.read_upload(engine, sent.name, sent.getvalue(), progress)
        except VideoError as error:
            st.error(drawing.plain(error))
            return []
        finally:
            bar.empty()
        st.session_state[_READ] = (sent.file_id, predictions)
    return list(predictions)


def reading() -> NetworkCamera | None:
    """The camera in the network that this visitor asked for."""
    reader: NetworkCamera | None = st.session_state.get(_READER)
    return reader


def hang_up() -> None:
    """Stop the camera in the network, if there is one."""
    reader: NetworkCamera | None = st.session_state.pop(_READER, None)
    if reader is not None:
        reader.stop()
