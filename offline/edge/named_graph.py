"""A LiteRT graph whose tensors go by the names, shapes and types that they have in an ONNX graph.

[litert] says which operators make what; a name that an operator takes is in the file from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from offline.edge.tflite import TfliteGraph

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
