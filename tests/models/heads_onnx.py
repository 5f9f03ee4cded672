"""A head that is easy to compute by hand, as ONNX bytes: mean of the real rows, times a matrix."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def mean_head(
    weights: NDArray[np.float32], *, free_axes: bool = True, embedding: bool = False
) -> bytes:
    """`weights` (D, K); the attention is even over the real steps; an embedding is the mean."""
    dim, classes = weights.shape
    b, t = ("B", "T") if free_axes else (1, 4)
    nodes = [
        helper.make_node("Cast", ["mask"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "last"], ["count"], keepdims=1),
        helper.make_node("Div", ["real", "count"], ["attention"]),
        helper.make_node("Unsqueeze", ["attention", "middle"], ["row"]),
        helper.make_node("MatMul", ["row", "features"], ["pooled"]),
        helper.make_node("Squeeze", ["pooled", "middle"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    more = []
    if embedding:
        nodes.append(helper.make_node("Identity", ["flat"], ["embedding"]))
        more.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [b, dim]))
    graph = helper.make_graph(
        nodes,
        "mean_head",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [b, t, dim]),
            helper.make_tensor_value_info("mask", TensorProto.BOOL, [b, t]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [b, classes]),
            helper.make_tensor_value_info("attention", TensorProto.FLOAT, [b, t]),
            *more,
        ],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(np.array([1], np.int64), "last"),
            numpy_helper.from_array(np.array([1], np.int64), "middle"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
