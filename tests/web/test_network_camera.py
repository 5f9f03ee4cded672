"""Cameras in the network, played by a real HTTP server on the loopback; and what is none."""

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
from tests.web.test_live import PATIENT_S, told, until
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


class Taker:
    """Takes pictures and remembers when each came; after `enough` it wants no more."""

    def __init__(self, enough: int = 10**9) -> None:
        self.came_s: list[float] = []
        self.pauses = 0
        self._enough = enough

    def show(self, picture: Any) -> bool:
        self.came_s.append(time.monotonic())
        return len(self.came_s) < self._enough

    def pause(self) -> None:
        self.pauses += 1


def given_up(url: str) -> str:
    """What a camera at `url` says in the end, which must be without a single picture."""
    taker = Taker()
    camera = NetworkCamera(url, taker.show, taker.pause)
    until(lambda: not camera.reading)
    assert taker.came_s == []
    return camera.words


def test_a_camera_is_read_like_any_other() -> None:
    engine = DemoEngine(StandIn)
    try:
        live = engine.open_live()
        with served(levels(128, 250, 128, 10, 128)) as host:
            camera = NetworkCamera(f"http://{host}/video", live.show, live.pause)
            until(lambda: told(live) == ["bright", "dark"])
            assert camera.reading and camera.words == "Reading 127.0.0.1."
            camera.stop()
            assert not camera.reading
        assert live.display.look().prediction is None
    finally:
        engine.close()


def test_an_rtsp_camera_is_read() -> None:
    engine = DemoEngine(StandIn)
    try:
        live = engine.open_live()
        with rtsp_camera(128, 250, 128, 10, 128, 128) as url:
            camera = NetworkCamera(url, live.show, live.pause)
            until(lambda: told(live) == ["bright", "dark"])
            assert camera.words == "Reading 127.0.0.1."
            camera.stop()
    finally:
        engine.close()


def test_a_camera_that_stops_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_camera, "_PAUSE_S", 0.05)
    calls = []

    def serve(request: BaseHTTPRequestHandler) -> None:
        calls.append(request.path)
        levels(128)(request)

    taker = Taker()
    with served(serve) as host:
        camera = NetworkCamera(f"http://{host}/video", taker.show, taker.pause)
        until(lambda: len(calls) == 2 and len(taker.came_s) > FPS)
    until(lambda: not camera.reading)  # the server is gone: it is given up in the end
    assert taker.pauses >= 2
    assert camera.words == "Nothing at 127.0.0.1 takes calls. Is the port right?"


def test_a_file_that_comes_at_once_is_shown_at_its_own_pace(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", 30, fps=30)
    taker = Taker(enough=30)
    with served(answering(200, "video/x-matroska", clip.read_bytes())) as host:
        camera = NetworkCamera(f"http://{host}/a.mkv", taker.show, taker.pause)
        until(lambda: not camera.reading)
    assert len(taker.came_s) == 30
    assert taker.came_s[-1] - taker.came_s[0] > 0.8  # of 29/30 s


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (answering(401), "asks who you are"),
        (answering(404), "has no video at that address"),
        (answering(200, "text/html", b"<h1>A camera's settings</h1>"), "No video could be read"),
    ],
)
def test_what_is_wrong_is_said_in_words_without_the_password(serve: Serve, words: str) -> None:
    with served(serve) as host:
        said = given_up(f"http://ada:secret@{host}/video")
    assert words in said
    assert "secret" not in said and "ada" not in said


def test_one_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_camera, "_ANSWER_S", 0.5)
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
def test_what_is_no_cameras_address_is_refused(url: str) -> None:
    taker = Taker()
    with pytest.raises(ValueError, match="address") as caught:
        NetworkCamera(url, taker.show, taker.pause)
    assert str(caught.value).endswith(".")
