"""Opens a video file, and nothing but that file: it may come from anybody.

    path -> [video file] -> PyAV's container -> offline.data.videos, streaming.bench

FFmpeg also takes playlists (HLS, DASH, ffconcat), which name other files and addresses for it to
open, and names such as `http:…`, `concat:…` and `frame%03d.png`. None of these is a video file.
"""

from __future__ import annotations

import os

import av
import av.container

# FFmpeg's names of formats that hold video in one file.
_FORMATS = (
    "amv,apng,asf,av1,avi,dv,flv,gif,gxf,h261,h263,h264,hevc,ivf,live_flv,m4v,matroska,mjpeg,mov,"
    "mpeg,mpegts,mpegvideo,mxf,nsv,nut,nuv,obu,ogg,rm,swf,vc1,vvc,webm,wtv,yuv4mpegpipe"
)


def open_video_file(path: str | os.PathLike[str]) -> av.container.InputContainer:
    """The container of the video file at `path`.

    Raises:
        OSError, ValueError: it can't be opened, or is no video file (PyAV's errors).
    """
    # An absolute path can't be taken for an address.
    return av.open(
        os.path.abspath(path),
        options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
        metadata_errors="ignore",
    )
