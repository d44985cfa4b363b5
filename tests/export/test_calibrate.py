from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from proxylesskd.export.calibrate import BINS, Histogram, histograms, ranges


def _doubling() -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 2])
    output = helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["batch", 2])
    nodes = [helper.make_node("Add", ["image", "image"], ["twice"]), helper.make_node("Neg", ["twice"], ["embedding"])]
    return helper.make_model(
        helper.make_graph(nodes, "g", [image], [output]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def test_histograms_count_every_value_once() -> None:
    values = np.random.default_rng(0).normal(size=(19, 2)).astype(np.float32)
    found = histograms(_doubling(), values, ["image", "twice"])
    assert found["twice"].low == pytest.approx(2 * values.min())
    assert found["twice"].high == pytest.approx(2 * values.max())
    expected = np.histogram(2 * values, BINS, (2 * values.min(), 2 * values.max()))[0]
    np.testing.assert_array_equal(found["twice"].counts, expected)
    assert found["image"].counts.sum() == values.size


def test_a_constant_tensor_has_a_range() -> None:
    found = histograms(_doubling(), np.ones((3, 2), np.float32), ["twice"])["twice"]
    assert found.low < 2 < found.high
    assert ranges({"a": found}, "minmax")["a"][0] == 0.0


def _histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0])


def test_one_value_in_ten_thousand_is_left_out() -> None:
    values = np.concatenate([np.random.default_rng(0).uniform(-1, 2, 200_000), [50.0, -40.0]])
    found = {"a": _histogram(values)}
    assert ranges(found, "minmax")["a"] == (-40.0, 50.0)
    low, high = ranges(found, "percentile")["a"]
    step = 90 / BINS
    assert np.percentile(values, 0.005) - 2 * step <= low <= np.percentile(values, 0.005) + step
    assert np.percentile(values, 99.995) - step <= high <= np.percentile(values, 99.995) + 2 * step


def test_entropy_cuts_a_long_thin_tail_and_keeps_a_full_range() -> None:
    random = np.random.default_rng(0)
    tailed = np.concatenate([random.normal(0, 1, 100_000), [60.0]])
    assert ranges({"a": _histogram(tailed)}, "entropy")["a"][1] < 50
    full = random.uniform(-1, 1, 100_000)
    assert ranges({"a": _histogram(full)}, "entropy")["a"][1] > 0.9


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_zero_is_always_inside(method: str) -> None:
    low, high = ranges({"a": _histogram(np.linspace(3, 4, 10_000))}, method)["a"]
    assert low == 0.0
    assert high > 3
