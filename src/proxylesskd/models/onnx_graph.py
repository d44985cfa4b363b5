"""Reading an ONNX face-recognition graph: its image input, its normalisation, its batch size.

Files found in the wild list their weights among the graph's inputs, fix the batch size, and put the channels
first or last. Everything here reads or edits the graph; nothing runs it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, require_extra

BATCH = "batch"  # the name a freed batch dimension gets
_PASSING = ("Identity", "Cast", "Transpose")  # what may stand between the pixels and their normalisation
_EXPECTED = "no face-recognition model: expected one input of square images with 3 channels"


@dataclass(frozen=True)
class ImageInput:
    """The image input of a graph.

    Attributes:
        name: of the input.
        batch: the fixed batch size, or None where it is free.
        size: side of the square image in pixels, or None where it is free.
        layout: ``"nchw"`` or ``"nhwc"``.
        dtype: what the graph takes its pixels in.
    """

    name: str
    batch: int | None
    size: int | None
    layout: Literal["nchw", "nhwc"]
    dtype: npt.DTypeLike


def read_graph(path: Path) -> tuple[Any, str]:
    """Return the ONNX model with weights taken off its inputs, and the sha256 of the file's content.

    Raises:
        UserError: the file is no ONNX model, or the package ``onnx`` is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise require_extra("onnx", "onnx", "Reading an ONNX model") from error
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content)
        model = onnx.load_model_from_string(content)
        external = _external_files(model, path.parent)
        # onnx itself refuses weights outside of the model's folder, so it goes first.
        onnx.load_external_data_for_model(model, str(path.parent))
        for file in external:
            digest.update(file.read_bytes())
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"expected an ONNX model at '{path}', found: {reason}") from error
    if not model.graph.node:
        raise UserError(f"expected an ONNX model at '{path}', found a graph without nodes")
    _drop_weights_from_inputs(model)
    return model, digest.hexdigest()


def image_input(model: Any) -> ImageInput:
    """Return the one image input of a graph from :func:`read_graph`, or raise a UserError."""
    inputs = list(model.graph.input)
    if len(inputs) != 1:
        raise UserError(f"{_EXPECTED}, found inputs {', '.join(i.name for i in inputs[:4]) or 'none'}")
    shape = _dimensions(inputs[0])
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise UserError(f"{_EXPECTED}, found an input of shape {shown(shape)}")
    layout: Literal["nchw", "nhwc"] = "nchw" if shape[1] == 3 else "nhwc"
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    if height != width:
        raise UserError(f"{_EXPECTED}, found an input of shape {shown(shape)}")
    return ImageInput(inputs[0].name, shape[0], height, layout, _dtype(inputs[0]))


def output_shapes(model: Any) -> dict[str, list[int | None]]:
    """Return the declared shape of every output; a free dimension is None, an undeclared shape empty."""
    return {value.name: _dimensions(value) for value in model.graph.output}


def output_operators(model: Any) -> dict[str, str]:
    """Return the operator that makes each output."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return {value.name: makers.get(value.name, "") for value in model.graph.output}


def shown(shape: Iterable[int | None]) -> str:
    """Write a shape with ``?`` for what is free."""
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def leading_affine(model: Any) -> tuple[float, float]:
    """Return ``(scale, offset)`` of what the graph does to its pixels before its first other node.

    Sub, Add, Mul, Div and BatchNormalization with constants are followed, through casts and transpositions; a
    constant per channel counts by its mean. ``(1, 0)`` means that the graph takes the pixels as they are.
    """
    constants, consumers = _constants(model), _consumers(model)
    scale, offset, name = 1.0, 0.0, model.graph.input[0].name
    for _ in model.graph.node:  # a hostile graph may run in a circle
        node = consumers[name][0] if len(consumers.get(name, [])) == 1 else None
        if node is None or not node.output:
            break
        step = (1.0, 0.0) if node.op_type in _PASSING else _affine(node, name, constants)
        if step is None:
            break
        scale, offset, name = scale * step[0], offset * step[0] + step[1], node.output[0]
    return scale, offset


def recorded_preprocessing(model: Any) -> dict[str, Any]:
    """Return the preprocessing that our own export writes into a file's metadata, or nothing for foreign files.

    Raises:
        UserError: the record is there and cannot be read.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == "proxylesskd"), None)
    if text is None:
        return {}
    try:
        record = json.loads(text)["preprocessing"]
        return {key: record[key] for key in ("size", "mean", "std", "order", "layout")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"expected the ONNX metadata 'proxylesskd' of an export, found {text[:80]!r}") from error


