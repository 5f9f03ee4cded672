"""What runs V-JEPA 2: an engine takes pictures and gives features, on one device.

    clips of pictures -> [engine] -> features (B, S, D)

`torch_engine.py` runs the weights themselves, on a GPU or, slowly, on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.schema import Features

Pictures = Sequence[NDArray[np.uint8]]  # of one clip: each (H, W, 3) RGB, of any size


class Engine(Protocol):
    """Called from one thread at a time. A clip's features are the same alone and in any batch."""

    @property
    def name(self) -> str:
        """What computes, for people: "torch float32"."""
        ...

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda:0"."""
        ...

    def encode(self, clips: Sequence[Pictures]) -> Features:
        """(B, S, D) The features of each clip: S tokens, or S time steps.

        Raises:
            ValueError: a clip does not have as many pictures as the engine was made for.
            OutOfMemory, DeviceLost: see `models.faults`.
        """
        ...

    def close(self) -> None: ...


def on_host(features: Features) -> NDArray[np.float32]:
    """`features` as a NumPy array, copied only from a device that has memory of its own."""
    if isinstance(features, np.ndarray):
        return features
    tensor: Any = features  # torch's, which this file must not import
    array: NDArray[np.float32] = tensor.numpy(force=True)
    return array
