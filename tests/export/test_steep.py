from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from proxylesskd.export.graph import constants_of
from proxylesskd.export.steep import flatten_steep_prelus

STEEP = np.array([0.25, 1.5, -0.3, 4.0])


def _graph(nodes: list[Any], arrays: Mapping[str, np.ndarray], outputs: list[str]) -> Any:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, 5, 5])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _network(slopes: np.ndarray, *, groups: int = 1) -> Any:
    """Two PReLUs around a depthwise convolution, then two convolutions that both read the second."""
    rng = np.random.default_rng(0)
    arrays = {
        "k": rng.normal(size=(4, 3, 1, 1)),
        "b": rng.normal(size=4),
        "s": slopes,
        "d": rng.normal(size=(4, 1, 3, 3)),
        "s2": slopes[..., ::-1, :, :] if slopes.ndim > 1 else slopes,
        "l": rng.normal(size=(6, 4 // groups, 1, 1)),
        "r": rng.normal(size=(6, 4, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "k", "b"], ["x"]),
        helper.make_node("PRelu", ["x", "s"], ["p"]),
        helper.make_node("Conv", ["p", "d"], ["y"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["y", "s2"], ["q"]),
        helper.make_node("Conv", ["q", "l"], ["left"], group=groups),
        helper.make_node("Conv", ["q", "r"], ["right"]),
        helper.make_node("Add", ["left", "right"], ["embedding"]),
    ]
    return _graph(nodes, arrays, ["embedding"])


def _embed(proto: Any) -> np.ndarray:
    images = np.random.default_rng(1).normal(size=(4, 3, 5, 5)).astype(np.float32)
    found: np.ndarray = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"image": images})[0]
    return found


def _steepest(proto: Any) -> list[float]:
    constants = constants_of(proto)
    return [float(constants[node.input[1]].max()) for node in proto.graph.node if node.op_type == "PRelu"]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_no_slope_is_above_one_and_nothing_else_changes(shape: tuple[int, ...], groups: int) -> None:
    proto = _network(STEEP.reshape(shape), groups=groups)
    before = _embed(proto)
    flatten_steep_prelus(proto)
    assert _steepest(proto) == [pytest.approx(1 / 1.5), pytest.approx(1 / 1.5)]
    np.testing.assert_allclose(_embed(proto), before, rtol=1e-5, atol=1e-5)


def test_flat_slopes_are_left_alone() -> None:
    proto = _network(STEEP.clip(max=1).reshape(4, 1, 1))
    before = proto.SerializeToString()
    flatten_steep_prelus(proto)
    assert proto.SerializeToString() == before


@pytest.mark.parametrize("how", ["read by an addition", "an output", "input read twice", "one slope for all"])
def test_prelus_that_cannot_be_turned_stay(how: str) -> None:
    rng = np.random.default_rng(0)
    slopes = np.array([[[2.0]]]) if how == "one slope for all" else STEEP.reshape(4, 1, 1)
    arrays = {"k": rng.normal(size=(4, 3, 1, 1)), "s": slopes, "l": rng.normal(size=(2, 4, 1, 1))}
    nodes = [helper.make_node("Conv", ["image", "k"], ["x"]), helper.make_node("PRelu", ["x", "s"], ["p"])]
    nodes.append(helper.make_node("Conv", ["p", "l"], ["embedding"]))
    if how == "read by an addition":
        nodes.append(helper.make_node("Add", ["p", "p"], ["twice"]))
    if how == "input read twice":
        nodes.append(helper.make_node("Relu", ["x"], ["relu"]))
    proto = _graph(nodes, arrays, ["embedding", "p"] if how == "an output" else ["embedding"])
    before = _embed(proto)
    flatten_steep_prelus(proto)
    assert _steepest(proto)[0] > 1
    np.testing.assert_array_equal(_embed(proto), before)
