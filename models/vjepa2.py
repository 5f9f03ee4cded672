"""The V-JEPA 2 encoder: clips -> patch features, by whichever engine runs best here.

    windows -> [engine] -> tokens, or the mean of each time step -> classifier

Kind "vjepa2" gives the mean of a time step's patches, (T/2, D); "vjepa2-tokens" gives all of them,
(T/2 * P, D), ordered by time, row, column.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.engine import Engine, on_host
from models.schema import Clip, Embedding, EncoderSpec, Features


class VJEPA2Encoder:
    """Implements `models.schema.DeviceEncoder`. Keeps nothing between clips."""

    def __init__(self, spec: EncoderSpec, engine: Engine) -> None:
        self._spec = spec
        self._engine = engine

    @classmethod
    def open(cls, spec: EncoderSpec, device: str = "auto") -> VJEPA2Encoder:
        """The encoder that `spec` pins, on `device`.

        Raises:
            OSError: its checkpoint is not there.
            ValueError: it is not the one that `spec` pins, there is no such device, or a package is
                missing.
        """
        return cls(spec, open_engine(spec, device))

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    @property
    def device(self) -> str:
        return self._engine.device

    def encode(self, clips: Sequence[Clip]) -> list[Embedding]:
        """Encode `clips`, in order.

        Raises:
            ValueError: a clip does not have `spec.frames` frames, or the encoder is closed.
        """
        if not clips:
            return []
        features = on_host(self.encode_on_device(clips))
        return [
            Embedding(features=rows, start_s=clip.start_s, end_s=clip.end_s)
            for rows, clip in zip(features, clips, strict=True)
        ]

    def encode_on_device(self, clips: Sequence[Clip]) -> Features:
        """See `models.schema.DeviceEncoder`; at least one clip.

        Raises:
            ValueError: see `encode`.
        """
        return self._engine.encode([[frame.image for frame in c.frames] for c in clips])

    def forget(self, stream: str) -> None:
        """There is nothing to drop."""

    def close(self) -> None:
        self._engine.close()


def open_engine(spec: EncoderSpec, device: str) -> Engine:
    """The engine that runs `spec` best on `device`. Imports only what that engine needs.

    Raises:
        OSError, ValueError: see `VJEPA2Encoder.open`.
    """
    try:
        from models.torch_engine import TorchEngine
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.split(".")[0] not in ("torch", "transformers"):
            raise
        raise ValueError(
            f'this model needs {exc.name}: pip install "livegloss[gpu]", or use --model builtin'
        ) from exc
    return TorchEngine.open(spec, device)
