"""Editing an ONNX graph so that runtimes run it faster, without changing what it computes.

onnxruntime runs PRelu element by element and leaves its blocked layout for it: two fifths of MobileFaceNet's time on
a CPU. ``a*x + (1-a)*relu(x)`` is the same function, made of operators that stay in that layout and fuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
# the only nodes that keep their names
PIXELS = ("Sub_mean", "Mul_scale")
# whose outputs keep their names, in all of the forms in which a file may hold a layer
LAYERS = ("Conv", "Gemm", "QLinearConv", "QuantizeLinear")


def constants_of(proto: Any) -> dict[str, npt.NDArray[Any]]:
    """Return every initializer of a graph as an array, by name."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def add_constant(proto: Any, name: str, value: npt.NDArray[Any]) -> str:
    """Add an initializer and return its name."""
    from onnx import numpy_helper

    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
    return name


def replace_nodes(proto: Any, nodes: Iterable[Any]) -> None:
    """Put other nodes in place of a graph's, and drop the constants and declared shapes that nothing uses any more."""
    nodes = list(nodes)
    graph = proto.graph
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]


def tidy(proto: Any) -> None:
    """Take out what tells of the machine that made the file, and what only makes it larger."""
    graph = proto.graph
    del graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    for number, node in enumerate(graph.node):
        # insightface takes node names that begin with Sub and Mul for a normalisation inside of the graph
        if node.name not in PIXELS:
            node.name = f"n{number:x}"
        _drop_defaults(node)
    _shorten(proto)
    proto.producer_name, proto.producer_version = "proxylesskd", ""


def _drop_defaults(node: Any) -> None:
    """Take out what a convolution does unasked: in a small network that is a tenth of a file of eight bits."""
    if node.op_type not in ("Conv", "QLinearConv"):
        return
    for attribute in list(node.attribute):
        ones = attribute.name in ("dilations", "strides") and set(attribute.ints) == {1}
        none = (attribute.name == "pads" and set(attribute.ints) == {0}) or attribute.s == b"NOTSET"
        if ones or none or (attribute.name == "group" and attribute.i == 1):
            node.attribute.remove(attribute)


def _shorten(proto: Any) -> None:
    """Give tensors short names: a small network in eight bits is to a fifth names.

    Layers keep theirs, by which the gate says which one is broken. A graph with others inside of it, which may read
    any of its tensors, is left alone.
    """
    if any(attribute.HasField("g") or attribute.graphs for node in proto.graph.node for attribute in node.attribute):
        return
    kept = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    short: dict[str, str] = {tensor.name: f"c{number:x}" for number, tensor in enumerate(proto.graph.initializer)}
    for node in proto.graph.node:
        for name in node.output:
            if node.op_type not in LAYERS and name not in kept and name:
                short[name] = f"t{len(short):x}"
    taken = {name for node in proto.graph.node for name in node.output if name not in short}
    if taken.intersection(short.values()):
        return
    for tensor in proto.graph.initializer:
        tensor.name = short[tensor.name]
    for node in proto.graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]


Rewrite = Callable[[Any, Any, Floats], list[Any]]


def expand_prelus(proto: Any, rewrite: Rewrite) -> None:
    """Replace every PRelu of constant slopes by the nodes that ``rewrite(proto, node, slopes)`` returns."""
    constants, nodes = constants_of(proto), []
    for node in proto.graph.node:
        slopes = constants.get(node.input[1]) if node.op_type == "PRelu" else None
        nodes += [node] if slopes is None else rewrite(proto, node, slopes.astype(np.float32))
    replace_nodes(proto, nodes)


def as_sum(proto: Any, node: Any, slopes: Floats) -> list[Any]:
    """Return ``slope*x + (1-slope)*relu(x)``, which fuses with convolutions in onnxruntime."""
    from onnx import helper

    x, y = node.input[0], node.output[0]
    low, high = add_constant(proto, f"{y}.slope", slopes), add_constant(proto, f"{y}.rest", 1 - slopes)
    return [
        helper.make_node("Relu", [x], [f"{y}.relu"], name=f"{y}.relu"),
        helper.make_node("Mul", [f"{y}.relu", high], [f"{y}.high"], name=f"{y}.high"),
        helper.make_node("Mul", [x, low], [f"{y}.low"], name=f"{y}.low"),
        helper.make_node("Add", [f"{y}.high", f"{y}.low"], [y], name=y),
    ]


