"""Small ONNX embedders with the quirks of real ones, and the same embedding as plain numpy loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, PATCH, CHANNELS = 16, 8, 4
DIM = CHANNELS * (SIZE // PATCH) ** 2  # 16
KERNEL = np.random.default_rng(7).normal(0, 0.1, (CHANNELS, 3, PATCH, PATCH)).astype(np.float32)
BIAS = np.array([0.5, -1.0, 2.0, 0.25], np.float32)


def embed_by_loops(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """[B, 3, 16, 16] network input -> [B, 16]: every patch times every kernel."""
    side = SIZE // PATCH
    out = np.zeros((len(pixels), CHANNELS, side, side))
    for b, c, i, j in np.ndindex(out.shape):
        patch = pixels[b, :, i * PATCH : (i + 1) * PATCH, j * PATCH : (j + 1) * PATCH]
        out[b, c, i, j] = (patch.astype(np.float64) * KERNEL[c]).sum() + BIAS[c]
    return out.reshape(len(pixels), -1)


def unit(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def images(count: int, seed: int = 0, size: int = SIZE) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def write_graph(
    path: Path,
    *,
    batch: int | str = "n",
    nhwc: bool = False,
    before: Sequence[Any] = (),
    pixels: str = "",
    after: Sequence[Any] = (),
    tail: Sequence[int] | None = (-1, DIM),
    constants: dict[str, npt.NDArray[Any]] | None = None,
    output: tuple[str, list[int | str]] | None = None,
    weights_as_inputs: bool = False,
    size: int | str = SIZE,
    channels: int = 3,
    kind: int = TensorProto.FLOAT,
    extra_outputs: Sequence[Any] = (),
) -> Path:
    """Write input -> ``before`` nodes (ending in ``pixels``) -> conv -> Reshape to ``tail`` -> ``after`` nodes."""
    nodes = list(before)
    source = pixels or "input"
    if nhwc:
        nodes.append(helper.make_node("Transpose", [source], ["nchw"], perm=[0, 3, 1, 2]))
        source = "nchw"
    nodes.append(helper.make_node("Conv", [source, "kernel", "bias"], ["maps"], strides=[PATCH, PATCH]))
    weights = {"kernel": KERNEL, "bias": BIAS, **(constants or {})}
    if tail is not None:
        weights["tail"] = np.array(tail, np.int64)
        nodes.append(helper.make_node("Reshape", ["maps", "tail"], ["flat"]))
    nodes += after
    shape = [batch, size, size, channels] if nhwc else [batch, channels, size, size]
    inputs = [helper.make_tensor_value_info("input", kind, shape)]
    if weights_as_inputs:
        inputs = [_value(name, array) for name, array in weights.items()] + inputs
        inputs.append(helper.make_tensor_value_info("left_over", TensorProto.FLOAT, [3, 3]))
    name, out_shape = output or ("flat", [batch, DIM])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, out_shape), *extra_outputs]
    tensors = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, "embedder", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def _value(name: str, array: npt.NDArray[Any]) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
