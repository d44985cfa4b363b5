"""Scales and biases of a network in eight bits, kept in sixteen.

A convolution in eight bits has a float32 scale and an int32 bias for each channel: in a small network a tenth of the
file. Most of them fit sixteen bits without loss; two nodes at the graph's head widen them all, which onnxruntime does
once, when it opens the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.export.graph import add_constant, constants_of, replace_nodes

SCALE, BIAS = 4, 8  # which inputs of a QLinearConv they are


def narrow_constants(proto: Any) -> None:
    """Keep the channels' scales as float16 and their biases as int16, all that fit exactly, and widen them."""
    convolutions = [node for node in proto.graph.node if node.op_type == "QLinearConv"]
    head: list[Any] = []
    for place, narrow in ((SCALE, np.float16), (BIAS, np.int16)):
        names = dict.fromkeys(node.input[place] for node in convolutions if len(node.input) > place)
        head += _widened(proto, [*names], np.dtype(narrow))
    replace_nodes(proto, [*head, *proto.graph.node])


def _widened(proto: Any, names: Sequence[str], narrow: np.dtype[Any]) -> list[Any]:
    from onnx import helper

    constants = constants_of(proto)
    parts = {name: constants[name] for name in names if _fits(constants[name], narrow)}
    if not parts:
        return []
    whole = np.concatenate([*parts.values()])
    sizes = add_constant(proto, f"{narrow.name}.sizes", np.array([len(part) for part in parts.values()], np.int64))
    kept = add_constant(proto, narrow.name, whole.astype(narrow))
    drop = [tensor for tensor in proto.graph.initializer if tensor.name in parts]
    for tensor in drop:
        proto.graph.initializer.remove(tensor)
    wide = f"{narrow.name}.wide"
    return [
        helper.make_node("Cast", [kept], [wide], name=wide, to=helper.np_dtype_to_tensor_dtype(whole.dtype)),
        helper.make_node("Split", [wide, sizes], [*parts], name=f"{narrow.name}.parts"),
    ]


def _fits(value: npt.NDArray[Any], narrow: np.dtype[Any]) -> bool:
    with np.errstate(over="ignore"):
        return value.ndim == 1 and bool((value.astype(narrow) == value).all())
