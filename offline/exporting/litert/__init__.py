"""An exported head -> a LiteRT file for phones, which run it without ONNX.

    head.onnx, all sizes fixed -> operator by operator -> tensors and operators -> head.tflite

It takes one clip of a fixed number of steps, `features` (1, T, D) float32 and `mask` (1, T) bool,
and returns what the head returns. A shorter clip is padded; the mask says so.

Written by us, since no converter installs beside our other packages (tried 2026-11, Python 3.11):
* litert-torch 0.10.0 (once ai-edge-torch) converts our heads, the landmark head only with squares
  written as products ("failed to legalize operation 'tfl.pow'"), in 25 to 50 s. But its xdsl 0.28
  needs typing_extensions < 4.13, tyro 1.0.17 at least 4.13; and it brings 800 MB, JAX among it.
* onnx2tf 2.6.9 needs Python 3.12; 1.29.24 pins TensorFlow 2.19, NumPy 1.26 and onnx 1.19.
* TinyNeuralNetwork is not on PyPI.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import onnx
import onnxruntime as ort
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

# ONNX operators that LiteRT has too, with the same meaning.
_SAME = {name: name.upper() for name in "Abs Add Cast Div Gelu Greater Mul Relu Sqrt Sub".split()}
_SAME |= {"MatMul": "BATCH_MATMUL", "Not": "LOGICAL_NOT", "Where": "SELECT_V2"}
_REDUCTIONS = {"ReduceMean": "MEAN", "ReduceProd": "REDUCE_PROD", "ReduceSum": "SUM"}

# LiteRT operators with options, and the version of operators whose first version can't do what we
# ask (tensorflow/lite/core/kernels/register.cc lists what a runtime takes).
_OPTIONS = {
    "CONCATENATION": "ConcatenationOptions",
    "GATHER": "GatherOptions",
    "SOFTMAX": "SoftmaxOptions",
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "REDUCE_PROD", "SUM"), "ReducerOptions"),
}
_VERSIONS = {"BROADCAST_TO": 2}

_ALIGNMENT = 16  # bytes, as the schema asks of every buffer
_TYPES = {"float32": "FLOAT32", "int32": "INT32", "bool": "BOOL"}


def to_litert(head: bytes, steps: int) -> bytes:
    """`head` (the content of a `head.onnx`) as a LiteRT file for one clip of `steps` steps.

    Raises:
        ValueError: it has an operator, or a use of one, that is not translated.
    """
    # Sizes are fixed, and what depends on sizes alone is computed.
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_free_dimension_override_by_name("B", 1)
    options.add_free_dimension_override_by_name("T", steps)
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/head.onnx"
        ort.InferenceSession(head, options, providers=["CPUExecutionProvider"])
        fixed = onnx.load(options.optimized_model_filepath)
    model = shape_inference.infer_shapes(fixed, data_prop=True)
    graph = _Graph(model.graph)
    for node in model.graph.node:
        _translate(graph, node)
    return graph.content()


class _Graph:
    """A LiteRT graph under construction, with the names of values of an ONNX graph.

    A value is written to the file when an operator first takes or returns it.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants: dict[str, NDArray[Any]] = {}
        self._kinds: dict[str, tuple[list[int], str]] = {}  # shape and type of every value
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            shape = [axis.dim_value for axis in kind.shape.dim]
            self._kinds[value.name] = shape, helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        for value in graph.initializer:
            self.constant(numpy_helper.to_array(value), value.name)
        self._numbers: dict[str, int] = {}  # of the tensors in the file
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # 0: the empty one of all computed tensors
        self._operators: list[Any] = []
        self._codes: list[str] = []
        self._inputs = {value.name: self._number(value.name) for value in graph.input}
        self._outputs = [value.name for value in graph.output]

    def shape(self, name: str) -> list[int]:
        return self._kinds[name][0]

    def constant(self, values: object, name: str | None = None) -> str:
        """Add a constant; its name, a new one if None."""
        name = name or f"litert constant {len(self.constants)}"
        array = self.constants[name] = np.asarray(values)
        self._kinds[name] = list(array.shape), array.dtype.name
        return name

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str | None = None,
        shape: Sequence[int] | None = None,
        **options: Any,
    ) -> str:
        """Add an operator ("ADD") that computes `output`, whose name is returned.

        None: a new value, of `shape`, else of the inputs' shape when they are broadcast.
        """
        if output is None:
            output = f"litert {operator} {len(self._kinds)}"
            if shape is None:
                shape = np.broadcast_shapes(*map(self.shape, inputs))
            self._kinds[output] = list(shape), self._kinds[inputs[0]][1]
        if operator not in self._codes:
            self._codes.append(operator)
        kind = _OPTIONS.get(operator, "NONE")
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=self._codes.index(operator),
                inputs=np.array([self._number(name) for name in inputs], np.int32),
                outputs=np.array([self._number(output)], np.int32),
                builtinOptionsType=getattr(schema.BuiltinOptions, kind),
                builtinOptions=getattr(schema, f"{kind}T")(**options) if options else None,
            )
        )
        return output

    def reduce(self, operator: str, x: str, axes: Sequence[int], output: str | None = None) -> str:
        """Add an operator that reduces `x` over `axes`, which stay, as 1, if `output` has them."""
        shape = self.shape(x)
        keep = output is None or len(self.shape(output)) == len(shape)
        left = [1 if axis in axes else size for axis, size in enumerate(shape)]
        return self.add(operator, [x, self.constant(axes)], output, left, keepDims=keep)

    def transpose(self, x: str, order: Sequence[int], output: str | None = None) -> str:
        shape = self.shape(x)
        turned = [shape[axis] for axis in order]
        return self.add("TRANSPOSE", [x, self.constant(order)], output, turned)

    def content(self) -> bytes:
        """The file. Its one signature, `serving_default`, names the head's inputs and outputs."""
        outputs = {name: self._number(name) for name in self._outputs}
        graph = schema.SubGraphT(
            tensors=self._tensors,
            operators=self._operators,
            inputs=np.array(list(self._inputs.values()), np.int32),
            outputs=np.array(list(outputs.values()), np.int32),
        )
        signature = schema.SignatureDefT(
            signatureKey=b"serving_default", inputs=_named(self._inputs), outputs=_named(outputs)
        )
        model = schema.ModelT(
            version=3,  # of the schema
            description=b"livegloss",
            subgraphs=[graph],
            buffers=self._buffers,
            signatureDefs=[signature],
            operatorCodes=[_code(operator) for operator in self._codes],
        )
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _number(self, name: str) -> int:
        """The number of the tensor `name`, which is in the file from now on."""
        if name in self._numbers:
            return self._numbers[name]
        shape, dtype = self._kinds[name]
        buffer = 0
        if name in self.constants:
            # No index here is large, and every runtime takes int32.
            dtype = "int32" if dtype == "int64" else dtype
            buffer = len(self._buffers)
            self._buffers.append(_AlignedBuffer(self.constants[name].astype(dtype)))
        if dtype not in _TYPES:
            raise ValueError(f"{name}: {dtype} is not translated to LiteRT")
        tensor = schema.TensorT(name=name.encode(), buffer=buffer, hasRank=True)
        tensor.shape = np.array(shape, np.int32)
        tensor.type = getattr(schema.TensorType, _TYPES[dtype])
        self._tensors.append(tensor)
        self._numbers[name] = len(self._tensors) - 1
        return self._numbers[name]


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """Values at an address from which every runtime may read; the schema's class doesn't align."""

    def __init__(self, values: NDArray[Any]) -> None:
        super().__init__()
        self._content = np.ascontiguousarray(values).tobytes()

    def Pack(self, builder: Any) -> int:
        size = len(self._content)
        builder.StartVector(1, size, _ALIGNMENT)
        builder.head = builder.Head() - size
        builder.Bytes[builder.Head() : builder.Head() + size] = self._content
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def _code(operator: str) -> Any:
    code = getattr(schema.BuiltinOperator, operator)
    return schema.OperatorCodeT(
        builtinCode=code,
        deprecatedBuiltinCode=min(code, 127),  # the most that its byte can hold
        version=_VERSIONS.get(operator, 1),
    )


