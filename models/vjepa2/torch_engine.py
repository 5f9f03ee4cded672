"""V-JEPA 2 by torch: float32 on a CPU; bfloat16 on a GPU.

    pictures -> [staging] -> [runs] of a few batch sizes -> features, which stay on the device

All state belongs to one engine and its device, so that a process may have one for each GPU.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from models.faults import DeviceLost, OutOfMemory
from models.schema import EncoderSpec
from models.vjepa2.checkpoint import load_weights
from models.vjepa2.engine import Pictures
from models.vjepa2.model import PictureEncoder, VideoTransformer
from models.vjepa2.runs import CapturedRuns, Runs
from models.vjepa2.staging import Staging

# Clips at once. A clip has 2048 tokens (16 frames, 256 px): more of them gain nothing.
SIZES = {"cuda": (1, 2, 4, 8, 16), "cpu": (1, 2, 4, 8)}
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}


class TorchEngine:
    """Implements `models.vjepa2.engine.Engine`. Features are tensors of the engine's device."""

    def __init__(
        self,
        model: VideoTransformer,
        *,
        pooled: bool,
        device: str = "auto",
        dtype: str = "auto",
        sizes: Sequence[int] = (),
    ) -> None:
        """Bring `model` to `device` as "float32", "bfloat16" or "auto", and warm it up.

        `sizes` are the batches to be ready for; on a GPU as many of them as its memory holds.

        Raises:
            ValueError: no such device or dtype, the device can't compute in it, or it has no
                memory for the model and a clip.
        """
        self._device = torch_device(device)
        dtype = _chosen(dtype, self._device)
        cuda = self._device.type == "cuda"
        self.name = f"torch {dtype}"
        self._frames, _, self._crop, _ = model.video_size
        self._stream = torch.cuda.Stream(self._device) if cuda else None  # type: ignore[no-untyped-call]
        self._runs: Runs | None = None
        try:
            with self._faults(), self._on_device():
                model = model.to(self._device, _DTYPES[dtype])
                encoder = PictureEncoder(model, pooled=pooled).to(self._device).eval()
                self._staging = Staging(self._device, self._crop)
                self._runs = self._made_ready(encoder, sizes or SIZES[self._device.type])
        except OutOfMemory as exc:
            raise ValueError(f"{self._device} has no memory for this encoder and a clip") from exc

    def _made_ready(self, encoder: PictureEncoder, sizes: Sequence[int]) -> Runs:
        if self._stream is None:
            return Runs(encoder, sizes, self._device)
        return CapturedRuns(encoder, sizes, self._device, self._stream)

    @classmethod
    def open(
        cls,
        spec: EncoderSpec,
        device: str = "auto",
        dtype: str = "auto",
        sizes: Sequence[int] = (),
    ) -> TorchEngine:
        """The engine of the weights that `spec` pins.

        Raises:
            OSError: they are not there.
            ValueError: they are not those that `spec` pins; or see above.
        """
        dtype = _chosen(dtype, torch_device(device))
        model = load_weights(spec, _DTYPES[dtype])
        pooled = spec.kind == "vjepa2"
        return cls(
            model,
            pooled=pooled,
            device=device,
            dtype=dtype,
            sizes=sizes,
        )

    @property
    def device(self) -> str:
        return str(self._device)

    def encode(self, clips: Sequence[Pictures]) -> Tensor:
        """See `Engine`. The first clips are encoded while the next are on their way.

        Raises:
            ValueError: a clip of another length, or the engine is closed.
            OutOfMemory: these clips are lost; the engine made room and takes the next.
            DeviceLost: see `models.faults`.
        """
        for clip in clips:
            if len(clip) != self._frames:
                raise ValueError(f"a clip has {len(clip)} frames, not {self._frames}")
        if self._runs is None:
            raise ValueError("this encoder is closed")
        with self._faults(), self._on_device(), torch.inference_mode():
            features = self._encoded(self._runs, clips)
            if self._stream is not None:
                # Whoever takes the features need not know our stream (see `engine.py`), and
                # errors of the kernels come out here, not where they can't be told apart.
                self._stream.synchronize()
        return features

    def _encoded(self, runs: Runs, clips: Sequence[Pictures]) -> Tensor:
        done = 0
        for size in runs.buckets.split(len(clips)):
            part = clips[done : done + size]
            pictures = [image for clip in part for image in clip]
            self._staging.put(pictures, runs.pictures.flatten(0, 1))
            features = runs.run(size)
            if not done:
                result = features.new_empty((len(clips), *features.shape[1:]))
            # Copied: the next run writes to the same place.
            result[done : done + len(part)] = features[: len(part)]
            done += len(part)
        return result

    def close(self) -> None:
        self._runs = None
        self._staging.close()
        if self._device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # a lost device has nothing to give back
                torch.cuda.empty_cache()

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            yield

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """torch's errors as `models.faults` names them."""
        try:
            yield
        except torch.OutOfMemoryError as exc:
            traceback.clear_frames(exc.__traceback__)  # they hold the tensors of what failed
            if self._runs is not None:
                self._runs.give_way()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemory from exc
        except RuntimeError as exc:
            if not answers(self._device):
                raise DeviceLost from exc
            raise


def _chosen(dtype: str, device: torch.device) -> str:
    if dtype == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    if dtype not in _DTYPES:
        raise ValueError(f"no dtype {dtype!r}; there are auto, {', '.join(_DTYPES)}")
    return dtype


def answers(device: torch.device) -> bool:
    """Whether the device still computes. After a sticky CUDA error every call meets it again."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError:
            return False
    return True


def torch_device(name: str) -> torch.device:
    """The device that "auto", "cpu", "cuda" or "cuda:N" names, a GPU with its number.

    Raises:
        ValueError: there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise ValueError(f"no device {name!r}; give auto, cpu, cuda or cuda:N") from exc
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"no device {name!r}; give auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise ValueError(f"there is no {name} here (PyTorch {torch.__version__}); try --device cpu")
    return torch.device("cuda", index)
