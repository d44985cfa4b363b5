"""A detector's file that a browser's engine can run: weights packed in blocks of eight bits are floats again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError
from proxylesskd.export.contract import open_session

OUTPUTS = frozenset(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32))


def unpacked(path: Path) -> bytes:
    """Return a YuNet of 2023 as ONNX with float weights, which takes images of any multiple of 32 pixels.

    OpenCV's collection has it in full and with eight-bit weights; of the latter's operators onnxruntime refuses some.

    Raises:
        UserError: the file is no such YuNet.
    """
    import onnx

    try:
        model = onnx.load(str(path))
        _fold(model.graph)
        _free(model.graph)
    except Exception as error:  # a damaged file makes the parser, or numpy, raise nearly anything
        raise _other(path, str(error)[:200]) from error
    content: bytes = model.SerializeToString()
    session = open_session(path, content=content)
    shape, names = session.get_inputs()[0].shape, {one.name for one in session.get_outputs()}
    if list(shape[:2]) != [1, 3] or names != OUTPUTS:
        raise _other(path, f"an input {shape} and {len(names)} outputs")
    return content


def _free(graph: Any) -> None:
    """Leave height and width open: the network itself does not care, and OpenCV runs it at the photo's size."""
    for number, name in ((2, "height"), (3, "width")):
        graph.input[0].type.tensor_type.shape.dim[number].dim_param = name
    for one in graph.output:
        one.type.tensor_type.shape.dim[1].dim_param = f"{one.name}_places"
    del graph.value_info[:]


def _other(path: Path, found: str) -> UserError:
    return UserError(f"expected a YuNet of 2023 at '{path}', found {found}; take face_detection_yunet_2023mar.onnx")


def _fold(graph: Any) -> None:
    """Compute what depends on constants alone: DequantizeLinear, and Reshape of its result."""
    from onnx import numpy_helper

    known = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    for node in list(graph.node):
        if node.op_type not in ("DequantizeLinear", "Reshape") or any(name not in known for name in node.input):
            continue
        given = [known[name] for name in node.input]
        told = {one.name: int(one.i) for one in node.attribute}
        value = _floats(told, *given) if node.op_type == "DequantizeLinear" else given[0].reshape(given[1])
        known[node.output[0]] = value
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), node.output[0]))
        graph.node.remove(node)
    needed = {name for node in graph.node for name in node.input}
    for one in [one for one in graph.initializer if one.name not in needed]:
        graph.initializer.remove(one)


def _floats(
    told: dict[str, int], packed: npt.NDArray[Any], scale: npt.NDArray[Any], *zero: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """Return ``(packed - zero) scale``, both one for a tensor, one for each slice of an axis, or one for each block."""
    spread = [_spread(part, packed.shape, told) for part in (scale, *zero)]
    shift = spread[1].astype(np.float32) if zero else np.float32(0)
    found: npt.NDArray[np.float32] = ((packed.astype(np.float32) - shift) * spread[0]).astype(np.float32)
    return found


def _spread(part: npt.NDArray[Any], shape: tuple[int, ...], told: dict[str, int]) -> npt.NDArray[Any]:
    axis, block = told.get("axis", 1), told.get("block_size", 0)
    if part.size == 1:
        return part.reshape(())
    if part.ndim == len(shape) and block:
        return np.repeat(part, block, axis=axis).take(range(shape[axis]), axis=axis)
    return part.reshape([-1 if n == axis % len(shape) else 1 for n in range(len(shape))])
