"""GStreamer's webrtcbin as a WHIP sender: `/usr/bin/python3 gstreamer.py vp8|h264 URL`.

Without arguments: says what is missing here, with exit status 1. It runs in the system's Python,
which has GStreamer's bindings. The camera shows grey, white, grey and black in turn, 0.8 s each.
On SIGTERM it deletes its session. `WHIP_TOKEN` is the server's token.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import urllib.parse
import urllib.request
from itertools import cycle
from typing import Any

try:
    import gi  # type: ignore[import-not-found]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstWebRTC", "1.0")
    gi.require_version("GstSdp", "1.0")
    from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # type: ignore[import-not-found]
except (ImportError, ValueError) as error:
    sys.exit(f"GStreamer's Python bindings are missing: {error}")

_LEVEL_MS = 800
_LEVELS = (0xFF808080, 0xFFFFFFFF, 0xFF808080, 0xFF000000)
_CODECS = {
    "vp8": "vp8enc deadline=1 target-bitrate=500000 keyframe-max-dist=30 ! rtpvp8pay"
    " ! application/x-rtp,media=video,encoding-name=VP8,payload=96",
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30"
    " ! rtph264pay config-interval=-1 aggregate-mode=zero-latency"
    " ! application/x-rtp,media=video,encoding-name=H264,payload=96",
}
_TOKEN = {"Authorization": f"Bearer {os.environ.get('WHIP_TOKEN', '')}"}
_ELEMENTS = ("webrtcbin", "nicesrc", "dtlsenc", "srtpenc", "vp8enc", "x264enc", "rtph264pay")


class WhipSender:
    """Offers with all candidates at once, as webrtcbin's users do where nothing trickles."""

    def __init__(self, codec: str, url: str) -> None:
        self._url = url
        self._session = ""
        self._offered = False
        self._kept: list[Any] = []
        self._pipeline = Gst.parse_launch(
            "webrtcbin name=peer bundle-policy=max-bundle "
            "videotestsrc name=camera is-live=true pattern=solid-color"
            f" ! video/x-raw,width=320,height=240,framerate=30/1 ! videoconvert ! {_CODECS[codec]}"
            " ! peer."
        )
        self._loop = GLib.MainLoop()
        self._peer = self._pipeline.get_by_name("peer")
        # Left to itself, it gathers every address but this one. Its owner is to keep the agent.
        self._agent = self._peer.get_property("ice-agent")
        self._agent.emit("add-local-ip-address", "127.0.0.1")
        self._peer.connect("on-negotiation-needed", self._offer)
        self._peer.connect("notify::ice-gathering-state", self._gathered)

    def run(self) -> None:
        camera, levels = self._pipeline.get_by_name("camera"), cycle(_LEVELS)

        def show_next() -> bool:
            camera.set_property("foreground-color", next(levels))
            return True

        show_next()
        GLib.timeout_add(_LEVEL_MS, show_next)
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, self._loop.quit)
        self._pipeline.set_state(Gst.State.PLAYING)
        self._loop.run()
        self._pipeline.set_state(Gst.State.NULL)
        if self._session:
            delete = urllib.request.Request(self._session, headers=_TOKEN, method="DELETE")
            urllib.request.urlopen(delete)

    def _offer(self, peer: Any) -> None:
        peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self._describe))

    def _describe(self, promise: Any) -> None:
        reply = promise.get_reply()  # owns the offer, and frees it with itself
        text = reply.get_value("offer").sdp.as_text()
        self._set("local", GstWebRTC.WebRTCSDPType.OFFER, text)

    def _set(self, side: str, kind: Any, text: str) -> None:
        _, sdp = GstSdp.SDPMessage.new_from_text(text)
        description = GstWebRTC.WebRTCSessionDescription.new(kind, sdp)
        self._kept += [sdp, description]  # else Python and GStreamer both free them
        self._peer.emit(f"set-{side}-description", description, Gst.Promise.new())

    def _gathered(self, peer: Any, _: Any) -> None:
        complete = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        if peer.get_property("ice-gathering-state") == complete and not self._offered:
            self._offered = True
            threading.Thread(target=self._post, daemon=True).start()

    def _post(self) -> None:
        request = urllib.request.Request(
            self._url,
            data=self._peer.get_property("local-description").sdp.as_text().encode(),
            headers={"Content-Type": "application/sdp", **_TOKEN},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                self._session = urllib.parse.urljoin(response.url, response.headers["Location"])
                answer = response.read().decode()
        except urllib.error.HTTPError as error:
            print(error.code, error.read().decode(), file=sys.stderr)
            self._loop.quit()
            return
        self._set("remote", GstWebRTC.WebRTCSDPType.ANSWER, answer)


if __name__ == "__main__":
    Gst.init(None)
    if lacking := [name for name in _ELEMENTS if Gst.ElementFactory.find(name) is None]:
        sys.exit(f"GStreamer lacks {', '.join(lacking)}")
    if arguments := sys.argv[1:]:
        WhipSender(*arguments).run()
