"""Which nodes of a network compute in eight bits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxylesskd.export.contract import OUTPUT
from proxylesskd.export.graph import attributes_of, constants_of, consumers_of, producers_of

WEIGHED = ("Conv", "Gemm")


@dataclass
class Plan:
    """Which nodes of a graph are quantised.

    Attributes:
        nodes: position and kind: ``"weighed"``, ``"scaled"`` (of a PReLU), ``"maximum"`` (of a PReLU) or ``"added"``.
        same: tensors that share the scale of another.
    """

    nodes: dict[int, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)


def plan_of(proto: Any, floating: Collection[str]) -> Plan:
    """Plan a graph from :func:`~proxylesskd.export.quantise.prepared`; the layers ``floating`` stay float."""
    constants, producers, consumers = constants_of(proto), producers_of(proto), consumers_of(proto)
    plan, eight = Plan(), set[str]()
    for position, node in enumerate(proto.graph.node):
        if is_weighed(node, constants) and node.output[0] not in floating:
            plan.nodes[position] = "weighed"
        elif _is_slope(node, eight, constants, producers, consumers):
            plan.nodes[position] = "scaled"
            plan.same[node.output[0]] = node.input[0]
        elif node.op_type == "Max" and set(node.input) <= eight and producers[node.input[1]].input[0] == node.input[0]:
            plan.nodes[position] = "maximum"
            plan.same[node.output[0]] = node.input[0]
        elif node.op_type == "Add" and set(node.input) <= eight:
            plan.nodes[position] = "added"
        else:
            continue
        if node.output[0] != OUTPUT:
            eight.add(node.output[0])
    return plan


def _is_slope(
    node: Any,
    eight: Collection[str],
    constants: Mapping[str, Any],
    producers: Mapping[str, Any],
    consumers: Mapping[str, Sequence[Any]],
) -> bool:
    """Say whether a product is the lower half of a PReLU from :func:`as_maximum`, behind a quantised convolution."""
    if node.op_type != "Mul" or node.input[0] not in eight or producers[node.input[0]].op_type != "Conv":
        return False
    slopes = constants.get(node.input[1])
    channels = len(constants[producers[node.input[0]].input[1]])
    readers = consumers.get(node.output[0], [])
    return (
        slopes is not None
        and (slopes.size == 1 or slopes.shape[-3:] == (slopes.size, 1, 1) == (channels, 1, 1))
        and len(readers) == 1
        and readers[0].op_type == "Max"
        and node.input[0] in readers[0].input
    )


def is_weighed(node: Any, constants: Mapping[str, Any]) -> bool:
    """Say whether a node is a convolution or linear layer with constant weights that eight bits can hold."""
    if node.op_type not in WEIGHED or any(name not in constants for name in node.input[1:]):
        return False
    attributes = attributes_of(node)
    plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA")
    return node.op_type == "Conv" or (plain and attributes.get("transB") == 1)
