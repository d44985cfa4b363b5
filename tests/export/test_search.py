from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from proxylesskd.errors import UserError
from proxylesskd.export.contract import prepare
from proxylesskd.export.search import quantised
from tests.export.material import WANTED, make_pairs_set, make_small, small_body


@pytest.fixture(scope="module")
def body() -> Any:
    return small_body(make_small())


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return prepare(make_pairs_set().images, WANTED)


def _embed(proto: Any, faces: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    found = session.run(["embedding"], {"image": faces})[0].astype(np.float64)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _harmed(body: Any) -> Any:
    """The body with weights of one channel of the last convolution a thousand times larger than the others need."""
    proto = onnx.ModelProto()
    proto.CopyFrom(body)
    conv = [node for node in proto.graph.node if node.op_type == "Conv"][2]
    kernel = next(t for t in proto.graph.initializer if t.name == conv.input[1])
    values = numpy_helper.to_array(kernel).copy()
    values[:, 0] *= 300  # one input outweighs the others: a scale per output channel cannot help
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))
    return proto


def test_layers_that_bear_it_are_all_quantised(body: Any, faces: np.ndarray) -> None:
    proto, mixed = quantised(body, faces[:32], faces[32:], target=0.97)
    assert mixed.floating == ()
    assert mixed.layers == 4
    assert mixed.harm == {}
    ours = (_embed(body, faces[32:]) * _embed(proto, faces[32:])).sum(1)
    assert ours.mean() == pytest.approx(mixed.mean_cosine, abs=1e-6)
    assert mixed.to_dict()["method"] in ("minmax", "percentile", "entropy")


def test_the_fewest_layers_stay_float(body: Any, faces: np.ndarray) -> None:
    """Against every set of layers in the order of their harm."""
    harmed = _harmed(body)
    _, all_eight = quantised(harmed, faces[:32], faces[32:], target=-1, methods=["minmax"])
    target = 1 - (1 - all_eight.mean_cosine) / 3
    proto, mixed = quantised(harmed, faces[:32], faces[32:], target=target, methods=["minmax"])
    assert 0 < len(mixed.floating) < 4
    assert mixed.mean_cosine >= target
    worst = sorted(mixed.harm, key=lambda name: -mixed.harm[name])
    assert list(mixed.floating) == worst[: len(mixed.floating)]
    slopes = [n for n in proto.graph.node if n.output[0].endswith(".low.u8")]
    assert len([n for n in proto.graph.node if n.op_type in ("Conv", "QLinearConv")]) - len(slopes) == 3
    float_layers = [n for n in proto.graph.node if n.op_type == "Conv"]
    assert len(float_layers) == len([name for name in mixed.floating if name != "embedding"])
    ours = (_embed(harmed, faces[32:]) * _embed(proto, faces[32:])).sum(1)
    assert ours.mean() == pytest.approx(mixed.mean_cosine, abs=1e-6)


def test_an_unreachable_target_leaves_everything_float(body: Any, faces: np.ndarray) -> None:
    proto, mixed = quantised(body, faces[:32], faces[32:], target=2.0)
    assert len(mixed.floating) == 4
    assert (_embed(body, faces[32:]) * _embed(proto, faces[32:])).sum(1).min() > 0.999999


def test_a_network_without_layers_is_refused() -> None:
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, 4, 4])
    embedding = helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["batch", 48])
    graph = helper.make_graph([helper.make_node("Flatten", ["image"], ["embedding"])], "g", [image], [embedding])
    with pytest.raises(UserError, match="expected convolutions or linear layers"):
        quantised(helper.make_model(graph), np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 3, 4, 4), np.float32))