def recorded_weights(model: Any) -> str | None:
    """Return the hash of the weights that our own export writes into a file's metadata; None where there is none.

    It is to be called after :func:`recorded_preprocessing`, which refuses records that cannot be read.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == "proxylesskd"), "{}")
    found = json.loads(text).get("weights")
    return None if found is None else str(found)


def detected_scaling(model: Any) -> tuple[float, float, str]:
    """Return ``(mean, std, why)`` for the 0..255 pixels of a graph, by a rule on :func:`leading_affine`.

    A graph that subtracts more than 2 or divides by more than 10 normalises 0..255 pixels itself: (0, 1). One
    that subtracts a value between 0.2 and 0.8 normalises 0..1 pixels: (0, 255). Otherwise the structure says
    nothing and the convention of InsightFace is assumed: (127.5, 127.5).
    """
    scale, offset = leading_affine(model)
    centre = -offset / scale if scale else 0.0
    if abs(centre) > 2 or 0 < abs(scale) < 0.1:
        return 0.0, 1.0, "the graph normalises 0..255 itself"
    if 0.2 <= centre <= 0.8:
        return 0.0, 255.0, "the graph normalises 0..1 itself"
    return 127.5, 127.5, "assumed"


def freed_batch(model: Any, batch: int) -> Any:
    """Return a copy whose batch dimension is free instead of fixed to ``batch``.

    The shapes of input and outputs are freed, intermediate shapes forgotten, and in every Reshape that the
    pixels pass through a leading constant ``batch`` becomes 0, "as in the input". That is right for graphs
    that never mix images; whether a given graph is one must be checked by running both.
    """
    from onnx import numpy_helper

    freed = type(model)()
    freed.CopyFrom(model)
    graph = freed.graph
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    constants = _constants(freed)
    for number, node in enumerate(_reshapes_of_pixels(freed)):
        shape = constants.get(node.input[1])
        if shape is not None and shape.size and shape[0] == batch:
            # A new constant per node: weights may share the old one.
            name = f"freed_shape_{number}"
            graph.initializer.append(numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), name))
            node.input[1] = name
    return freed


def _drop_weights_from_inputs(model: Any) -> None:
    # Quantisers leave the names of weights they replaced among the inputs, so unused ones go as well.
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    used = {name for node in graph.node for name in node.input}
    true_inputs = [value for value in graph.input if value.name in used - weights]
    if len(true_inputs) < len(graph.input):
        del graph.input[:]
        graph.input.extend(true_inputs)
        model.ir_version = max(model.ir_version, 4)  # before 4 every weight had to be an input


def _external_files(model: Any, folder: Path) -> list[Path]:
    names = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    return [folder / name for name in sorted(names)]


def _dimensions(value: Any) -> list[int | None]:
    # A dimension may be a number, a name, or nothing; some exporters write -1 or 0 for a free one.
    return [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]


def _dtype(value: Any) -> npt.DTypeLike:
    from onnx import TensorProto

    known: dict[int, npt.DTypeLike] = {
        TensorProto.FLOAT: np.float32,
        TensorProto.FLOAT16: np.float16,
        TensorProto.DOUBLE: np.float64,
        TensorProto.UINT8: np.uint8,
    }
    kind = value.type.tensor_type.elem_type
    if kind not in known:
        name = next((name for name, number in TensorProto.DataType.items() if number == kind), str(kind))
        raise UserError(f"{_EXPECTED} in float or uint8, found element type {name}")
    return known[kind]


def _constants(model: Any) -> dict[str, npt.NDArray[Any]]:
    """Return the small constant tensors of numbers by name."""
    tensors = [(tensor.name, tensor) for tensor in model.graph.initializer if _is_small(tensor)]
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].name == "value":
            tensors.append((node.output[0], node.attribute[0].t))
    arrays = {name: _array(tensor) for name, tensor in tensors}
    return {name: array for name, array in arrays.items() if array.dtype.kind not in "cOSU"}


def _array(tensor: Any) -> npt.NDArray[Any]:
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # what the package raises depends on which of the tensor's fields lies
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"expected whole tensors in the ONNX model, found '{tensor.name[:80]}': {reason}") from error


def _is_small(tensor: Any) -> bool:
    return int(np.prod(tensor.dims, dtype=np.float64)) <= 4096  # shapes and normalisations, not weights


def _consumers(model: Any) -> dict[str, list[Any]]:
    consumers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            consumers.setdefault(name, []).append(node)
    return consumers


def _affine(node: Any, pixels: str, constants: dict[str, npt.NDArray[Any]]) -> tuple[float, float] | None:
    if node.op_type == "BatchNormalization":
        return _affine_of_norm(node, constants)
    others = [constants[name] for name in node.input if name != pixels and name in constants]
    if len(others) != 1 or len(node.input) != 2:
        return None
    value, comes_first = float(np.mean(others[0])), node.input[0] == pixels
    if node.op_type == "Mul":
        return value, 0.0
    if node.op_type == "Add":
        return 1.0, value
    if node.op_type == "Sub":
        return (1.0, -value) if comes_first else (-1.0, value)
    return (1.0 / value, 0.0) if node.op_type == "Div" and comes_first and value else None


def _affine_of_norm(node: Any, constants: dict[str, npt.NDArray[Any]]) -> tuple[float, float] | None:
    if len(node.input) < 5 or any(name not in constants for name in node.input[1:5]):
        return None
    gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in node.input[1:5])
    if not gamma.shape == beta.shape == mean.shape == variance.shape:
        return None
    scale = gamma / np.sqrt(variance + 1e-5)
    return float(scale.mean()), float((beta - mean * scale).mean())


def _reshapes_of_pixels(model: Any) -> list[Any]:
    reached = {model.graph.input[0].name}
    reshapes = []
    for node in model.graph.node:  # ONNX orders its nodes: producers first
        if reached.intersection(node.input):
            reached.update(node.output)
            if node.op_type == "Reshape" and len(node.input) == 2:
                reshapes.append(node)
    return reshapes
