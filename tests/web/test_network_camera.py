"""Network cameras, played by a real HTTP server on the loopback, and addresses that are none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streaming.bench.standin import StandIn
from tests.offline.clips import write_clip
from tests.web.rtsp import rtsp_camera
from tests.web.test_live import PATIENT_S, final_glosses, until
from web import network_camera
from web.engine import DemoEngine
from web.network_camera import NetworkCamera

FPS = 30
Serve = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def served(serve: Serve) -> Iterator[str]:
    """An HTTP server that answers every request with `serve`; its address without the scheme."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                serve(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def levels(*shown: int) -> Serve:
    """A camera that shows each level for a second, as motion JPEG, and ends."""

    def serve(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        began_s = time.monotonic()
        for number, level in enumerate(np.repeat(shown, FPS)):
            time.sleep(max(0.0, began_s + number / FPS - time.monotonic()))  # a camera's own pace
            jpeg = cv2.imencode(".jpg", np.full((240, 320, 3), level, np.uint8))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            request.wfile.write(head.encode() + jpeg + b"\r\n")

    return serve


def answering(status: int, kind: str = "text/plain", body: bytes = b"") -> Serve:
    def serve(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return serve


class Pictures:
    """Notes when each picture came; refuses more after `enough`."""

    def __init__(self, enough: int = 10**9) -> None:
        self.arrivals_s: list[float] = []
        self.pauses = 0
        self._enough = enough

    def add(self, picture: Any) -> bool:
        self.arrivals_s.append(time.monotonic())
        return len(self.arrivals_s) < self._enough

    def pause(self) -> None:
        self.pauses += 1


def given_up(url: str) -> str:
    """The last status of a camera at `url` that must not give a single picture."""
    pictures = Pictures()
    camera = NetworkCamera(url, pictures.add, pictures.pause)
    until(lambda: not camera.reading)
    assert pictures.arrivals_s == []
    return camera.status


def test_an_http_camera_is_read() -> None:
    engine = DemoEngine(StandIn)
    try:
        live = engine.open_live()
        with served(levels(128, 250, 128, 10, 128)) as host:
            camera = NetworkCamera(f"http://{host}/video", live.add_picture, live.pause)
            until(lambda: final_glosses(live) == ["bright", "dark"])
            assert camera.reading and camera.status == "Reading 127.0.0.1."
            camera.stop()
            assert not camera.reading
        assert live.display.state().prediction is None
    finally:
        engine.close()


def test_an_rtsp_camera_is_read() -> None:
    engine = DemoEngine(StandIn)
    try:
        live = engine.open_live()
        with rtsp_camera(128, 250, 128, 10, 128, 128) as url:
            camera = NetworkCamera(url, live.add_picture, live.pause)
            until(lambda: final_glosses(live) == ["bright", "dark"])
            assert camera.status == "Reading 127.0.0.1."
            camera.stop()
    finally:
        engine.close()


def test_a_camera_that_stops_is_reconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_camera, "_PAUSE_S", 0.05)
    calls = []

    def serve(request: BaseHTTPRequestHandler) -> None:
        calls.append(request.path)
        levels(128)(request)

    pictures = Pictures()
    with served(serve) as host:
        camera = NetworkCamera(f"http://{host}/video", pictures.add, pictures.pause)
        until(lambda: len(calls) == 2 and len(pictures.arrivals_s) > FPS)
    until(lambda: not camera.reading)  # the server is gone: it is given up in the end
    assert pictures.pauses >= 2
    assert camera.status == "127.0.0.1 refuses the connection. Is the port right?"


def test_a_file_that_comes_at_once_is_shown_at_its_own_pace(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", 30, fps=30)
    pictures = Pictures(enough=30)
    with served(answering(200, "video/x-matroska", clip.read_bytes())) as host:
        camera = NetworkCamera(f"http://{host}/a.mkv", pictures.add, pictures.pause)
        until(lambda: not camera.reading)
    assert len(pictures.arrivals_s) == 30
    assert pictures.arrivals_s[-1] - pictures.arrivals_s[0] > 0.8  # of 29/30 s


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (answering(401), "asks for a login"),
        (answering(404), "has no video at that address"),
        (answering(200, "text/html", b"<h1>A camera's settings</h1>"), "No video could be read"),
    ],
)
def test_an_error_is_a_sentence_without_the_password(serve: Serve, words: str) -> None:
    with served(serve) as host:
        status = given_up(f"http://ada:secret@{host}/video")
    assert words in status
    assert "secret" not in status and "ada" not in status


def test_a_camera_that_never_replies_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_camera, "_REPLY_S", 0.5)
    leave = threading.Event()

    def serve(request: BaseHTTPRequestHandler) -> None:
        leave.wait(PATIENT_S)

    with served(serve) as host:
        assert "did not answer" in given_up(f"http://{host}/video")
        leave.set()


def test_a_playlist_does_not_lead_to_files_of_this_machine(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "private.ts", 30, format="mpegts")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    kind = "application/vnd.apple.mpegurl"
    with served(answering(200, kind, playlist.encode())) as host:
        assert "No video could be read" in given_up(f"http://{host}/list.m3u8")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/etc/passwd",
        "file:///etc/passwd",
        "concat:a|b",
        "http://",
        "http://a:99999/",
        "http://a b/",
    ],
)
def test_an_address_that_is_no_cameras_is_refused(url: str) -> None:
    pictures = Pictures()
    with pytest.raises(ValueError, match="address") as caught:
        NetworkCamera(url, pictures.add, pictures.pause)
    assert str(caught.value).endswith(".")
