"""V-JEPA 2 by torch: float32 on a CPU; bfloat16 on a GPU.

    pictures -> [staging] -> [runs] of a few batch sizes -> features, which stay on the device

All state belongs to one engine and its device, so a process may have one engine for each GPU.
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
from models.vjepa2.model import PictureEncoder, VideoTransformer
from models.vjepa2.preprocess import Pictures
from models.vjepa2.runs import CapturedRuns, Runs
from models.vjepa2.staging import Staging

# Clips at once. A clip has 2048 tokens (16 frames, 256 px): larger batches are no faster.
_SIZES = {"cuda": (1, 2, 4, 8, 16), "cpu": (1, 2, 4, 8)}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchEngine:
    """Implements `models.vjepa2.encoder.Engine`. Features are tensors of the engine's device."""

    def __init__(
        self,
        model: VideoTransformer,
        *,
        pooled: bool,
        device: str = "auto",
        dtype: str = "auto",
        sizes: Sequence[int] = (),
    ) -> None:
        """Move `model` to `device` in "float32", "bfloat16" or "auto", and prepare its runs.

        `sizes` are the batch sizes to prepare; on a GPU those of them that fit into its memory.

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
                model = model.to(self._device, DTYPES[dtype])
                encoder = PictureEncoder(model, pooled=pooled).to(self._device).eval()
                self._staging = Staging(self._device, self._crop)
                sizes = sizes or _SIZES[self._device.type]
                if self._stream is None:
                    self._runs = Runs(encoder, sizes, self._device)
                else:
                    self._runs = CapturedRuns(encoder, sizes, self._device, self._stream)
        except OutOfMemory as exc:
            raise ValueError(f"{self._device} has no memory for this encoder and a clip") from exc

    @classmethod
    def open(
        cls,
        spec: EncoderSpec,
        device: str = "auto",
        dtype: str = "auto",
        sizes: Sequence[int] = (),
    ) -> TorchEngine:
        """The engine of the weights that `spec` pins; more: see `__init__`.

        Raises:
            OSError: they are not there.
            ValueError: they are not those that `spec` pins; or see `__init__`.
        """
        dtype = _chosen(dtype, torch_device(device))
        model = load_weights(spec, DTYPES[dtype])
        pooled = spec.kind == "vjepa2"
        return cls(model, pooled=pooled, device=device, dtype=dtype, sizes=sizes)

    @property
    def device(self) -> str:
        return str(self._device)

    def encode(self, clips: Sequence[Pictures]) -> Tensor:
        """See `Engine`. The first clips are encoded while the next are copied.

        Raises:
            ValueError: a clip of another length, or the engine is closed.
            OutOfMemory: these clips are lost; the engine freed memory and can encode the next.
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
                # So users of the features need not wait for our stream (see
                # `models.schema.Features`), and errors of the kernels are raised here.
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
            # Copied: the next run overwrites them.
            result[done : done + len(part)] = features[: len(part)]
            done += len(part)
        return result

    def close(self) -> None:
        self._runs = None
        self._staging.close()
        if self._device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # a lost device has no memory to free
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
        """Raise torch's errors as those of `models.faults`."""
        try:
            yield
        except torch.OutOfMemoryError as exc:
            traceback.clear_frames(exc.__traceback__)  # they keep the tensors of the failed run
            if self._runs is not None:
                self._runs.drop_largest()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemory from exc
        except RuntimeError as exc:
            if not responds(self._device):
                raise DeviceLost from exc
            raise


def _chosen(dtype: str, device: torch.device) -> str:
    if dtype == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    if dtype not in DTYPES:
        raise ValueError(f"no dtype {dtype!r}; there are auto, {', '.join(DTYPES)}")
    return dtype


def responds(device: torch.device) -> bool:
    """Whether the device still computes. After a sticky CUDA error every call raises it again."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError:
            return False
    return True


def torch_device(name: str) -> torch.device:
    """The device that "auto", "cpu", "cuda" or "cuda:N" names, a GPU with its index.

    Raises:
        ValueError: there is no such device.
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
