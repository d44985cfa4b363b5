from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from proxylesskd.classifier.onnx_constant import Constants, NotConstantError

node = helper.make_node
W = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
WEIGHTS: dict[str, np.ndarray] = {
    "w": W,
    "two": np.array(2, np.float32),
    "small": np.array(0.5, np.float32),
    "column": np.linspace(1, 2, 5).astype(np.float32)[:, None],
    "axes": np.array([1], np.int64),
    "q": np.arange(15, dtype=np.int8).reshape(5, 3),
    "scale": np.array([0.1, 0.2, 0.3], np.float32),
    "zero": np.array([1, 2, 3], np.int8),
}


def model(nodes: list[Any], opset: int = 18) -> Any:
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [5, 3])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    weights = [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()]
    graph = helper.make_graph(nodes, "constants", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(
    ("nodes", "opset"),
    [
        ([node("Identity", ["w"], ["out"])], 18),
        ([node("Cast", ["w"], ["out"], to=TensorProto.FLOAT16)], 18),
        ([node("Cast", ["w"], ["out"], to=TensorProto.DOUBLE)], 18),
        ([node("Transpose", ["w"], ["out"])], 18),
        ([node("Transpose", ["w"], ["out"], perm=[1, 0])], 18),
        ([node("DequantizeLinear", ["q", "scale", "zero"], ["out"])], 19),
        ([node("DequantizeLinear", ["q", "small"], ["out"])], 19),
        ([node("Add", ["w", "column"], ["out"])], 18),
        ([node("Sub", ["w", "column"], ["out"])], 18),
        ([node("Mul", ["w", "column"], ["out"])], 18),
        ([node("Div", ["w", "column"], ["out"])], 18),
        ([node("Max", ["w", "small"], ["out"])], 18),
        ([node("Pow", ["w", "two"], ["out"])], 18),
        ([node("Pow", ["w", "two"], ["x"]), node("Sqrt", ["x"], ["out"])], 18),
        ([node("Reciprocal", ["w"], ["out"])], 18),
        ([node("Clip", ["w", "small", "two"], ["out"])], 18),
        ([node("Clip", ["w", "small"], ["out"])], 18),
        ([node("Clip", ["w"], ["out"])], 18),
        ([node("Clip", ["w"], ["out"], min=-0.5, max=0.25)], 6),
        ([node("ReduceSum", ["w", "axes"], ["out"])], 18),
        ([node("ReduceSumSquare", ["w", "axes"], ["out"], keepdims=0)], 18),
        ([node("ReduceL2", ["w", "axes"], ["out"])], 18),
        ([node("ReduceL2", ["w"], ["out"], axes=[0], keepdims=1)], 13),
        ([node("ReduceL2", ["w"], ["out"])], 18),
        ([node("LpNormalization", ["w"], ["out"], axis=0)], 18),
        ([node("LpNormalization", ["w"], ["out"])], 18),
        ([node("Constant", [], ["out"], value=numpy_helper.from_array(W))], 18),
    ],
)
def test_operators_against_the_reference(nodes: list[Any], opset: int) -> None:
    graph = model(nodes, opset)
    (expected,) = ReferenceEvaluator(graph).run(None, {"input": W})
    found = Constants(graph).value("out")
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Relu", ["w"], ["out"])],
        [node("Add", ["w", "input"], ["out"])],
        [node("Add", ["w", "nothing"], ["out"])],
        [node("Add", ["w", "scale"], ["x"]), node("Add", ["x", "q", "w"], ["out"])],
        [node("Add", ["column", "scale"], ["x"]), node("Mul", ["w", "axes", "w"], ["out"])],
        [node("Transpose", ["w"], ["t"]), node("Add", ["w", "t"], ["out"])],
        [node("Transpose", ["w"], ["out"], perm=[0, 5])],
        [node("Cast", ["w"], ["out"], to=TensorProto.INT32)],
        [node("LpNormalization", ["w"], ["out"], p=1)],
        [node("ReduceL2", ["w"], ["out"], axes=[7])],
        [node("Identity", ["w"], ["out"], domain="com.example")],
        [node("Constant", [], ["out"], value_float=1.0)],
    ],
)
def test_what_is_not_constant(nodes: list[Any]) -> None:
    constants = Constants(model(nodes))
    with pytest.raises(NotConstantError):
        constants.value("out")
    assert constants.find("out") is None


def test_where_a_constant_comes_from() -> None:
    constants = Constants(model([node("Div", ["w", "column"], ["x"]), node("Transpose", ["x"], ["out"])]))
    assert constants.largest_weight("out") == "w"
    assert constants.operators("out") == {"Div", "Transpose"}


def test_bfloat16_weights() -> None:
    graph = model([])
    bits = (W.view(np.uint32) >> 16).astype(np.uint16)
    tensor = helper.make_tensor("b", TensorProto.BFLOAT16, W.shape, bits.tobytes(), raw=True)
    graph.graph.initializer.append(tensor)
    expected = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(Constants(graph).value("b"), expected)
