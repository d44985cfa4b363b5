from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from proxylesskd.export import graph
from proxylesskd.export.graph import as_maximum, as_sum, expand_prelus, fold_norms, tidy

RANDOM = np.random.default_rng(0)


def _model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 6, 6])
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    inner = helper.make_graph(nodes, "g", [image], [output], tensors)
    return helper.make_model(inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _run(proto: onnx.ModelProto) -> np.ndarray:
    image = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(["embedding"], {"image": image})[0]


def _norm(name: str, channels: int) -> dict[str, np.ndarray]:
    values = RANDOM.uniform(0.5, 2, (4, channels))
    return {f"{name}{part}": value for part, value in zip("gbmv", values, strict=True)}


def _normed(before: str, after: str, name: str, **attributes: float) -> onnx.NodeProto:
    return helper.make_node("BatchNormalization", [before, *(f"{name}{p}" for p in "gbmv")], [after], **attributes)


@pytest.mark.parametrize("bias", [False, True])
def test_norms_go_into_the_layer_before_them(bias: bool) -> None:
    """The same numbers out of onnxruntime before and after."""
    constants = {"w": RANDOM.normal(size=(4, 3, 3, 3)), "l": RANDOM.normal(size=(5, 64)), **_norm("n", 4)}
    constants |= {"c": RANDOM.normal(size=4), **_norm("o", 5)}
    nodes = [
        helper.make_node("Conv", ["image", "w", *(["c"] if bias else [])], ["a"]),
        _normed("a", "b", "n", epsilon=0.1),
        helper.make_node("Flatten", ["b"], ["flat"]),
        helper.make_node("Gemm", ["flat", "l"], ["d"], transB=1),
        _normed("d", "embedding", "o"),
    ]
    proto = _model(nodes, constants)
    expected = _run(proto)
    fold_norms(proto)
    assert [node.op_type for node in proto.graph.node] == ["Conv", "Flatten", "Gemm"]
    np.testing.assert_allclose(_run(proto), expected, rtol=1e-4, atol=1e-4)


def test_a_layer_that_others_read_too_keeps_its_norm() -> None:
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"]),
        _normed("a", "b", "n"),
        helper.make_node("Add", ["a", "b"], ["embedding"]),
    ]
    proto = _model(nodes, {"w": RANDOM.normal(size=(4, 3, 3, 3)), **_norm("n", 4)})
    expected = _run(proto)
    fold_norms(proto)
    assert [node.op_type for node in proto.graph.node] == ["Conv", "BatchNormalization", "Add"]
    np.testing.assert_array_equal(_run(proto), expected)


@pytest.mark.parametrize("slopes", [[0.2, -0.5, 0.9], [0.2, 1.5, 1.0]])
def test_other_forms_of_a_prelu_compute_the_same(slopes: list[float]) -> None:
    node = helper.make_node("PRelu", ["image", "s"], ["embedding"])
    constants = {"s": np.array(slopes).reshape(3, 1, 1)}
    expected = _run(_model([node], constants))
    for rewrite in (as_sum, as_maximum):
        proto = _model([node], constants)
        expand_prelus(proto, rewrite)
        np.testing.assert_allclose(_run(proto), expected, atol=1e-6)
    # max(x, slope * x) is no PReLU where a slope exceeds one
    assert (proto.graph.node[0].op_type == "PRelu") == (max(slopes) > 1)


def test_short_names_never_meet_those_of_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LAYERS", ("Add",))
    nodes = [helper.make_node("Add", ["image", "long name"], ["c0"]), helper.make_node("Neg", ["c0"], ["embedding"])]
    proto = _model(nodes, {"long name": np.ones(1)})
    expected = _run(proto)
    tidy(proto)
    assert proto.graph.initializer[0].name == "long name"
    nodes[0].output[0] = nodes[1].input[0] = "layer"
    free = _model(nodes, {"long name": np.ones(1)})
    tidy(free)
    assert free.graph.initializer[0].name == "c0"
    assert free.graph.node[0].output[0] == "layer"
    monkeypatch.setattr(graph, "LAYERS", ())
    tidy(free)
    assert free.graph.node[0].output[0] == free.graph.node[1].input[0] == "t1"
    for one in (proto, free):
        np.testing.assert_array_equal(_run(one), expected)


def test_what_a_convolution_does_unasked_is_not_written() -> None:
    told = {"pads": [0, 0, 0, 0], "strides": [1, 1], "dilations": [1, 1], "group": 1, "kernel_shape": [1, 1]}
    for changed in ({}, {"pads": [1, 1, 1, 1]}, {"strides": [2, 2]}, {"group": 2}):
        node = helper.make_node("Conv", ["image", "w"], ["embedding"], **{**told, **changed})
        proto = _model([node], {"w": np.ones((2, 1 if "group" in changed else 2, 1, 1))})
        tidy(proto)
        assert {one.name for one in proto.graph.node[0].attribute} == {"kernel_shape", *changed}
