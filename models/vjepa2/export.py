"""Writes modules as ONNX files, and the encoder's with weights in 8 bits too. Needs torch.

    PictureEncoder -> float32.onnx -> [weights rounded for clips] -> int8.onnx

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
from torch import Tensor, nn

from models.vjepa2.model import PictureEncoder
from models.vjepa2.rounding import Rounded

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


def write_int8(source: Path, layers: Sequence[Rounded], file: Path, *, inputs: bool) -> list[Path]:
    """Write what `write_encoder` wrote to `source` with weights in 8 bits; the files written.

    `layers`: what `rounded_weights` made of the same encoder. `inputs`: what the layers get is
    rounded too, so that whole numbers are multiplied. But not the pictures that the first of them
    gets, from where most of the error came, nor what attention multiplies.
    """
    import onnx
    from onnx import helper, numpy_helper

    model: Any = onnx.load(source)
    graph = model.graph
    floats = {one.name: one for one in graph.initializer}
    products = [one for one in graph.node if one.op_type == "MatMul" and one.input[1] in floats]
    for product, layer in zip(products, layers, strict=True):
        name = product.input[1]
        graph.initializer.remove(floats.pop(name))
        levels, scales = f"{name}.levels", f"{name}.scales"
        graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(layer.levels.T), levels)
        )
        graph.initializer.append(numpy_helper.from_array(layer.scales, scales))
        graph.node.insert(0, helper.make_node("DequantizeLinear", [levels, scales], [name], axis=1))
        if inputs and product is not products[0]:
            _round_input(graph, product, layer)
    apart = model.ByteSize() > _ONE_FILE
    onnx.save(model, file, save_as_external_data=apart, location=f"{file.name}{_DATA}")
    return _with_data(file)


def _round_input(graph: Any, product: Any, layer: Rounded) -> None:
    """Put what `product` gets into 256 levels, from the least to the most that `layer` got."""
    from onnx import helper, numpy_helper

    name = f"{product.input[1]}.input"
    scale = np.float32((layer.most - layer.least) / 255) or np.float32(1)
    zero = np.uint8(np.clip(round(-layer.least / float(scale)), 0, 255))
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.asarray(scale), f"{name}.scale"),
            numpy_helper.from_array(np.asarray(zero), f"{name}.zero"),
        ]
    )
    how = [f"{name}.scale", f"{name}.zero"]
    at = list(graph.node).index(product)
    nodes = [
        helper.make_node("QuantizeLinear", [product.input[0], *how], [f"{name}.levels"]),
        helper.make_node("DequantizeLinear", [f"{name}.levels", *how], [name]),
    ]
    for node in reversed(nodes):
        graph.node.insert(at, node)
    product.input[0] = name


def _with_data(file: Path) -> list[Path]:
    return [one for one in (file, file.with_name(file.name + _DATA)) if one.is_file()]
