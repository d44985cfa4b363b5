"""PReLUs whose slopes are no more than one, so that eight bits can take them as a maximum.

``max(x, slope*x)`` is PReLU only up to a slope of one. A steeper one is a flatter one turned round:
``prelu(x, a) = -prelu(-a*x, 1/a)`` for ``a > 1``. Both factors go into the convolutions before and behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.export.graph import add_constant, attributes_of, constants_of, consumers_of, producers_of

Constants = dict[str, npt.NDArray[Any]]


def flatten_steep_prelus(proto: Any) -> None:
    """Turn every channel round whose PReLU has a slope above one, between convolutions that nothing else reads."""
    constants, producers, consumers = constants_of(proto), producers_of(proto), consumers_of(proto)
    outputs = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        slopes = constants.get(node.input[1]) if node.op_type == "PRelu" else None
        if slopes is None or not (slopes > 1).any():
            continue
        before, behind = producers.get(node.input[0]), consumers.get(node.output[0], [])
        enclosed = not outputs & {node.input[0], node.output[0]} and len(consumers[node.input[0]]) == 1
        if enclosed and before is not None and _turnable(before, behind, slopes, constants):
            _turn(proto, constants, before, node, behind)


def _turnable(before: Any, behind: list[Any], slopes: npt.NDArray[Any], constants: Mapping[str, Any]) -> bool:
    convolutions = [before, *behind]
    known = all(
        one.op_type == "Conv" and len(one.input) <= 3 and all(name in constants for name in one.input[1:])
        for one in convolutions
    )
    return bool(behind) and known and slopes.size == len(constants[before.input[1]])


def _turn(proto: Any, constants: Constants, before: Any, prelu: Any, behind: list[Any]) -> None:
    slopes = constants[prelu.input[1]]
    steep = slopes.reshape(-1) > 1  # [C]
    factors = np.where(steep, -slopes.reshape(-1), np.float32(1))
    weight = constants[before.input[1]]
    _put(proto, constants, before, 1, weight * factors.reshape(-1, *[1] * (weight.ndim - 1)))
    if len(before.input) > 2:
        _put(proto, constants, before, 2, constants[before.input[2]] * factors)
    _put(proto, constants, prelu, 1, np.where(slopes > 1, 1 / np.maximum(slopes, 1), slopes))
    signs = np.where(steep, np.float32(-1), np.float32(1))
    for node in behind:
        _put(proto, constants, node, 1, _by_input(constants[node.input[1]], signs, attributes_of(node).get("group", 1)))


def _by_input(
    weight: npt.NDArray[np.float32],  # [N, C / groups, ...]
    signs: npt.NDArray[np.float32],  # [C]
    groups: int,
) -> npt.NDArray[np.float32]:
    """Multiply the weights of a convolution by a factor for each of its input channels."""
    factors = np.repeat(signs.reshape(groups, -1), len(weight) // groups, axis=0)  # [N, C / groups]
    return weight * factors.reshape(*factors.shape, *[1] * (weight.ndim - 2))


def _put(proto: Any, constants: Constants, node: Any, place: int, value: npt.NDArray[Any]) -> None:
    """Give a node a constant of its own in place of one that others may read too."""
    name = f"{node.output[0]}.{place}.flat"
    while name in constants:  # a convolution between two PReLUs is changed from both sides
        name += "ter"
    constants[name] = value.astype(np.float32)
    node.input[place] = add_constant(proto, name, constants[name])
