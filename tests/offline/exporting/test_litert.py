"""Heads and single operators as LiteRT files, held against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.bundle import BUILTIN
from models.landmarks import layout
from offline.exporting.litert import to_litert

_STEPS, _DIM = 4, 6


def assert_the_same(head: bytes, steps: int, *outputs: str, **inputs: NDArray[Any]) -> None:
    """LiteRT computes `outputs` of the same shapes and values as ONNX Runtime."""
    got = Interpreter(model_content=to_litert(head, steps)).get_signature_runner()(**inputs)
    session = ort.InferenceSession(head, providers=["CPUExecutionProvider"])
    assert set(got) == set(outputs) == {output.name for output in session.get_outputs()}
    for name, want in zip(outputs, session.run(outputs, inputs), strict=True):
        np.testing.assert_allclose(got[name], want, atol=1e-5)
        assert got[name].shape == want.shape


def one_operator(kind: str, *constants: NDArray[Any], **attributes: Any) -> bytes:
    """A head-like file of one node: `features` and constants in, `output` out."""
    names = [f"constant {number}" for number in range(len(constants))]
    values = [numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True)]
    node = helper.make_node(kind, ["features", *names], ["output"], **attributes)
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", "T", _DIM])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], kind, [features], [output], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def integers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("builtin", "steps", "dim", "seen"), [(True, 32, layout.DIM, 25), (False, 3, 32, 2)]
)
def test_a_head_does_the_same_in_both(
    way: Path, builtin: bool, steps: int, dim: int, seen: int
) -> None:
    head = ((BUILTIN if builtin else way / "bundle") / "head.onnx").read_bytes()
    rows = np.random.default_rng(0).normal(size=(1, steps, dim)).astype(np.float32)
    inputs = {"features": rows, "mask": np.arange(steps)[None] < seen}
    assert_the_same(head, steps, "logits", "attention", "embedding", **inputs)


@pytest.mark.parametrize(
    "head",
    [
        one_operator("Softmax", axis=1),
        one_operator("Softmax", axis=-1),
        one_operator("ReduceL2", integers(-1), keepdims=1),
        one_operator("ReduceMean", integers(1), keepdims=0),
        one_operator("ReduceSum", integers(0, 2), keepdims=1),
        one_operator("ReduceSum", keepdims=0),
        one_operator("ReduceLogSumExp", integers(-1), keepdims=1),
        one_operator("LayerNormalization", np.arange(_DIM, dtype=np.float32), epsilon=0.1),
        one_operator("Clip", np.array(-0.5, np.float32), np.array(0.5, np.float32)),
        one_operator("Clip", np.array(0.1, np.float32)),
        one_operator("Slice", integers(-3), integers(9), integers(2), integers(2)),
        one_operator("Slice", integers(1, 0), integers(2, 3)),
        one_operator("Pad", integers(0, 1, 0, 0, 0, 2)),
        one_operator("Pow", np.array(2, np.float32)),
        one_operator("Gather", integers(2, 0), axis=2),
        one_operator("GatherND", integers(0, 1).reshape(1, 2)),
        one_operator("Expand", integers(2, 1, _STEPS, _DIM)),
        one_operator("MatMul", np.ones((_DIM, 2), np.float32)),
        one_operator("Transpose", perm=[2, 0, 1]),
    ],
)
def test_an_operator_does_the_same_in_both(head: bytes) -> None:
    rows = np.random.default_rng(1).normal(size=(1, _STEPS, _DIM)).astype(np.float32)
    assert_the_same(head, _STEPS, "output", features=rows)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (one_operator("Sin"), "the operator Sin is not"),
        (one_operator("Gelu", approximate="tanh"), "only exact Gelu"),
        (one_operator("Pow", np.array(3, np.float32)), "only Pow that squares"),
        (one_operator("Pad", integers(0, 1, 0, 0, 0, 2), np.array(1, np.float32)), "by zeros"),
        (one_operator("Pad", integers(0, 1, 0, 0, 0, 2), mode="edge"), "by zeros"),
        (one_operator("ReduceL2", integers(2), keepdims=0), "with keepdims"),
        (one_operator("ReduceLogSumExp", integers(2), keepdims=0), "with keepdims"),
        (one_operator("GatherND", integers(0).reshape(1, 1), batch_dims=1), "without batch_dims"),
        (one_operator("LayerNormalization", np.ones((4, 6), np.float32), axis=1), "last axis"),
        (
            one_operator("Slice", integers(3), integers(0), integers(1), integers(-1)),
            "runs forwards",
        ),
    ],
)
def test_what_is_not_translated_is_refused(head: bytes, says: str) -> None:
    with pytest.raises(match=says):
        to_litert(head, _STEPS)


def test_weights_lie_where_every_runtime_may_read_them() -> None:
    content = to_litert((BUILTIN / "head.onnx").read_bytes(), 32)
    assert content[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(content)
    buffers = [model.Buffers(number) for number in range(model.BuffersLength())]
    field = 4  # of the first field, `data`, in a buffer's table
    starts = [b._tab.Vector(b._tab.Offset(field)) for b in buffers if b.DataLength()]
    assert len(starts) > 100
    assert [start for start in starts if start % 16] == []