def _named(numbers: dict[str, int]) -> list[Any]:
    return [schema.TensorMapT(name.encode(), number) for name, number in numbers.items()]


def _translate(graph: _Graph, node: onnx.NodeProto) -> None:
    """Add the operators that compute the node's output."""
    kind, output = node.op_type, node.output[0]
    x, *others = node.input
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    match kind:
        case "Reshape" | "Squeeze" | "Unsqueeze":  # the same numbers in the same order
            graph.add("RESHAPE", [x, graph.constant(graph.shape(output))], output)
        case "Expand":
            graph.add("BROADCAST_TO", [x, graph.constant(graph.shape(output))], output)
        case "Transpose":
            graph.transpose(x, attributes["perm"], output)
        case "Concat":
            graph.add("CONCATENATION", node.input, output, axis=attributes["axis"])
        case "Gather":
            graph.add("GATHER", node.input, output, axis=attributes.get("axis", 0))
        case "GatherND":
            _need(not attributes.get("batch_dims"), "GatherND without batch_dims")
            graph.add("GATHER_ND", node.input, output)
        case "ReduceMean" | "ReduceProd" | "ReduceSum":
            graph.reduce(_REDUCTIONS[kind], x, _axes(graph, node), output)
        case "ReduceL2":
            _need(attributes.get("keepdims", 1), "ReduceL2 with keepdims")
            total = graph.reduce("SUM", graph.add("SQUARE", [x]), _axes(graph, node))
            graph.add("SQRT", [total], output)
        case "ReduceLogSumExp":
            _need(attributes.get("keepdims", 1), "ReduceLogSumExp with keepdims")
            axes = _axes(graph, node)
            largest = graph.reduce("REDUCE_MAX", x, axes)
            powers = graph.add("EXP", [graph.add("SUB", [x, largest])])
            total = graph.reduce("SUM", powers, axes)
            graph.add("ADD", [graph.add("LOG", [total]), largest], output)
        case "Pow":
            squares = (graph.constants.get(others[0], np.zeros(1)) == 2).all()
            _need(squares, "Pow that squares")
            graph.add("SQUARE", [x], output)
        case "Clip":
            bounds = zip(("MAXIMUM", "MINIMUM"), others, strict=False)
            limits = [(operator, bound) for operator, bound in bounds if bound]
            for number, (operator, bound) in enumerate(limits, 1):
                x = graph.add(operator, [x, bound], output if number == len(limits) else None)
        case "Gemm":
            by, *bias = others
            plain = attributes.get("alpha", 1) == attributes.get("beta", 1) == 1
            plain = plain and not attributes.get("transA") and by in graph.constants
            _need(plain, "Gemm by weights, unscaled,")
            weights = graph.constants[by]  # LiteRT wants a row for each output
            weights = weights if attributes.get("transB") else weights.T
            graph.add("FULLY_CONNECTED", [x, graph.constant(weights), *bias], output)
        case "LayerNormalization":
            scale, *bias = others
            last = len(graph.shape(x)) - 1
            _need(attributes.get("axis", -1) in (-1, last), "LayerNormalization of the last axis")
            epsilon = graph.constant(np.float32(attributes.get("epsilon", 1e-5)))
            mean = graph.reduce("MEAN", x, [last])
            variance = graph.reduce("MEAN", graph.add("SQUARED_DIFFERENCE", [x, mean]), [last])
            inverse = graph.add("RSQRT", [graph.add("ADD", [variance, epsilon])])
            normal = graph.add("MUL", [graph.add("SUB", [x, mean]), inverse])
            scaled = graph.add("MUL", [normal, scale], None if bias else output)
            if bias:
                graph.add("ADD", [scaled, *bias], output)
        case "Pad":
            pads, *rest = others
            value = graph.constants[rest[0]] if rest and rest[0] else np.zeros(1)
            zeros = attributes.get("mode", b"constant") == b"constant" and not value.any()
            _need(zeros and not rest[1:], "padding all axes by zeros")
            by_axis = graph.constants[pads].reshape(2, -1).T  # ONNX: before all axes, then after
            graph.add("PAD", [x, graph.constant(by_axis)], output)
        case "Slice":
            starts, ends, *rest = (graph.constants[name].tolist() for name in others)
            which = rest[0] if rest else range(len(starts))
            steps = rest[1] if rest[1:] else [1] * len(starts)
            _need(min(steps) > 0, "Slice that runs forwards")
            shape = graph.shape(x)
            begin, end, stride = [0] * len(shape), list(shape), [1] * len(shape)
            for start, stop, axis, step in zip(starts, ends, which, steps, strict=True):
                begin[axis], end[axis], stride[axis] = slice(start, stop, step).indices(shape[axis])
            cut = [graph.constant(part) for part in (begin, end, stride)]
            graph.add("STRIDED_SLICE", [x, *cut], output)
        case "Softmax":
            order = list(range(len(graph.shape(x))))
            axis = attributes.get("axis", -1) % len(order)
            if axis == order[-1]:
                graph.add("SOFTMAX", [x], output, beta=1.0)
            else:  # LiteRT's is over the last axis
                order[axis], order[-1] = order[-1], order[axis]
                turned = graph.add("SOFTMAX", [graph.transpose(x, order)], beta=1.0)
                graph.transpose(turned, order, output)
        case _:
            if kind == "Gelu":
                _need(attributes.get("approximate", b"none") == b"none", "exact Gelu")
            if kind not in _SAME:
                raise ValueError(f"the operator {kind} is not translated to LiteRT")
            graph.add(_SAME[kind], node.input, output)


def _need(condition: object, use: str) -> None:
    """Raise ValueError unless `condition`: a `use` of an operator that is translated."""
    if not condition:
        raise ValueError(f"only {use} is translated to LiteRT")


def _axes(graph: _Graph, node: onnx.NodeProto) -> list[int]:
    """The axes that a reduction is over: all, where it names none."""
    rank = len(graph.shape(node.input[0]))
    named = graph.constants[node.input[1]].tolist() if len(node.input) > 1 else range(rank)
    return [axis % rank for axis in named]
