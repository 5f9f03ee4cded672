"""Writes torch modules as ONNX files, and such a file with its weights in 8 bits.

    module + inputs of an example -> [write_onnx] -> float32 file -> [write_int8] -> 8-bit file

Needs torch, onnx and onnxscript (extra "train").
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_MAX_ONE_FILE = 1.5e9  # bytes of weights; a protobuf file cannot have more than 2 GiB
_DATA_SUFFIX = ".data"  # of the second file, which holds larger weights
_LOGS = ("torch.onnx", "onnxscript")  # which warn of what they leave as it is
_BLOCK = 32  # weights that share a scale; with 128 the error is a quarter larger


def write_onnx(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    free_axes: dict[int, str],
    file: Path,
) -> list[Path]:
    """Write `module` to `file`. Returns the files written: large weights go to a second one.

    `inputs` is an example; the axes `free_axes` (index -> name) of all inputs may have any size.
    The warnings of torch's exporter are not shown.
    """
    logs = [logging.getLogger(name) for name in _LOGS]
    levels = [log.level for log in logs]
    axes = {axis: torch.export.Dim(name) for axis, name in free_axes.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for log in logs:
            log.setLevel(logging.ERROR)
        try:
            torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                file,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple(axes for _ in inputs),
                external_data=sum(w.nbytes for w in module.parameters()) > _MAX_ONE_FILE,
                dynamo=True,
                verbose=False,
            )
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)
    return _written(file)


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """The ONNX file `content` with `metadata` in place of its own. What it computes is the same.

    Any reader of the format has it as `metadata_props`, ONNX Runtime as `custom_metadata_map`.
    """
    import onnx

    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, dict(metadata))
    stamped: bytes = model.SerializeToString()
    return stamped


def write_int8(source: Path, file: Path) -> list[Path]:
    """Write the ONNX file `source` with the weights of its linear layers in 8 bits.

    Weights alone are rounded: inputs and sums stay float32. A matrix product becomes MatMulNBits,
    which ONNX Runtime and OpenVINO run. Returns the files written, as `write_onnx` does.
    """
    import onnx

    library_log = logging.NullHandler()
    logging.root.addHandler(library_log)  # importing the next module would configure the root log
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    logging.root.removeHandler(library_log)
    config = DefaultWeightOnlyQuantConfig(block_size=_BLOCK, bits=8)
    quantizer: Any = MatMulNBitsQuantizer(onnx.load(source), bits=8, algo_config=config)
    quantizer.process()
    model = quantizer.model.model
    two_files = model.ByteSize() > _MAX_ONE_FILE
    location = f"{file.name}{_DATA_SUFFIX}"
    onnx.save(model, file, save_as_external_data=two_files, location=location)
    return _written(file)


def _written(file: Path) -> list[Path]:
    return [one for one in (file, file.with_name(file.name + _DATA_SUFFIX)) if one.is_file()]
