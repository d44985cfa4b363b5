from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from proxylesskd.export.calibrate import Range
from proxylesskd.export.quantise import layers, prepared, quantise, tensors

CHANNELS = 5


def _network(slopes: Any) -> Any:
    """Convolution, PReLU, convolution, PReLU of one slope, mean over places."""
    rng = np.random.default_rng(0)
    arrays = {
        "k": rng.normal(size=(CHANNELS, 3, 3, 3)),
        "b": rng.normal(size=CHANNELS),
        "s": np.array(slopes),
        "k2": rng.normal(size=(4, CHANNELS, 1, 1)),
        "s2": np.array([0.3]).reshape(1, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["image", "k", "b"], ["x"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["x", "s"], ["p"]),
        helper.make_node("Conv", ["p", "k2"], ["x2"], kernel_shape=[1, 1]),
        helper.make_node("PRelu", ["x2", "s2"], ["p2"]),
        helper.make_node("GlobalAveragePool", ["p2"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (16, 3, 6, 6)).astype(np.float32)


def _run(proto: Any, images: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """What tensors of a graph hold, as onnxruntime computes them without rewriting the graph."""
    opened = onnx.ModelProto()
    opened.CopyFrom(proto)
    held = {one.name for one in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in held)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options)
    return dict(zip(names, session.run(list(names), {"image": images}), strict=True))


def _quantised(proto: Any, images: np.ndarray, floating: Sequence[str] = ()) -> Any:
    wanted = tensors(proto)
    inner = [name for name in wanted if name != "image"]
    seen = {"image": images, **_run(proto, images, inner)}
    ranges: dict[str, Range] = {
        name: (min(0.0, float(seen[name].min())), max(0.0, float(seen[name].max()))) for name in wanted
    }
    return quantise(proto, ranges, floating)


def _operators(proto: Any) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


def _constant(proto: Any, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(one for one in proto.graph.initializer if one.name == name))


PER_CHANNEL = np.array([0.25, -0.5, 1.0, 0.01, 0.0]).reshape(CHANNELS, 1, 1)


@pytest.mark.parametrize("slopes", [PER_CHANNEL, PER_CHANNEL[None], np.array([0.2])])
def test_a_prelu_in_eight_bits_is_that_of_whole_numbers(slopes: np.ndarray, images: np.ndarray) -> None:
    """The lower half, number by number: slope times distance from the zero point, rounded half to even."""
    proto = _quantised(prepared(_network(slopes)), images)
    found = _run(proto, images, ["x.u8", "p.low.u8", "p.u8"])
    zero = int(_constant(proto, "x.zero"))
    eight, scale = _constant(proto, "p.low.w8").astype(int), float(_constant(proto, "p.low.ws"))
    assert np.abs(eight[:, 0, 0, 0] * scale - slopes.reshape(-1)).max() <= scale / 2 + 1e-7
    for image in range(2):
        for channel in range(CHANNELS):
            for place in np.ndindex(6, 6):
                x = int(found["x.u8"][image, channel][place])
                low = min(255, max(0, round((x - zero) * int(eight[channel, 0, 0, 0]) * scale) + zero))
                assert found["p.low.u8"][image, channel][place] == low
                assert found["p.u8"][image, channel][place] == max(x, low)


@pytest.mark.parametrize("slopes", [PER_CHANNEL, PER_CHANNEL[None], np.array([0.2])])
def test_embeddings_stay_near_those_of_float(slopes: np.ndarray, images: np.ndarray) -> None:
    whole = prepared(_network(slopes))
    proto = _quantised(whole, images)
    onnx.checker.check_model(proto)
    operators = _operators(proto)
    assert operators["QLinearConv"] == 4  # two convolutions, two PReLUs' lower halves
    assert operators["Max"] == 2
    assert operators["QuantizeLinear"] == 1
    assert operators["DequantizeLinear"] == 1
    float_, eight = (_run(one, images, ["embedding"])["embedding"] for one in (whole, proto))
    assert np.abs(float_ - eight).max() < 0.02 * np.abs(float_).max()


def test_slopes_above_one_and_layers_asked_for_stay_float(images: np.ndarray) -> None:
    steep = prepared(_network(PER_CHANNEL * 2))
    operators = _operators(_quantised(steep, images))
    assert operators["PRelu"] == 1
    assert operators["QLinearConv"] == 3
    whole = prepared(_network(PER_CHANNEL))
    assert layers(whole) == ["x", "x2"]
    mixed = _quantised(whole, images, ["x"])
    operators = _operators(mixed)
    assert operators["Conv"] == 1
    assert operators["Mul"] == 1  # its PReLU has no eight-bit numbers to read
    assert operators["QLinearConv"] == 2
    float_, eight = (_run(one, images, ["embedding"])["embedding"] for one in (whole, mixed))
    assert np.abs(float_ - eight).max() < 0.02 * np.abs(float_).max()
