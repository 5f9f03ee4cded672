"""Opens the encoder that `offline.encode --encoder` names: those of `models`, and the stand-in."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import encoders
from models.schema import Clip, Embedding, Encoder, EncoderSpec, Frame

_GPU_BATCH = 16  # windows that a GPU runs at once: 2,048 tokens each, more gain nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """All that it takes to open an encoder, here, in another process or on another machine."""

    spec: EncoderSpec
    device: str  # auto, cpu, cuda or cuda:N
    batch: int  # windows that it runs at once

    def open(self) -> Encoder:
        """The encoder; it is the caller's to close.

        Raises:
            ValueError, OSError: see `models.encoders.open_encoder`.
        """
        if self.spec.kind == STANDIN_KIND:
            return StandInEncoder(self.spec)
        return encoders.open_encoder(self.spec, self.device, batch=self.batch)

    def videos(self, variants: int) -> int:
        """How many videos a call of the encoder should take, each with so many variants.

        A multiple of a batch, so that no place stays empty; two batches at least, so that the
        second's pictures travel to the device while the first is computed.
        """
        return self.batch * -(-2 // variants)


def opening(
    name: str,
    *,
    frames: int | None,
    fps: float | None,
    device: str,
    batch: int | None,
    gpu: bool | None = None,
) -> Opening:
    """How to open the encoder that is called "landmarks", "vjepa2:PATH", "standin:MS", …

    `gpu`: whether there is one where it will run; None: where it will run is here.

    Raises:
        ValueError, OSError: there is no such encoder.
    """
    kind, _, source = name.partition(":")
    if kind == STANDIN_KIND:
        spec = standin_spec(source)
        spec = dataclasses.replace(spec, frames=frames or spec.frames, fps=fps or spec.fps)
    else:
        spec = encoders.encoder_spec(name, frames, fps)
    return Opening(spec=spec, device=device, batch=batch or _usual_batch(kind, device, gpu))


def _usual_batch(kind: str, device: str, gpu: bool | None) -> int:
    if kind == STANDIN_KIND:
        return _GPU_BATCH
    if kind == "landmarks" or device == "cpu":
        return 1
    from models.vjepa2.encoder import has_gpu

    return _GPU_BATCH if gpu or (gpu is None and has_gpu()) else 1


# MERGED from offline.encoding.standin: An encoder of fixed cost that knows no sign: to test and
# time everything around it. python -m offline.encode --encoder standin:20 … It waits so many
# milliseconds a window, and leaves the CPU free meanwhile, as a GPU does.

STANDIN_KIND = "standin"
STANDIN_LOG = "LIVEGLOSS_STANDIN_LOG"  # a file that gets a line for each window that one encodes


def standin_spec(source: str) -> EncoderSpec:
    """The spec of a stand-in that takes `source` milliseconds a window.

    Raises:
        ValueError: that is no number, or a negative one.
    """
    try:
        good = 0 <= float(source) < 1e6
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"write the stand-in as standin:MS, with its milliseconds, not {source!r}")
    return EncoderSpec(
        kind=STANDIN_KIND, source=source, revision="1", dim=3, frames=16, fps=8.0, short_side=292
    )


class StandInEncoder:
    """Implements `models.schema.Encoder`: a row for each frame of the window, its mean colour."""

    device = "cpu"

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec
        self._closed = threading.Event()
        self._log = os.environ.get(STANDIN_LOG)

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        self._closed.wait(len(clips) * float(self.spec.source) / 1000)
        if self._log:
            with open(self._log, "a", encoding="utf-8") as log:
                log.write("".join(f"{clip.stream}\n" for clip in clips))
        return [
            Embedding(
                features=np.stack([_frame_mean(frame) for frame in clip.frames]),
                start_s=clip.start_s,
                end_s=clip.end_s,
            )
            for clip in clips
        ]

    def forget(self, stream: str) -> None:
        """There is nothing to drop."""

    def close(self) -> None:
        self._closed.set()


def _frame_mean(frame: Frame) -> NDArray[np.float32]:
    """(3,) Of every eighth pixel: to look at all would cost more than to decode them."""
    return np.asarray(frame.image[::8, ::8].mean((0, 1), np.float32))
