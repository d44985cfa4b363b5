"""A detector small enough to be written down: where a photo has a white block, a face stands beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from proxylesskd.photos.transform import TEMPLATE

BLOCK = 32  # side of the white block, which stands on the grid of the coarsest stride
SIDE = 320
LEFT, TOP = 96, 128  # of the aligned face in the photo, whose block is at the grid's place (3, 3)
PLACE = 3 * BLOCK


def photo_of(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a photo ``[320, 320, 3]`` of an aligned face ``[112, 112, 3]``, none of whose colours is white."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[TOP : TOP + 112, LEFT : LEFT + 112] = face
    picture[PLACE : PLACE + BLOCK, PLACE : PLACE + BLOCK] = 255
    return picture


def write_detector(path: Path) -> Path:
    """Write an ONNX file with YuNet's inputs and outputs that OpenCV runs at any size."""
    nodes, tensors, outputs = [], [], []
    for stride in (8, 16, 32):
        for kind, (weight, bias) in _kinds(stride).items():
            name, count = f"{kind}_{stride}", len(bias)
            tensors += [
                numpy_helper.from_array(np.full((count, 3, stride, stride), weight, np.float32), f"{name}.weight"),
                numpy_helper.from_array(np.asarray(bias, np.float32), f"{name}.bias"),
                numpy_helper.from_array(np.array([1, -1, count]), f"{name}.last"),
            ]
            given = ["input", f"{name}.weight", f"{name}.bias"]
            nodes += [
                helper.make_node("Conv", given, [f"{name}.map"], kernel_shape=[stride] * 2, strides=[stride] * 2),
                helper.make_node("Sigmoid" if weight else "Identity", [f"{name}.map"], [f"{name}.out"]),
                helper.make_node("Transpose", [f"{name}.out"], [f"{name}.turned"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}.turned", f"{name}.last"], [name]),
            ]
            places = (SIDE // stride) ** 2
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, places, count]))
    taken = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    graph = helper.make_graph(nodes, "detector", [taken], outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def _kinds(stride: int) -> dict[str, tuple[float, list[float]]]:
    """Return, for each output, the weight of all pixels and the bias; a weight means that it is a probability."""
    sees = stride == BLOCK
    weight = 1 / (3 * stride * stride)  # the mean of the pixels; only white is above 250
    corner = np.array([LEFT - PLACE, TOP - PLACE])
    box = [*((corner + 56) / stride), *np.log(np.array([112, 112]) / stride)]
    points = ((TEMPLATE + corner) / stride).ravel()
    sure = (weight, [-250.0 if sees else -1000.0])
    return {"cls": sure, "obj": sure, "bbox": (0.0, list(box)), "kps": (0.0, list(points))}
