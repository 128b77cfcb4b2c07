"""A tiny backbone for tests of commands."""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_onnx(path: pathlib.Path, dim: int = 32) -> None:
    """The mean of each channel's rows, projected: [n, 3, 112, 112] -> [n, dim]."""
    weight = np.random.default_rng(0).standard_normal((336, dim)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["out"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", dim])],
        [numpy_helper.from_array(np.array([2]), "axes"), numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
