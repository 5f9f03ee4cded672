"""The landmark encoder, for machines without a GPU: one row of landmarks a frame, on a CPU.

    clips -> [encoder]: new frames -> track -> rows (T, D), signer, hands at rest -> recogniser

MediaPipe's networks process each frame of a stream once; a `Track` per stream remembers where the
signer was. `layout.py` says what a row holds. Neither torch nor transformers is imported here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout, networks
from models.landmarks.detectors import BodyNetworks, HandNetworks
from models.landmarks.layout import at_rest
from models.landmarks.track import Track
from models.schema import Clip, Embedding, EncoderSpec, Frame, Seen

KIND = "landmarks"
SOURCE = "mediapipe"
# The wheel, and the version of our rows: rows of another revision mean something else.
REVISION = f"{networks.VERSION}+rows1"

_JUMP_S = 1.0  # a gap in media time after which the signer is searched in the whole picture


def landmark_spec(frames: int = 32, fps: float = 15.0) -> EncoderSpec:
    """The spec of this encoder for windows of `frames` ticks at `fps`."""
    return EncoderSpec(
        kind=KIND,
        source=SOURCE,
        revision=REVISION,
        dim=layout.DIM,
        frames=frames,
        fps=fps,
        short_side=320,
    )


class LandmarkEncoder:
    """Implements `models.schema.FrameEncoder`. Features are (T, 154) float32, a row a frame.

    Bounds: `max_tracks` streams (the least recently used is dropped first), and of each stream the
    newest `spec.frames` frames with their rows. `max_new_frames` bounds the work for one clip: of
    more new frames, that many are processed, evenly chosen and always with the newest, and each
    other one repeats the row before it; None processes all. Of a batch, as many streams are
    processed at once as there are `threads`, each on one thread.

    Raises:
        MediapipeError: the networks can't be fetched; the message says what to do.
        ValueError: the spec is not one of this encoder's.
    """

    def __init__(
        self,
        spec: EncoderSpec | None = None,
        *,
        threads: int = 1,
        max_new_frames: int | None = None,
        max_tracks: int = 256,
    ) -> None:
        spec = spec or landmark_spec()
        if (spec.kind, spec.dim) != (KIND, layout.DIM):
            raise ValueError(f"not a landmark encoder of {layout.DIM} features: {spec}")
        if (spec.source, spec.revision) != (SOURCE, REVISION):
            raise ValueError(
                f"this model was trained on landmarks {spec.source} {spec.revision}, "
                f"this version computes {SOURCE} {REVISION}: train it again or use its version"
            )
        if max_new_frames is not None and max_new_frames < 1:
            raise ValueError(f"max_new_frames must be at least 1, not {max_new_frames}")
        if threads < 1 or max_tracks < 1:
            raise ValueError("threads and max_tracks must be at least 1")
        self._spec = spec
        self._max_new_frames = max_new_frames
        self._max_tracks = max_tracks
        paths = networks.fetch()
        self._bodies = BodyNetworks(paths, threads)
        self._hands = HandNetworks(paths, threads)
        self._threads = ThreadPoolExecutor(threads, "landmarks")
        self._streams: OrderedDict[str, _Stream] = OrderedDict()

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    @property
    def device(self) -> str:
        return "cpu"

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        """Encode `clips`, in order; a frame that is already known of a stream costs nothing.

        A stream's clips are expected in the order of their time; one that goes back starts over.
        """
        numbers: dict[str, list[int]] = {}  # of a stream's clips
        for number, clip in enumerate(clips):
            numbers.setdefault(clip.stream, []).append(number)
        streams = [(self._stream(name), own) for name, own in numbers.items()]

        def encode(stream: _Stream, own: list[int]) -> list[Embedding]:
            return [self._encode(stream, clips[number]) for number in own]

        if len(streams) == 1:
            return encode(*streams[0])
        running = [self._threads.submit(encode, *one) for one in streams]
        wait(running)  # all, so that an error in one leaves none behind
        encoded = {
            number: embedding
            for (_, own), future in zip(streams, running, strict=True)
            for number, embedding in zip(own, future.result(), strict=True)
        }
        return [encoded[number] for number in range(len(clips))]

    def prepare(self, clips: Sequence[Clip]) -> None:
        """Run the new frames of `clips`, whose streams' next clips begin where these end."""
        self.encode(clips)

    def _stream(self, name: str) -> _Stream:
        stream = self._streams.pop(name, None)
        if stream is None:
            stream = _Stream(Track(self._bodies, self._hands), self._spec.frames)
        self._streams[name] = stream  # newest last
        while len(self._streams) > self._max_tracks:
            self._streams.popitem(last=False)
        return stream

    def _encode(self, stream: _Stream, clip: Clip) -> Embedding:
        processed = stream.process(clip.frames, self._max_new_frames)
        rows = np.stack([one.row for one in processed])
        return Embedding(
            features=rows,
            start_s=clip.start_s,
            end_s=clip.end_s,
            seen=processed[-1].seen,
            resting=at_rest(rows, self._spec.fps),
        )

    def forget(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def close(self) -> None:
        self._threads.shutdown()
        self._streams.clear()


@dataclass(frozen=True, slots=True)
class _Processed:
    """A frame and its results."""

    frame: Frame  # held, so that no other frame gets its id()
    row: NDArray[np.float32]
    seen: Seen | None


class _Stream:
    """A track and the results of its newest frames."""

    def __init__(self, track: Track, frames: int) -> None:
        self._track = track
        self._processed: deque[_Processed] = deque(maxlen=frames)

    def process(self, frames: Sequence[Frame], max_new: int | None) -> list[_Processed]:
        """The results of a clip's `frames`, one each; only new frames are run."""
        known = {id(one.frame): one for one in self._processed}
        new = [f for f in dict.fromkeys(frames) if id(f) not in known]
        if new and self._processed and new[0].media_s <= self._processed[-1].frame.media_s:
            self._processed.clear()  # the clock went back: another video under the same name
            self._track.reset()
            known.clear()
            new = list(dict.fromkeys(frames))
        chosen = _evenly(len(new), max_new, fresh=not self._processed)
        row, seen = np.zeros(layout.DIM, np.float32), None
        if self._processed:
            row, seen = self._processed[-1].row, self._processed[-1].seen
        for index, frame in enumerate(new):
            if self._processed and frame.media_s - self._processed[-1].frame.media_s > _JUMP_S:
                self._track.reset()
            if index in chosen:
                row = self._track.row(frame.image, frame.media_s)
                seen = self._track.seen(frame.image)
            known[id(frame)] = _Processed(frame, row, seen)
            self._processed.append(known[id(frame)])
        return [known[id(frame)] for frame in frames]


def _evenly(count: int, most: int | None, fresh: bool) -> set[int]:
    """Which of `count` new frames to process: `most` at even distances, always with the last.

    `fresh`: no frame comes before them, so the first is processed as well.
    """
    if most is None or count <= most:
        return set(range(count))
    if fresh and most > 1:
        return {round(i * (count - 1) / (most - 1)) for i in range(most)}
    return {round((i + 1) * count / most) - 1 for i in range(most)}
