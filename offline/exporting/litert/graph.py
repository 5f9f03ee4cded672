"""A LiteRT graph whose tensors go by the names, shapes and types that they have in an ONNX graph.

[litert] says which operators make what; a name that an operator takes is in the file from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_INDEX_TYPES = {"int64": "int32"}  # every runtime takes the latter, and no index here is large


class NamedGraph:
    """Of an ONNX graph whose shapes are all known, without its operators."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.values: dict[str, NDArray[Any]] = {  # of constants
            one.name: numpy_helper.to_array(one) for one in graph.initializer
        }
        self._takes = [one.name for one in graph.input]
        self._gives = [one.name for one in graph.output]
        self._kinds: dict[str, tuple[list[int], str]] = {}  # shape and type of what is computed
        for one in (*graph.input, *graph.value_info, *graph.output):
            kind = one.type.tensor_type
            shape = [axis.dim_value for axis in kind.shape.dim]
            self._kinds[one.name] = shape, helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        self._numbers: dict[str, int] = {}
        self._file = TfliteGraph()
        for name in self._takes:
            self._number(name)

    def content(self) -> bytes:
        """The file."""
        takes, gives = ({n: self._number(n) for n in names} for names in (self._takes, self._gives))
        return self._file.content(takes, gives)

    def shape(self, name: str) -> list[int]:
        return self._kind(name)[0]

    def constant(self, what: str, values: object) -> str:
        """The name of new constant `values`."""
        name = f"{what} {len(self.values)}"
        self.values[name] = np.asarray(values)
        return name

    def emit(
        self,
        operator: str,
        takes: Sequence[str],
        gives: str | None = None,
        options: dict[str, Any] | None = None,
        shape: Sequence[int] | None = None,
    ) -> str:
        """Let `operator` make `gives`, else a new tensor: of `shape`, else what `takes` makes when
        it is broadcast. Its name."""
        if gives is None:
            kinds = [self._kind(name) for name in takes]
            gives = f"{operator} {len(self._kinds)}"
            found = np.broadcast_shapes(*(kind for kind, _ in kinds)) if shape is None else shape
            self._kinds[gives] = list(found), kinds[0][1]
        numbers = [self._number(name) for name in takes]
        self._file.operator(operator, numbers, self._number(gives), options)
        return gives

    def reduce(
        self,
        operator: str,
        x: str,
        axes: Sequence[int],
        gives: str | None = None,
        *,
        keep: bool = False,
    ) -> str:
        """Let `operator` reduce `x` over `axes`; they stay, as 1, if `keep` or in `gives`."""
        shape = self.shape(x)
        if gives is not None:
            keep = len(self.shape(gives)) == len(shape)
        left = [1 if n in axes else size for n, size in enumerate(shape) if keep or n not in axes]
        options = {"kind": "ReducerOptions", "keepDims": keep}
        return self.emit(operator, [x, self.constant("axes", axes)], gives, options, left)

    def transpose(self, x: str, order: Sequence[int], gives: str | None = None) -> str:
        shape = self.shape(x)
        takes = [x, self.constant("order", order)]
        return self.emit("TRANSPOSE", takes, gives, None, [shape[axis] for axis in order])

    def _kind(self, name: str) -> tuple[list[int], str]:
        """Shape and type of a tensor."""
        if name in self.values:
            return list(self.values[name].shape), self.values[name].dtype.name
        return self._kinds[name]

    def _number(self, name: str) -> int:
        """The number of the tensor called `name`, which is in the file from now on."""
        if name not in self._numbers:
            if name in self.values:
                values = self.values[name]
                dtype = _INDEX_TYPES.get(values.dtype.name, values.dtype.name)
                self._numbers[name] = self._file.constant(name, values.astype(dtype))
            else:
                self._numbers[name] = self._file.tensor(name, *self._kind(name))
        return self._numbers[name]


# MERGED from offline.edge.tflite: Writes a `.tflite` file: tensors, constants and operators of
# one graph, by LiteRT's own schema. [litert] -> [named_graph] -> tensors and operators -> the
# bytes of a file

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # bytes, as the schema asks of every buffer
_SCHEMA = 3
# The version in which an operator first took what we give it; the others have been so from the
# first (tensorflow/lite/core/kernels/register.cc lists what a runtime takes).
_VERSIONS = {"BROADCAST_TO": 2}
_TYPES = {"float32": "FLOAT32", "int32": "INT32", "bool": "BOOL"}


class TfliteGraph:
    """A graph that grows by tensors and operators, in the order in which they run."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: list[str] = []
        self._buffers: list[Any] = [schema.BufferT()]  # 0: of all tensors that are computed

    def tensor(self, name: str, shape: Sequence[int], dtype: str) -> int:
        """A tensor that is given or computed; its number.

        Raises:
            ValueError: numbers of this type are not written.
        """
        if dtype not in _TYPES:
            raise ValueError(f"{name}: {dtype} is not written, only {', '.join(_TYPES)}")
        made = schema.TensorT()
        made.name = name.encode()
        made.shape = np.asarray(shape, np.int32)
        made.type = getattr(schema.TensorType, _TYPES[dtype])
        made.hasRank = True
        self._tensors.append(made)
        return len(self._tensors) - 1

    def constant(self, name: str, values: NDArray[Any]) -> int:
        """A tensor whose values are in the file; its number."""
        number = self.tensor(name, values.shape, values.dtype.name)
        self._tensors[number].buffer = len(self._buffers)
        self._buffers.append(_Buffer(values))
        return number

    def operator(
        self, name: str, takes: Sequence[int], gives: int, options: Mapping[str, Any] | None = None
    ) -> None:
        """Let operator `name` ("ADD") make tensor `gives`. `options`: {"kind": …, field: …}."""
        made = schema.OperatorT()
        if name not in self._codes:
            self._codes.append(name)
        made.opcodeIndex = self._codes.index(name)
        made.inputs = np.asarray(takes, np.int32)
        made.outputs = np.asarray([gives], np.int32)
        if options:
            kind = options["kind"]
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            made.builtinOptions = getattr(schema, f"{kind}T")()
            for field, value in options.items():
                if field != "kind":
                    setattr(made.builtinOptions, field, value)
        self._operators.append(made)

    def content(self, takes: Mapping[str, int], gives: Mapping[str, int]) -> bytes:
        """The file. Its one signature, `serving_default`, names what it `takes` and `gives`."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs = np.asarray(list(takes.values()), np.int32)
        graph.outputs = np.asarray(list(gives.values()), np.int32)
        signature = schema.SignatureDefT()
        signature.signatureKey = b"serving_default"
        signature.inputs, signature.outputs = _named(takes), _named(gives)
        model = schema.ModelT()
        model.version = _SCHEMA
        model.description = b"livegloss"
        model.subgraphs, model.buffers, model.signatureDefs = [graph], self._buffers, [signature]
        model.operatorCodes = [_code(name) for name in self._codes]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())


class _Buffer(schema.BufferT):  # type: ignore[misc]
    """Values at an address that every runtime may read them from; the schema's own class packs
    them wherever they fall."""

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
        made: int = schema.BufferEnd(builder)
        return made


def _code(name: str) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = getattr(schema.BuiltinOperator, name)
    made.deprecatedBuiltinCode = min(made.builtinCode, 127)  # all that a byte may say
    made.version = _VERSIONS.get(name, 1)
    return made


def _named(tensors: Mapping[str, int]) -> list[Any]:
    maps = []
    for name, number in tensors.items():
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name.encode(), number
        maps.append(made)
    return maps
