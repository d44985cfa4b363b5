from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from proxylesskd.export.graph import constants_of
from proxylesskd.export.narrow import narrow_constants

OPTIMISED = [onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL]


def _network(scales: list[float], biases: list[int], *, more: bool = True) -> Any:
    """One or two convolutions in eight bits, the second without a bias and with one scale for all channels."""
    rng = np.random.default_rng(0)
    arrays = {
        "s": np.float32(0.5),
        "z": np.uint8(128),
        "w": rng.integers(-63, 64, (3, 2, 1, 1)).astype(np.int8),
        "ws": np.array(scales, np.float32),
        "wz": np.int8(0),
        "b": np.array(biases, np.int32),
        "one": np.float32(0.01),
    }
    nodes = [helper.make_node("QLinearConv", ["image", "s", "z", "w", "ws", "wz", "s", "z", "b"], ["x"])]
    if more:
        arrays["v"] = rng.integers(-63, 64, (4, 3, 1, 1)).astype(np.int8)
        nodes.append(helper.make_node("QLinearConv", ["x", "s", "z", "v", "one", "wz", "s", "z"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", 2, 4, 4])],
        [
            helper.make_tensor_value_info(
                "y" if more else "x", onnx.TensorProto.UINT8, ["batch", 4 if more else 3, 4, 4]
            )
        ],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _run(proto: Any, level: Any) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    image = np.random.default_rng(1).integers(0, 256, (5, 2, 4, 4)).astype(np.uint8)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    found: np.ndarray = session.run(None, {"image": image})[0]
    return found


@pytest.mark.parametrize("level", OPTIMISED)
@pytest.mark.parametrize("more", [True, False])
def test_what_fits_is_kept_in_sixteen_bits_and_nothing_changes(level: Any, more: bool) -> None:
    proto = _network([0.25, 0.0078125, 1.5], [-32768, 7, 32767], more=more)
    before = _run(proto, level)
    narrow_constants(proto)
    onnx.checker.check_model(proto)
    kept = constants_of(proto)
    assert kept["float16"].dtype == np.float16
    assert kept["float16"].tolist() == [0.25, 0.0078125, 1.5]
    assert kept["int16"].dtype == np.int16
    assert kept["int16"].tolist() == [-32768, 7, 32767]
    assert not {"ws", "b"} & set(kept)
    np.testing.assert_array_equal(_run(proto, level), before)


def test_what_does_not_fit_stays_as_it_is() -> None:
    proto = _network([0.1, 1e-9, 1e9], [0, 1, 32768])
    before = proto.SerializeToString()
    narrow_constants(proto)
    assert proto.SerializeToString() == before
