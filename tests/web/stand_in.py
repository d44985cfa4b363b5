"""A detector of YuNet's form with weights in blocks of eight bits, and an engine of empty files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from proxylesskd.web.runtime import FILES

KINDS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def write_detector(path: Path, side: int = 640) -> dict[str, np.ndarray]:
    """Write it; return each output's weights ``[K, 3, s, s]`` as they are meant."""
    random = np.random.default_rng(3)
    nodes, tensors, outputs, meant = [], [], [], {}
    for stride in (8, 16, 32):
        for kind, count in KINDS.items():
            name, length = f"{kind}_{stride}", 3 * stride * stride
            packed = random.integers(-127, 128, (count, length), dtype=np.int8)
            scale = random.uniform(0.5, 2, (count, length // stride)).astype(np.float32) / 1e4
            zero = random.integers(-3, 4, scale.shape, dtype=np.int8)
            if kind == "cls":  # it never finds a face
                packed, zero = -np.abs(packed), np.abs(zero)
            meant[name] = _by_loops(packed, scale, zero, stride).reshape(count, 3, stride, stride)
            given = {"packed": packed, "scale": scale, "zero": zero, "shape": np.array([count, 3, stride, stride])}
            given["last"] = np.array([1, -1, count])
            tensors += [numpy_helper.from_array(value, f"{name}.{key}") for key, value in given.items()]
            of = [f"{name}.{key}" for key in ("packed", "scale", "zero")]
            nodes += [
                helper.make_node("DequantizeLinear", of, [f"{name}.flat"], axis=1, block_size=stride),
                helper.make_node("Reshape", [f"{name}.flat", f"{name}.shape"], [f"{name}.weight"]),
                helper.make_node("Conv", ["input", f"{name}.weight"], [f"{name}.map"], strides=[stride, stride]),
                helper.make_node("Transpose", [f"{name}.map"], [f"{name}.last_axis"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}.last_axis", f"{name}.last"], [name]),
            ]
            places = (side // stride) ** 2
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, places, count]))
    taken = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])
    graph = helper.make_graph(nodes, "detector", [taken], outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), str(path))
    return meant


def _by_loops(packed: np.ndarray, scale: np.ndarray, zero: np.ndarray, block: int) -> np.ndarray:
    found = np.zeros(packed.shape, np.float64)
    for row in range(packed.shape[0]):
        for column in range(packed.shape[1]):
            of = row, column // block
            found[row, column] = (int(packed[row, column]) - int(zero[of])) * float(scale[of])
    return found


def write_runtime(folder: Path) -> Path:
    """Write what stands for an unpacked onnxruntime-web."""
    (folder / "dist").mkdir(parents=True)
    for name in FILES:
        (folder / "dist" / name).write_text(name)
    return folder
