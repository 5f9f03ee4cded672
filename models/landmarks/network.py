"""One small neural network on the CPU: a square picture in, arrays of numbers out (OpenVINO)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino.preprocess import PrePostProcessor


class Network:
    """A `.tflite` file at work.

    Takes uint8 RGB pictures of `pixels` x `pixels`; scaling to the range that the network was
    trained on, `low` to `high`, is part of the compiled graph. Computes in bfloat16 where the
    processor has it (1.6 times as fast; moves a landmark by less than its jitter), else float32.
    """

    def __init__(
        self,
        path: Path,
        outputs: Sequence[str],
        low: float = 0.0,
        high: float = 1.0,
        threads: int = 1,
    ) -> None:
        core = ov.Core()
        whole = core.read_model(path)
        # Only the outputs that are asked for: what serves others alone is not computed.
        model = ov.Model([whole.output(name) for name in outputs], whole.get_parameters())
        self.pixels = int(model.input().shape[1])
        prepare = PrePostProcessor(model)
        prepare.input().tensor().set_element_type(ov.Type.u8)
        steps = prepare.input().preprocess().convert_element_type(ov.Type.f32)
        steps.scale(255.0 / (high - low))
        if low:
            steps.mean(-low)
        compiled = core.compile_model(
            prepare.build(),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                # Else the calling thread is tied to the first core, as in every other process.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._request = compiled.create_infer_request()
        self._outputs = len(outputs)

    def __call__(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """`picture` (pixels, pixels, 3) -> the outputs, in the order asked for."""
        self._request.infer([picture[None]], share_inputs=True)
        return [
            self._request.get_output_tensor(index).data[0].copy() for index in range(self._outputs)
        ]


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0))), np.float32)
