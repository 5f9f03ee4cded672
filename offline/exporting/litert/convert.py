"""An exported head -> a LiteRT file for phones, which runs without ONNX.

    head.onnx, all sizes made known -> operator by operator -> head.tflite

It takes one clip of a fixed number of steps, `features` (1, T, D) float32 and `mask` (1, T) bool,
and gives what the head gives. A shorter clip is padded; the mask tells that.

Written by us, since no converter goes with the rest (2026-11, Python 3.11): litert-torch 0.10
brings 790 MB, JAX among it, wants typing_extensions < 4.13, takes half a minute and fails on
squares ("failed to legalize operation 'tfl.pow'"); onnx2tf 2 wants Python 3.12, its last release
for ours TensorFlow and NumPy 1.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, shape_inference

from offline.exporting.litert.graph import NamedGraph

# ONNX's operators that LiteRT has too, with the same meaning.
_SAME = {
    "Abs": "ABS",
    "Add": "ADD",
    "Cast": "CAST",
    "Div": "DIV",
    "Gelu": "GELU",
    "Greater": "GREATER",
    "MatMul": "BATCH_MATMUL",
    "Mul": "MUL",
    "Not": "LOGICAL_NOT",
    "Relu": "RELU",
    "Sqrt": "SQRT",
    "Sub": "SUB",
    "Where": "SELECT_V2",
}
_REDUCTIONS = {"ReduceMean": "MEAN", "ReduceProd": "REDUCE_PROD", "ReduceSum": "SUM"}
_OTHER_SHAPE = ("Reshape", "Squeeze", "Unsqueeze")  # the same numbers in the same order

_Attributes = dict[str, Any]


class NotConvertible(ValueError):
    """A head with an operator, or a use of one, that is not translated; says which."""


class _Translate(Protocol):
    """Adds to the graph what makes `node`'s outputs."""

    def __call__(self, graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None: ...


def to_litert(head: bytes, steps: int) -> bytes:
    """`head` (the content of a `head.onnx`) as a LiteRT file for one clip of `steps` steps.

    Raises:
        NotConvertible: it has an operator that is not translated.
    """
    model = _with_sizes(head, steps)
    graph = NamedGraph(model.graph)
    for node in model.graph.node:
        _translate(graph, node)
    return graph.content()


def _with_sizes(head: bytes, steps: int) -> onnx.ModelProto:
    """The head for one clip of `steps` steps: what follows from the sizes alone is computed."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_free_dimension_override_by_name("B", 1)
    options.add_free_dimension_override_by_name("T", steps)
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/head.onnx"
        ort.InferenceSession(head, options, providers=["CPUExecutionProvider"])
        return shape_inference.infer_shapes(onnx.load(Path(folder, "head.onnx")), data_prop=True)


def _translate(graph: NamedGraph, node: onnx.NodeProto) -> None:
    kind, [gives] = node.op_type, node.output
    how = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if kind == "Gelu" and how.get("approximate", b"none") != b"none":
        raise NotConvertible("an approximate Gelu is not translated to LiteRT")
    if kind in _SAME:
        graph.emit(_SAME[kind], list(node.input), gives)
    elif kind in _OTHER_SHAPE:
        shape = graph.constant("shape", graph.shape(gives))
        graph.emit("RESHAPE", [node.input[0], shape], gives)
    elif kind in _REDUCTIONS:
        graph.reduce(_REDUCTIONS[kind], node.input[0], _axes(graph, node), gives)
    elif kind in _OTHERS:
        _OTHERS[kind](graph, node, how)
    else:
        raise NotConvertible(f"the operator {kind} is not translated to LiteRT")


# --- operators that need more than another name -----------------------------------------------


def _clip(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    bounds = [("MAXIMUM", name) for name in node.input[1:2] if name]
    bounds += [("MINIMUM", name) for name in node.input[2:3] if name]
    current = node.input[0]
    for number, (operator, bound) in enumerate(bounds, 1):
        last = number == len(bounds)
        current = graph.emit(operator, [current, bound], node.output[0] if last else None)


def _concat(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    options = {"kind": "ConcatenationOptions", "axis": how["axis"]}
    graph.emit("CONCATENATION", list(node.input), node.output[0], options)


def _expand(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    [gives] = node.output
    graph.emit("BROADCAST_TO", [node.input[0], graph.constant("shape", graph.shape(gives))], gives)


def _gather(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    options = {"kind": "GatherOptions", "axis": how.get("axis", 0)}
    graph.emit("GATHER", list(node.input), node.output[0], options)


def _gather_nd(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    if how.get("batch_dims", 0):
        raise NotConvertible("GatherND with batch_dims is not translated to LiteRT")
    graph.emit("GATHER_ND", list(node.input), node.output[0])


def _gemm(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    plain = how.get("alpha", 1) == how.get("beta", 1) == 1
    if not plain or how.get("transA") or node.input[1] not in graph.values:
        raise NotConvertible("only Gemm by weights, unscaled, is translated to LiteRT")
    weights = graph.values[node.input[1]]
    if not how.get("transB"):
        weights = weights.T  # LiteRT has them a row for each output
    name = graph.constant(f"{node.input[1]} by rows", weights)
    graph.emit("FULLY_CONNECTED", [node.input[0], name, *node.input[2:]], node.output[0])


def _layer_norm(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    x, scale, *bias = node.input
    rank = len(graph.shape(x))
    if how.get("axis", -1) not in (-1, rank - 1):
        raise NotConvertible("only LayerNormalization of the last axis is translated to LiteRT")
    epsilon = np.float32(how.get("epsilon", 1e-5))
    mean = graph.reduce("MEAN", x, [rank - 1], keep=True)
    spread = graph.emit("SQUARED_DIFFERENCE", [x, mean])
    spread = graph.reduce("MEAN", spread, [rank - 1], keep=True)
    spread = graph.emit("ADD", [spread, graph.constant("epsilon", epsilon)])
    inverse = graph.emit("RSQRT", [spread])
    normal = graph.emit("MUL", [graph.emit("SUB", [x, mean]), inverse])
    scaled = graph.emit("MUL", [normal, scale], None if bias else node.output[0])
    if bias:
        graph.emit("ADD", [scaled, *bias], node.output[0])


def _log_sum_exp(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    if not how.get("keepdims", 1):
        raise NotConvertible("ReduceLogSumExp without keepdims is not translated to LiteRT")
    x, axes = node.input[0], _axes(graph, node)
    largest = graph.reduce("REDUCE_MAX", x, axes, keep=True)
    powers = graph.emit("EXP", [graph.emit("SUB", [x, largest])])
    total = graph.emit("LOG", [graph.reduce("SUM", powers, axes, keep=True)])
    graph.emit("ADD", [total, largest], node.output[0])


def _length(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    squares = graph.emit("SQUARE", [node.input[0]])
    keep = len(graph.shape(node.output[0])) == len(graph.shape(squares))
    total = graph.reduce("SUM", squares, _axes(graph, node), keep=keep)
    graph.emit("SQRT", [total], node.output[0])


def _pad(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    x, pads, *rest = node.input
    value = graph.values[rest[0]] if rest and rest[0] else np.zeros(1)
    if how.get("mode", b"constant") != b"constant" or value.any() or rest[1:]:
        raise NotConvertible("only padding all axes by zeros is translated to LiteRT")
    around = graph.values[pads].reshape(2, -1).T  # ONNX: all before, then all after
    graph.emit("PAD", [x, graph.constant("pads", around)], node.output[0])


def _power(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    x, exponent = node.input
    if exponent not in graph.values or (graph.values[exponent] != 2).any():
        raise NotConvertible("only squares are translated to LiteRT, no other power")
    graph.emit("SQUARE", [x], node.output[0])


def _slice(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    x, *parts = node.input
    starts, ends, *rest = (graph.values[name].tolist() for name in parts)
    axes = rest[0] if rest else range(len(starts))
    steps = rest[1] if rest[1:] else [1] * len(starts)
    shape = graph.shape(x)
    begin, end, stride = [0] * len(shape), list(shape), [1] * len(shape)
    for start, stop, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise NotConvertible("slices that run backwards are not translated to LiteRT")
        begin[axis], end[axis], stride[axis] = slice(start, stop, step).indices(shape[axis])
    bounds = [graph.constant("slice", part) for part in (begin, end, stride)]
    graph.emit("STRIDED_SLICE", [x, *bounds], node.output[0])


def _softmax(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    [x], [gives] = node.input, node.output
    options = {"kind": "SoftmaxOptions", "beta": 1.0}
    order = list(range(len(graph.shape(x))))
    axis = how.get("axis", -1) % len(order)
    if axis == order[-1]:
        graph.emit("SOFTMAX", [x], gives, options)
        return
    order[axis], order[-1] = order[-1], order[axis]  # LiteRT's is over the last axis
    turned = graph.emit("SOFTMAX", [graph.transpose(x, order)], None, options)
    graph.transpose(turned, order, gives)


def _transpose(graph: NamedGraph, node: onnx.NodeProto, how: _Attributes) -> None:
    graph.transpose(node.input[0], how["perm"], node.output[0])


def _axes(graph: NamedGraph, node: onnx.NodeProto) -> list[int]:
    """Which axes a reduction is over; all, where it doesn't say."""
    rank = len(graph.shape(node.input[0]))
    named = graph.values[node.input[1]].tolist() if len(node.input) > 1 else range(rank)
    return [axis % rank for axis in named]


_OTHERS: dict[str, _Translate] = {
    "Clip": _clip,
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "Pad": _pad,
    "Pow": _power,
    "ReduceL2": _length,
    "ReduceLogSumExp": _log_sum_exp,
    "Slice": _slice,
    "Softmax": _softmax,
    "Transpose": _transpose,
}