def as_maximum(proto: Any, node: Any, slopes: Floats) -> list[Any]:
    """Return ``max(x, slope*x)``, which can be taken of quantised numbers as they are; equal where slopes are <= 1."""
    from onnx import helper

    if (slopes > 1).any():
        return [node]
    x, y = node.input[0], node.output[0]
    slope = add_constant(proto, f"{y}.slope", slopes)
    return [
        helper.make_node("Mul", [x, slope], [f"{y}.low"], name=f"{y}.low"),
        helper.make_node("Max", [x, f"{y}.low"], [y], name=y),
    ]


def attributes_of(node: Any) -> dict[str, Any]:
    """Return a node's attributes as plain values."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def producers_of(proto: Any) -> dict[str, Any]:
    """Return the node behind every tensor."""
    return {name: node for node in proto.graph.node for name in node.output}


def consumers_of(proto: Any) -> Mapping[str, list[Any]]:
    """Return the nodes that read every tensor."""
    found: dict[str, list[Any]] = {}
    for node in proto.graph.node:
        for name in dict.fromkeys(node.input):
            found.setdefault(name, []).append(node)
    return found


def in_order(proto: Any) -> list[Any]:
    """Return a graph's nodes, each behind those that it reads; converters put what they add anywhere."""
    made = producers_of(proto)
    done, ordered = set[str](), list[Any]()
    waiting = list(reversed(proto.graph.node))
    while waiting:
        node = waiting[-1]
        missing = [made[name] for name in node.input if name in made and name not in done]
        if missing:
            waiting.extend(missing)
            continue
        waiting.pop()
        if not done.issuperset(node.output):
            ordered.append(node)
            done.update(node.output)
    return ordered


def copy_of(proto: Any) -> Any:
    """Return an independent copy."""
    copy = type(proto)()
    copy.CopyFrom(proto)
    return copy


def fold_norms(proto: Any) -> None:
    """Fold every BatchNormalization into the Conv or Gemm before it, where nothing else reads that."""
    from onnx import helper

    constants, producers, consumers = constants_of(proto), producers_of(proto), consumers_of(proto)
    outputs = {value.name for value in proto.graph.output}
    gone: set[int] = set()
    for norm in proto.graph.node:
        before = producers.get(norm.input[0]) if norm.op_type == "BatchNormalization" else None
        if before is None or not _may_fold(before, norm, constants, consumers, outputs):
            continue
        gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in norm.input[1:5])
        scale = gamma / np.sqrt(variance + attributes_of(norm).get("epsilon", 1e-5))
        weight = constants[before.input[1]]
        bias = constants[before.input[2]] if len(before.input) > 2 else np.zeros(len(scale))
        scaled = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        names = [
            add_constant(proto, f"{norm.output[0]}.weight", scaled.astype(np.float32)),
            add_constant(proto, f"{norm.output[0]}.bias", ((bias - mean) * scale + beta).astype(np.float32)),
        ]
        folded = helper.make_node(before.op_type, [before.input[0], *names], [norm.output[0]], **attributes_of(before))
        before.CopyFrom(folded)
        gone.add(id(norm))
    replace_nodes(proto, [node for node in proto.graph.node if id(node) not in gone])


def _may_fold(
    before: Any, norm: Any, constants: Mapping[str, Any], consumers: Mapping[str, list[Any]], outputs: set[str]
) -> bool:
    known = all(name in constants for name in (*norm.input[1:5], *before.input[1:]))
    alone = len(consumers[norm.input[0]]) == 1 and norm.input[0] not in outputs
    weighed = before.op_type == "Conv" or (before.op_type == "Gemm" and attributes_of(before).get("transB") == 1)
    return known and alone and weighed
