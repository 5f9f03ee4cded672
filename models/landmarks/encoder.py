"""The landmark encoder: clips -> one row of hand and body landmarks a frame, on a CPU.

For machines without a GPU. MediaPipe's networks (`networks.py`) look at each frame of a stream
once; a `Track` per stream remembers where the signer was and what the last frames gave. What a row
holds is in `layout.py`. Neither torch nor transformers is imported here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.landmarks import layout, networks
from models.landmarks.detectors import BodyFinder, HandFinder
from models.landmarks.rest import at_rest
from models.landmarks.track import Track
from models.schema import Clip, Embedding, EncoderSpec, Frame, Seen

KIND = "landmarks"
SOURCE = "mediapipe"
# The wheel, and the version of what we make of it: rows of another revision mean something else.
REVISION = f"{networks.VERSION}+rows1"

_JUMP_S = 1.0  # a gap in media time after which the signer is searched anew


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
    """Implements `models.schema.Encoder`. Features are (T, 154) float32, a row a frame.

    Bounds: `max_tracks` streams (the one unused for longest is forgotten first), and of each stream
    the newest `spec.frames` frames with their rows. `max_new_frames` bounds the work for one clip:
    of more new frames than that, evenly chosen ones are looked at (the newest always) and the
    others repeat the row before them; None looks at all. `threads` is per network run.

    Raises:
        MediapipeError: the networks can't be had; the message says what to do.
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
                f"this version makes {SOURCE} {REVISION}: train it again or use its version"
            )
        if max_new_frames is not None and max_new_frames < 1:
            raise ValueError(f"max_new_frames must be at least 1, not {max_new_frames}")
        if threads < 1 or max_tracks < 1:
            raise ValueError("threads and max_tracks must be at least 1")
        self._spec = spec
        self._max_new_frames = max_new_frames
        self._max_tracks = max_tracks
        paths = networks.fetch()
        self._bodies = BodyFinder(paths, threads)
        self._hands = HandFinder(paths, threads)
        self._streams: OrderedDict[str, _Stream] = OrderedDict()

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    @property
    def device(self) -> str:
        return "cpu"

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        """Encode `clips`, in order; a frame that a stream has shown before costs nothing.

        A stream's clips are expected in the order of their time; one that goes back is taken for a
        new beginning.
        """
        return [self._encode(clip) for clip in clips]

    def _encode(self, clip: Clip) -> Embedding:
        stream = self._streams.pop(clip.stream, None)
        if stream is None:
            stream = _Stream(Track(self._bodies, self._hands), self._spec.frames)
        self._streams[clip.stream] = stream  # newest last
        while len(self._streams) > self._max_tracks:
            self._streams.popitem(last=False)
        looked = stream.look(clip.frames, self._max_new_frames)
        rows = np.stack([one.row for one in looked])
        return Embedding(
            features=rows,
            start_s=clip.start_s,
            end_s=clip.end_s,
            seen=looked[-1].seen,
            resting=at_rest(rows, self._spec.fps),
        )

    def forget(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def close(self) -> None:
        self._streams.clear()


@dataclass(frozen=True, slots=True)
class _Looked:
    """A frame that was looked at, held so that its identity stays its own, and what came of it."""

    frame: Frame
    row: NDArray[np.float32]
    seen: Seen | None


class _Stream:
    """A track and what came of its newest frames."""

    def __init__(self, track: Track, frames: int) -> None:
        self._track = track
        self._looked: deque[_Looked] = deque(maxlen=frames)

    def look(self, frames: Sequence[Frame], max_new: int | None) -> list[_Looked]:
        """What comes of a clip's `frames`, one each, looking at those that are new."""
        known = {id(one.frame): one for one in self._looked}
        new = [f for f in dict.fromkeys(frames) if id(f) not in known]
        if new and self._looked and new[0].media_s <= self._looked[-1].frame.media_s:
            self._looked.clear()  # the clock went back: another video under the same name
            self._track.reset()
            known.clear()
            new = list(dict.fromkeys(frames))
        chosen = _thinned(len(new), max_new, fresh=not self._looked)
        row, seen = np.zeros(layout.DIM, np.float32), None
        if self._looked:
            row, seen = self._looked[-1].row, self._looked[-1].seen
        for index, frame in enumerate(new):
            if self._looked and frame.media_s - self._looked[-1].frame.media_s > _JUMP_S:
                self._track.reset()
            if index in chosen:
                row = self._track.row(frame.image, frame.media_s)
                seen = self._track.seen(frame.image)
            known[id(frame)] = _Looked(frame, row, seen)
            self._looked.append(known[id(frame)])
        return [known[id(frame)] for frame in frames]


def _thinned(count: int, most: int | None, fresh: bool) -> set[int]:
    """Which of `count` new frames to look at: `most`, evenly, the last always.

    `fresh`: nothing comes before them, so the first is looked at as well.
    """
    if most is None or count <= most:
        return set(range(count))
    if fresh and most > 1:
        return {round(i * (count - 1) / (most - 1)) for i in range(most)}
    return {round((i + 1) * count / most) - 1 for i in range(most)}
