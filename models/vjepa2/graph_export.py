"""Writes modules as ONNX files, and the encoder's in 8 bits too. Needs torch, the latter NNCF.

    PictureEncoder -> float32.onnx -> [calibrated on clips] -> int8.onnx

Both have `pictures` (B, T, H, W, C) uint8 -> `features` (B, S, D) float32, B free, and both run in
OpenVINO and in ONNX Runtime.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.vjepa2.picture_encoder import PictureEncoder

_ONE_FILE = 1.5e9  # bytes of weights; a file of protobuf can't have more than 2 GiB
_DATA = ".data"  # what larger ones have beside them ends so


def write_onnx(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    free: dict[int, str],
    file: Path,
) -> list[Path]:
    """Write `module` to `file`; axes `free` of all inputs may have any size. What was written.

    Large weights go to a second file beside it. The exporter's own warnings are not shown.
    """
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    axes = {axis: torch.export.Dim(name) for axis, name in free.items()}
    apart = sum(weight.nbytes for weight in module.parameters()) > _ONE_FILE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet.setLevel(logging.ERROR)
        try:
            torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                file,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple(axes for _ in inputs),
                external_data=apart,
                dynamo=True,
                verbose=False,
            )
        finally:
            quiet.setLevel(level)
    return _with_data(file)


def write_encoder(encoder: PictureEncoder, file: Path) -> list[Path]:
    """Write `encoder` in float32; the files that were written."""
    times, channels, height, width = encoder.model.video_size
    pictures = torch.zeros(2, times, height, width, channels, dtype=torch.uint8)
    return write_onnx(encoder, {"pictures": pictures}, ["features"], {0: "B"}, file)


def write_int8(source: Path, clips: Sequence[NDArray[np.uint8]], file: Path) -> list[Path]:
    """Write what `write_encoder` wrote to `source` in 8 bits; the files that were written.

    Matrix products, those of attention too, get the range that their inputs have for `clips`, each
    (T, H, W, C): they must be such as it will meet. All that NNCF looks at is in memory at once:
    0.7 GB a block of ViT-L at 256 px and 16 frames, which has 24.

    Raises:
        ImportError: NNCF is not installed.
        ValueError: there is no clip.
    """
    if not clips:
        raise ValueError("int8 needs clips to be calibrated on, of real signers")
    import nncf
    import onnx
    from nncf.onnx.quantization.backend_parameters import BackendParameters

    logging.getLogger("nncf").setLevel(logging.ERROR)
    large = len(_with_data(source)) > 1
    model: Any = onnx.load(source, load_external_data=not large)
    folder = {BackendParameters.EXTERNAL_DATA_DIR: str(source.parent.absolute())} if large else {}
    made = nncf.quantize(
        model,
        nncf.Dataset(clips, lambda clip: {"pictures": clip[None]}),
        subset_size=len(clips),
        model_type=nncf.ModelType.TRANSFORMER,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # Weights of 7 bits, or sums overflow on processors without VNNI (AMD before Zen 4). On
            # a small trained encoder both kept a cosine of 0.9998.
            overflow_fix=nncf.OverflowFix.ENABLE,
            backend_params=folder,
        ),
    )
    apart = made.ByteSize() > _ONE_FILE
    onnx.save(made, file, save_as_external_data=apart, location=f"{file.name}{_DATA}")
    return _with_data(file)


def _with_data(file: Path) -> list[Path]:
    return [one for one in (file, file.with_name(file.name + _DATA)) if one.is_file()]
