from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from proxylesskd.errors import UserError
from proxylesskd.export.graph import in_order
from proxylesskd.export.half import to_half
from tests.export.conftest import Exported


def test_weights_are_half_and_both_ends_are_not(exported: Exported) -> None:
    half = to_half(exported.body)
    assert {t.data_type for t in half.graph.initializer if len(t.dims) == 4} == {TensorProto.FLOAT16}
    ends = [value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)]
    assert ends == [TensorProto.FLOAT, TensorProto.FLOAT]
    seen = {"image", *(t.name for t in half.graph.initializer)}
    for node in half.graph.node:
        assert seen.issuperset(name for name in node.input if name)
        seen.update(node.output)


def test_weights_that_half_precision_cannot_hold_are_refused(exported: Exported) -> None:
    large = onnx.ModelProto()
    large.CopyFrom(exported.body)
    tensor = next(t for t in large.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0, 0, 0] = 1e5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(UserError, match=r"up to 65504 for half precision, found larger ones in"):
        to_half(large)


def test_nodes_come_after_what_they_read() -> None:
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in (("c", "d"), ("a", "b"), ("b", "c"), ("a", "e"))]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])], [])
    ordered = [node.output[0] for node in in_order(helper.make_model(graph))]
    assert sorted(ordered) == ["b", "c", "d", "e"]
    assert ordered.index("b") < ordered.index("c") < ordered.index("d")
    assert np.unique(ordered).size == 4
