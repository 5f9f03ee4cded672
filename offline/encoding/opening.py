"""Opens the encoder that `offline.encode --encoder` names: those of `models`, and the stand-in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from models import encoders
from models.schema import Encoder, EncoderSpec
from offline.encoding.standin import KIND, StandInEncoder, standin_spec

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
        if self.spec.kind == KIND:
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
    if kind == KIND:
        spec = standin_spec(source)
        spec = dataclasses.replace(spec, frames=frames or spec.frames, fps=fps or spec.fps)
    else:
        spec = encoders.encoder_spec(name, frames, fps)
    return Opening(spec=spec, device=device, batch=batch or _usual_batch(kind, device, gpu))


def _usual_batch(kind: str, device: str, gpu: bool | None) -> int:
    if kind == KIND:
        return _GPU_BATCH
    if kind == "landmarks" or device == "cpu":
        return 1
    from models.vjepa2.encoder import has_gpu

    return _GPU_BATCH if gpu or (gpu is None and has_gpu()) else 1
