"""A head for the benchmark's pipeline, written as ONNX without a package that writes ONNX.

    a GlossClassifier's state dict -> [bench_head] -> the bytes of head.onnx

`offline.export` exports heads that are trained. The benchmark shall run where only torch,
transformers, numpy and onnxruntime are, so what `GlossClassifier` computes is spelt out here, in
the messages of ONNX (onnx/onnx.proto). A test holds it against the head itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_FLOAT, _INT64, _BOOL = 1, 7, 9  # TensorProto.DataType
_IR_VERSION, _OPSET = 9, 20  # the first opset with Gelu

# What GlossClassifier does, a line a node: operator, inputs, output, attributes. `w.` are weights.
_NODES: tuple[tuple[str, str, str, dict[str, int]], ...] = (
    ("Unsqueeze", "mask last", "real", {}),  # B, T, 1
    ("Where", "real features zero", "x", {}),  # B, T, D
    ("MatMul", "x w.score", "scores.", {}),
    ("Add", "scores. w.score_bias", "scores", {}),  # B, T, 1
    ("Where", "real scores never", "masked", {}),
    ("Softmax", "masked", "weights", {"axis": 1}),
    ("Squeeze", "weights last", "attention", {}),  # B, T
    ("Unsqueeze", "attention middle", "row", {}),  # B, 1, T
    ("MatMul", "row x", "sum", {}),
    ("Squeeze", "sum middle", "pooled", {}),  # B, D
    ("LpNormalization", "pooled", "embedding", {"axis": 1, "p": 2}),
    ("Gemm", "pooled w.0.weight w.0.bias", "h0", {"transB": 1}),
    ("LayerNormalization", "h0 w.1.weight w.1.bias", "h1", {"axis": -1}),
    ("Gelu", "h1", "h2", {}),
    ("Gemm", "h2 w.4.weight w.4.bias", "h4", {"transB": 1}),
    ("LayerNormalization", "h4 w.5.weight w.5.bias", "h5", {"axis": -1}),
    ("Gelu", "h5", "h6", {}),
    ("Gemm", "h6 w.8.weight w.8.bias", "logits", {"transB": 1}),
)


def head_onnx(weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The ONNX model of a `models.heads.GlossClassifier` with this state dict."""
    tensors: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {
        "w.score": weights["score.weight"].T,
        "w.score_bias": weights["score.bias"],
        "zero": np.array(0, np.float32),
        "never": np.array(-1e4, np.float32),
        "last": np.array([-1], np.int64),
        "middle": np.array([1], np.int64),
    }
    for name, values in weights.items():
        if name.startswith("classify."):
            tensors[name.replace("classify", "w")] = values
    classes, dim = len(weights["classify.8.bias"]), weights["score.weight"].shape[1]
    graph = b"".join(_message(1, _node(*node)) for node in _NODES)
    graph += _message(2, b"head")
    graph += b"".join(_message(5, _tensor(name, values)) for name, values in tensors.items())
    graph += _message(11, _value("features", _FLOAT, "B", "T", dim))
    graph += _message(11, _value("mask", _BOOL, "B", "T"))
    graph += _message(12, _value("logits", _FLOAT, "B", classes))
    graph += _message(12, _value("attention", _FLOAT, "B", "T"))
    graph += _message(12, _value("embedding", _FLOAT, "B", dim))
    opset = _number(2, _OPSET)
    return _number(1, _IR_VERSION) + _message(7, graph) + _message(8, opset)


def _node(operator: str, inputs: str, output: str, attributes: Mapping[str, int]) -> bytes:
    node = b"".join(_message(1, name.encode()) for name in inputs.split())
    node += _message(2, output.encode()) + _message(4, operator.encode())
    for name, value in attributes.items():
        node += _message(5, _message(1, name.encode()) + _number(3, value) + _number(20, 2))  # INT
    return node


def _tensor(name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    kind = _INT64 if values.dtype == np.int64 else _FLOAT
    shape = b"".join(_number(1, size) for size in values.shape)
    return shape + _number(2, kind) + _message(8, name.encode()) + _message(9, values.tobytes())


def _value(name: str, kind: int, *axes: int | str) -> bytes:
    """An input or output: an axis of a fixed size, or of any size with a name."""
    sizes = (
        _number(1, axis) if isinstance(axis, int) else _message(2, axis.encode()) for axis in axes
    )
    shape = b"".join(_message(1, size) for size in sizes)
    tensor = _number(1, kind) + _message(2, shape)
    return _message(1, name.encode()) + _message(2, _message(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & (1 << 64) - 1)  # negative ones as 64 bits


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    low = bytearray()
    while value > 127:
        low.append(value & 127 | 128)
        value >>= 7
    return bytes([*low, value])
