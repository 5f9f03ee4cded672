"""V-JEPA 2 by torch: float32 on a CPU, bfloat16 on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.engine import Pictures
from models.preprocess import crop_pictures, normalised
from models.schema import EncoderSpec
from models.video_transformer import VideoTransformer
from models.vjepa2_weights import load_weights

_BATCH = 8  # clips at once: bounds the memory, and more gains nothing at 2048 tokens a clip
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchEngine:
    """Implements `models.engine.Engine`."""

    def __init__(self, spec: EncoderSpec, device: str = "auto", dtype: str = "auto") -> None:
        """Load the weights that `spec` pins on `device`, as "float32", "bfloat16" or "auto".

        Raises:
            OSError: they are not there.
            ValueError: they are not those that `spec` pins, or there is no such device.
        """
        self._device = torch_device(device)
        if dtype == "auto":
            dtype = "bfloat16" if self._device.type == "cuda" else "float32"
        self.name = f"torch {dtype}"
        self._frames = spec.frames
        self._pooled = spec.kind == "vjepa2"
        self._dtype = _DTYPES[dtype]
        self._model: VideoTransformer | None = load_weights(spec, self._dtype).to(self._device)
        self._crop = self._model.video_size[2]

    @property
    def device(self) -> str:
        return str(self._device)

    def encode(self, clips: Sequence[Pictures]) -> NDArray[np.float32]:
        """See `Engine`; a few clips at a time.

        Raises:
            ValueError: a clip of another length, or the engine is closed.
        """
        if self._model is None:
            raise ValueError("this encoder is closed")
        for clip in clips:
            if len(clip) != self._frames:
                raise ValueError(f"a clip has {len(clip)} frames, not {self._frames}")
        parts = (clips[i : i + _BATCH] for i in range(0, len(clips), _BATCH))
        return np.concatenate([self._encode(self._model, part) for part in parts])

    @torch.inference_mode()
    def _encode(self, model: VideoTransformer, clips: Sequence[Pictures]) -> NDArray[np.float32]:
        pictures = np.stack([crop_pictures(clip, self._crop) for clip in clips])
        video = torch.from_numpy(normalised(pictures)).to(
            self._device, self._dtype
        )  # B, T, C, H, W
        features = model.steps(video) if self._pooled else model(video).float()
        result: NDArray[np.float32] = features.cpu().numpy()
        return result

    def close(self) -> None:
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def torch_device(name: str) -> torch.device:
    """The device that "auto", "cpu", "cuda" or "cuda:N" names.

    Raises:
        ValueError: there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise ValueError(f"no device {name!r}; give auto, cpu, cuda or cuda:N") from exc
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"no device {name!r}; give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no {name} here (PyTorch {torch.__version__}); try --device cpu")
    return device
