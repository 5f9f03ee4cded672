"""The V-JEPA 2 encoder: clips -> patch features, by whichever engine runs best here.

    windows -> [engine] -> tokens, or the mean of each time step -> classifier

Kind "vjepa2" gives the mean of a time step's patches, (T/2, D); "vjepa2-tokens" gives all of them,
(T/2 * P, D), ordered by time, row, column.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Sequence

from models.schema import Clip, Embedding, EncoderSpec, Features
from models.vjepa2.engine import Engine, on_host
from models.vjepa2.graph import GraphVariant, spare_cores
from models.vjepa2.graph_engine import open_graph_engine

_log = logging.getLogger(__name__)


class VJEPA2Encoder:
    """Implements `models.schema.DeviceEncoder`. Keeps nothing between clips."""

    def __init__(self, spec: EncoderSpec, engine: Engine) -> None:
        self._spec = spec
        self._engine = engine

    @classmethod
    def open(
        cls,
        spec: EncoderSpec,
        device: str = "auto",
        graphs: Sequence[GraphVariant] = (),
        batch: int | None = None,
    ) -> VJEPA2Encoder:
        """The encoder that `spec` pins, on `device`; more: see `models.encoders.open_encoder`.

        Raises:
            OSError: its checkpoint is not there.
            ValueError: it is not the one that `spec` pins, there is no such device, or a package is
                missing.
        """
        return cls(spec, open_vjepa2_engine(spec, device, graphs, batch))

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


def open_vjepa2_engine(
    spec: EncoderSpec,
    device: str,
    graphs: Sequence[GraphVariant] = (),
    batch: int | None = None,
) -> Engine:
    """The engine that runs `spec` best on `device`. Imports only what that engine needs.

    A GPU takes the weights. A CPU takes the fastest of `graphs`; where there is
    none, the weights.

    Raises:
        OSError, ValueError: see `VJEPA2Encoder.open`.
    """
    if not graphs:
        return _torch_engine(spec, device, batch)
    if device == "cpu" or (device == "auto" and not has_gpu()):
        return open_graph_engine(spec, graphs)
    try:
        return _torch_engine(spec, "cuda" if device == "auto" else device)
    except (ValueError, OSError) as exc:
        if device != "auto":
            raise ValueError(f"{device} runs the encoder's weights: {exc}") from exc
        _log.warning("the GPU is not used: %s", exc)
        return open_graph_engine(spec, graphs)


def _torch_engine(
    spec: EncoderSpec,
    device: str,
    batch: int | None = None,
) -> Engine:
    try:
        from models.vjepa2.torch_engine import TorchEngine
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.split(".")[0] not in ("torch", "transformers"):
            raise
        raise ValueError(
            f'this model needs {exc.name}: pip install "livegloss[gpu]", or use --model builtin'
        ) from exc
    sizes = () if batch is None else (batch,)
    engine = TorchEngine.open(spec, device, sizes=sizes)
    if engine.device == "cpu":
        sys.modules["torch"].set_num_threads(spare_cores())
    return engine


def has_gpu() -> bool:
    """True where the driver of NVIDIA shows a GPU. Without torch, which takes seconds to import."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int()
        return (
            driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        ) and count.value > 0
    return False
