"""An exported head -> a LiteRT file for phones, which runs without ONNX.

    head.onnx, all sizes made known -> operator by operator -> head.tflite

It takes one clip of a fixed number of steps: `features` (1, T, D) float32 and `mask` (1, T) bool, and
gives what the head gives. A shorter clip is padded, which the mask tells.

Written by us, since no converter could be installed beside the rest (2026-11, Python 3.11):
litert-torch 0.10 brings 790 MB (JAX among it), needs typing_extensions < 4.13, takes half a minute
and fails on squares ("failed to legalize operation 'tfl.pow'"); onnx2tf asks for Python 3.12, its last
release before that for TensorFlow and NumPy 1.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from offline.tflite import TfliteGraph

# ONNX's operators that LiteRT has too, with the same meaning.
_SAME = {
    "Abs": "ABS",
    "Add": "ADD",
    "Cast": "CAST",
    "Div": "DIV",
    "Exp": "EXP",
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
_INDEX_TYPES = {"int64": "int32"}  # every runtime takes the latter, and no index here is large


class NotConvertible(ValueError):
    """A head with an operator, or a use of one, that is not translated; says which."""


def to_litert(head: bytes, steps: int) -> bytes:
    """`head` (the content of a `head.onnx`) as a LiteRT file for one clip of `steps` steps.

    Raises:
        NotConvertible: it has an operator that is not translated.
    """
    return _Translation(_with_sizes(head, steps)).run()


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


class _Translation:
    """One head on its way. Tensors keep their names."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._nodes = list(graph.node)
        self._gives = [one.name for one in graph.output]
        self._takes = [one.name for one in graph.input]
        self._values: dict[str, NDArray[Any]] = {
            one.name: numpy_helper.to_array(one) for one in graph.initializer
        }
        self._kinds: dict[str, tuple[list[int], str]] = {}  # shape and type of what is computed
        for one in (*graph.input, *graph.value_info, *graph.output):
            kind = one.type.tensor_type
            shape = [axis.dim_value for axis in kind.shape.dim]
            self._kinds[one.name] = shape, helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        self._made: dict[str, int] = {}
        self._out = TfliteGraph()

    def run(self) -> bytes:
        for name in self._takes:
            self._tensor(name)
        for node in self._nodes:
            self._translate(node)
        takes, gives = ({n: self._made[n] for n in names} for names in (self._takes, self._gives))
        return self._out.content(takes, gives)

    def _translate(self, node: onnx.NodeProto) -> None:
        kind, [gives] = node.op_type, node.output
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if kind == "Gelu" and attributes.get("approximate", b"none") != b"none":
            raise NotConvertible("an approximate Gelu is not translated to LiteRT")
        if kind in _SAME:
            takes = [self._tensor(name) for name in node.input]
            self._out.operator(_SAME[kind], takes, self._tensor(gives))
        elif kind in _OTHER_SHAPE:
            self._emit("RESHAPE", [node.input[0], self._shape(gives)], gives)
        elif kind in _REDUCTIONS:
            self._reduce(_REDUCTIONS[kind], node.input[0], self._axes(node), gives)
        elif (translate := _OTHERS.get(kind)) is not None:
            translate(self, node, attributes)
        else:
            raise NotConvertible(f"the operator {kind} is not translated to LiteRT")

    # --- operators that need more than another name ---------------------------------------------

    def _clip(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        bounds = [("MAXIMUM", name) for name in node.input[1:2] if name]
        bounds += [("MINIMUM", name) for name in node.input[2:3] if name]
        current = node.input[0]
        for number, (operator, bound) in enumerate(bounds, 1):
            last = number == len(bounds)
            current = self._emit(operator, [current, bound], node.output[0] if last else None)

    def _concat(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        options = {"kind": "ConcatenationOptions", "axis": attributes["axis"]}
        self._emit("CONCATENATION", list(node.input), node.output[0], options)

    def _expand(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        [gives] = node.output
        self._emit("BROADCAST_TO", [node.input[0], self._shape(gives)], gives)

    def _gather(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        options = {"kind": "GatherOptions", "axis": attributes.get("axis", 0)}
        self._emit("GATHER", list(node.input), node.output[0], options)

    def _gather_nd(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if attributes.get("batch_dims", 0):
            raise NotConvertible("GatherND with batch_dims is not translated to LiteRT")
        self._emit("GATHER_ND", list(node.input), node.output[0])

    def _gemm(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        plain = attributes.get("alpha", 1) == attributes.get("beta", 1) == 1
        if not plain or attributes.get("transA") or node.input[1] not in self._values:
            raise NotConvertible("only Gemm by weights, unscaled, is translated to LiteRT")
        weights = self._values[node.input[1]]
        if not attributes.get("transB"):
            weights = weights.T  # LiteRT has them a row for each output
        name = self._constant(f"{node.input[1]} by rows", weights)
        self._emit("FULLY_CONNECTED", [node.input[0], name, *node.input[2:]], node.output[0])

    def _layer_norm(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        x, scale, *bias = node.input
        rank = len(self._kind(x)[0])
        if attributes.get("axis", -1) not in (-1, rank - 1):
            raise NotConvertible("only LayerNormalization of the last axis is translated to LiteRT")
        epsilon = np.float32(attributes.get("epsilon", 1e-5))
        mean = self._reduce("MEAN", x, [rank - 1], keep=True)
        spread = self._emit("SQUARED_DIFFERENCE", [x, mean])
        spread = self._reduce("MEAN", spread, [rank - 1], keep=True)
        spread = self._emit("ADD", [spread, self._constant("epsilon", np.array(epsilon))])
        inverse = self._emit("RSQRT", [spread])
        normal = self._emit("MUL", [self._emit("SUB", [x, mean]), inverse])
        scaled = self._emit("MUL", [normal, scale], None if bias else node.output[0])
        if bias:
            self._emit("ADD", [scaled, *bias], node.output[0])

    def _log_sum_exp(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if not attributes.get("keepdims", 1):
            raise NotConvertible("ReduceLogSumExp without keepdims is not translated to LiteRT")
        x, axes = node.input[0], self._axes(node)
        largest = self._reduce("REDUCE_MAX", x, axes, keep=True)
        powers = self._emit("EXP", [self._emit("SUB", [x, largest])])
        total = self._emit("LOG", [self._reduce("SUM", powers, axes, keep=True)])
        self._emit("ADD", [total, largest], node.output[0])

    def _length(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        squares = self._emit("SQUARE", [node.input[0]])
        shape, _ = self._kind(node.output[0])
        keep = len(shape) == len(self._kind(squares)[0])
        self._emit(
            "SQRT", [self._reduce("SUM", squares, self._axes(node), keep=keep)], *node.output
        )

    def _pad(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        x, pads, *rest = node.input
        value = self._values[rest[0]] if rest and rest[0] else np.zeros(1)
        if attributes.get("mode", b"constant") != b"constant" or value.any() or rest[1:]:
            raise NotConvertible("only padding all axes by zeros is translated to LiteRT")
        around = self._values[pads].reshape(2, -1).T  # ONNX: all before, then all after
        self._emit("PAD", [x, self._constant("pads", around)], node.output[0])

    def _power(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        x, exponent = node.input
        if exponent not in self._values or (self._values[exponent] != 2).any():
            raise NotConvertible("only squares are translated to LiteRT, no other power")
        self._emit("SQUARE", [x], node.output[0])

    def _slice(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        x, *how = node.input
        starts, ends, axes, *steps = (self._values[name].tolist() for name in how)
        shape, _ = self._kind(x)
        begin, end, stride = [0] * len(shape), list(shape), [1] * len(shape)
        for start, stop, axis, step in zip(starts, ends, axes, *(steps or [[1] * len(axes)])):
            if step < 1:
                raise NotConvertible("slices that run backwards are not translated to LiteRT")
            begin[axis], end[axis], stride[axis] = slice(start, stop, step).indices(shape[axis])
        parts = [self._constant("slice", np.array(part)) for part in (begin, end, stride)]
        self._emit("STRIDED_SLICE", [x, *parts], node.output[0])

    def _softmax(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        [x], [gives] = node.input, node.output
        options = {"kind": "SoftmaxOptions", "beta": 1.0}
        order = list(range(len(self._kind(x)[0])))
        axis = attributes.get("axis", -1) % len(order)
        if axis == order[-1]:
            self._emit("SOFTMAX", [x], gives, options)
            return
        order[axis], order[-1] = order[-1], order[axis]  # LiteRT's is over the last axis
        turned = self._emit("SOFTMAX", [self._turn(x, order)], None, options)
        self._turn(turned, order, gives)

    def _transpose(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        self._turn(node.input[0], attributes["perm"], node.output[0])

    # --- tensors ----------------------------------------------------------------------------------

    def _tensor(self, name: str) -> int:
        """The number of the tensor called `name`, in the file from now on."""
        if name not in self._made:
            if name in self._values:
                values = self._values[name]
                dtype = _INDEX_TYPES.get(values.dtype.name, values.dtype.name)
                self._made[name] = self._out.constant(name, values.astype(dtype))
            else:
                self._made[name] = self._out.tensor(name, *self._kind(name))
        return self._made[name]

    def _kind(self, name: str) -> tuple[list[int], str]:
        """Shape and type of a tensor."""
        if name in self._values:
            return list(self._values[name].shape), self._values[name].dtype.name
        return self._kinds[name]

    def _constant(self, what: str, values: NDArray[Any]) -> str:
        """The name of new constant `values`."""
        name = f"{what} {len(self._values)}"
        self._values[name] = values
        return name

    def _shape(self, name: str) -> str:
        """The name of a constant that says the shape of a tensor."""
        return self._constant("shape", np.array(self._kind(name)[0], np.int64))

    def _axes(self, node: onnx.NodeProto) -> list[int]:
        """Which axes a reduction is over; all, where it doesn't say."""
        rank = len(self._kind(node.input[0])[0])
        named = self._values[node.input[1]].tolist() if len(node.input) > 1 else range(rank)
        return [axis % rank for axis in named]

    def _emit(
        self,
        operator: str,
        takes: Sequence[str],
        gives: str | None = None,
        options: dict[str, Any] | None = None,
        shape: Sequence[int] | None = None,
    ) -> str:
        """Let `operator` make `gives`, or a new tensor: of `shape`, or what `takes` broadcast to."""
        if gives is None:
            kinds = [self._kind(name) for name in takes]
            gives = f"{operator} {len(self._kinds)}"
            found = np.broadcast_shapes(*(kind for kind, _ in kinds)) if shape is None else shape
            self._kinds[gives] = list(found), kinds[0][1]
        numbers = [self._tensor(name) for name in takes]
        self._out.operator(operator, numbers, self._tensor(gives), options)
        return gives

    def _reduce(
        self,
        operator: str,
        x: str,
        axes: Sequence[int],
        gives: str | None = None,
        *,
        keep: bool = False,
    ) -> str:
        shape, _ = self._kind(x)
        if gives is not None:
            keep = len(self._kind(gives)[0]) == len(shape)
        left = [1 if n in axes else size for n, size in enumerate(shape) if keep or n not in axes]
        along = self._constant("axes", np.array(axes, np.int64))
        options = {"kind": "ReducerOptions", "keepDims": keep}
        return self._emit(operator, [x, along], gives, options, left)

    def _turn(self, x: str, order: Sequence[int], gives: str | None = None) -> str:
        shape, _ = self._kind(x)
        names = [x, self._constant("order", np.array(order, np.int64))]
        return self._emit("TRANSPOSE", names, gives, None, [shape[axis] for axis in order])


_OTHERS: dict[str, Callable[[_Translation, onnx.NodeProto, dict[str, Any]], None]] = {
    "Clip": _Translation._clip,
    "Concat": _Translation._concat,
    "Expand": _Translation._expand,
    "Gather": _Translation._gather,
    "GatherND": _Translation._gather_nd,
    "Gemm": _Translation._gemm,
    "LayerNormalization": _Translation._layer_norm,
    "Pad": _Translation._pad,
    "Pow": _Translation._power,
    "ReduceL2": _Translation._length,
    "ReduceLogSumExp": _Translation._log_sum_exp,
    "Slice": _Translation._slice,
    "Softmax": _Translation._softmax,
    "Transpose": _Translation._transpose,
}
