"""A model small enough to be written down: an exported file that reads colours, and photos that a detector can find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from proxylesskd.export.contract import TEMPLATE, Contract
from proxylesskd.models.preprocess import Preprocessing
from tests.faces import face

DIM = 48
WEIGHTS, TEACHER_FILE = "a" * 64, "b" * 64
RATES = {"1e-2": 0.5, "1e-3": 0.7}
CURVE = {"slope": 20.0, "intercept": -12.0}


def colours(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """What the file computes, in plain numpy: centred colours of a 4x4 grid, of unit length."""
    found = faces.astype(np.float64).reshape(len(faces), 3, 4, 28, 4, 28).mean(axis=(3, 5)).reshape(len(faces), DIM)
    found -= found.mean(axis=1, keepdims=True)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def write_model(path: Path, **changed: Any) -> Path:
    """Write the ONNX file with its contract; of unit length is what it answers not."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("ReduceMean", ["flat", "axis"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["flat", "mean"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", DIM])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    told: dict[str, Any] = {
        "weights": WEIGHTS,
        "thresholds": {"single": RATES, "cross": {"1e-2": 0.45, "1e-3": 0.65}},
        "calibration": {"single": CURVE},
        "provenance": {},
        **changed,
    }
    contract = Contract(Preprocessing(), DIM, False, told.pop("alignment", TEMPLATE), told.pop("provenance"), **told)
    helper.set_model_props(model, contract.properties())
    onnx.save(model, str(path))
    return path


def aligned(identity: int, number: int = 0) -> npt.NDArray[np.uint8]:
    """A face [112, 112, 3]; those of one identity have the same pattern."""
    return face(identity, number)
