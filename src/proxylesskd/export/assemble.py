"""What stands around the network inside a file: pixels in front of it, unit length behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from proxylesskd.errors import UserError, nearest
from proxylesskd.export.contract import INPUT, OUTPUT
from proxylesskd.export.graph import add_constant, copy_of
from proxylesskd.models.preprocess import Preprocessing

ALIGNED = 112
INNER_OUTPUT = "network.out"  # what the network itself makes of an image, inside of a file


@dataclass(frozen=True)
class InputKind:
    """What a file takes.

    Attributes:
        name: as on the command line.
        dtype: of the input tensor.
        layout: ``"nchw"`` or ``"nhwc"``; None for the network's own.
        order: of the colours; None for the network's own.
        pixels: whether it takes 0..255 pixels of aligned 112x112 faces and does the rest inside.
    """

    name: str
    dtype: Literal["float32", "uint8"]
    layout: Literal["nchw", "nhwc"] | None = None
    order: Literal["rgb", "bgr"] | None = None
    pixels: bool = True


FLOAT = InputKind("float", "float32", pixels=False)
KINDS = {
    kind.name: kind
    for kind in (
        FLOAT,
        InputKind("pixels", "float32", "nchw", "rgb"),
        InputKind("uint8-nhwc-rgb", "uint8", "nhwc", "rgb"),
        InputKind("uint8-nhwc-bgr", "uint8", "nhwc", "bgr"),
        InputKind("uint8-nchw-rgb", "uint8", "nchw", "rgb"),
    )
}


def input_kind(name: str) -> InputKind:
    """Return a kind of input by name.

    Raises:
        UserError: there is none of this name.
    """
    if name not in KINDS:
        raise UserError(f"expected an input among {', '.join(KINDS)}, found '{name}'{nearest(name, KINDS)}")
    return KINDS[name]


def calling_of(network: Preprocessing, kind: InputKind) -> Preprocessing:
    """Return what is left to do for the caller of a file of this kind."""
    if not kind.pixels:
        return network
    assert kind.layout is not None
    assert kind.order is not None
    return Preprocessing(ALIGNED, 0.0, 1.0, kind.order, kind.layout)


class _Chain:
    """Nodes one after the other: each takes the tensor that the last one made."""

    def __init__(self, proto: Any, tensor: str, prefix: str) -> None:
        self.proto, self.tensor, self.prefix, self.nodes = proto, tensor, prefix, list[Any]()

    def add(self, operator: str, *constants: np.ndarray, name: str, first: bool = True, **attributes: Any) -> None:
        from onnx import helper

        made = f"{self.prefix}{len(self.nodes)}"
        others = [add_constant(self.proto, f"{made}.{i}", value) for i, value in enumerate(constants)]
        inputs = [self.tensor, *others] if first else [*others, self.tensor]
        self.nodes.append(helper.make_node(operator, inputs, [made], name=name, **attributes))
        self.tensor = made

    def unit(self, name: str) -> None:
        """Make rows unit length. OpenCV 4 knows no LpNormalization; a row of zeros stays one."""
        from onnx import helper

        rows = self.tensor
        self.add("ReduceL2", np.array([1], np.int64), name=f"{name}_length", keepdims=1)
        self.add("Max", np.array([1e-12], np.float32), name=f"{name}_positive")
        made = f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node("Div", [rows, self.tensor], [made], name=name))
        self.tensor = made


def assemble(
    body: Any, network: Preprocessing, kind: InputKind, *, normalise: bool = True, flip_fusion: bool = False
) -> Any:
    """Return the graph of a file: the network between its preprocessing and its normalisation.

    Args:
        body: the network alone, ``image`` in and ``embedding`` out, its batch dimension free.
        network: how the network wants its images.
        kind: what the file takes.
        normalise: make embeddings unit length.
        flip_fusion: add the embedding of the mirrored face before.
    """
    proto = copy_of(body)
    graph = proto.graph
    calling = calling_of(network, kind)
    for node in graph.node:
        node.input[:] = ["network.in" if name == INPUT else name for name in node.input]
        node.output[:] = [INNER_OUTPUT if name == OUTPUT else name for name in node.output]
    front = _front(proto, network, kind)
    if flip_fusion:
        _mirror(front, network)
    back = _back(proto, normalise=normalise, flip_fusion=flip_fusion)
    nodes = [*front.nodes, *graph.node, *back.nodes]
    _rename(nodes, {front.tensor: INPUT if not front.nodes else front.tensor})
    _connect(nodes, front.tensor if front.nodes else INPUT, back.tensor)
    del graph.node[:]
    graph.node.extend(nodes)
    _declare(graph, kind, calling)
    return proto


def _front(proto: Any, network: Preprocessing, kind: InputKind) -> _Chain:
    chain = _Chain(proto, INPUT, "front.")
    if not kind.pixels:
        return chain
    if kind.dtype == "uint8":
        chain.add("Cast", name="cast_pixels", to=1)
    if kind.layout == "nhwc":
        chain.add("Transpose", name="channels_first", perm=[0, 3, 1, 2])
    # these two names are how insightface recognises that a file normalises 0..255 pixels itself
    chain.add("Sub", np.float32(network.mean).reshape(1), name="Sub_mean")
    chain.add("Mul", np.float32(1 / network.std).reshape(1), name="Mul_scale")
    if kind.order != network.order:
        chain.add("Gather", np.array([2, 1, 0], np.int64), name="swap_colours", axis=1)
    if network.size != ALIGNED:
        by_area = area_matrix(ALIGNED, network.size)
        chain.add("MatMul", by_area.T, name="resize_width")
        chain.add("MatMul", by_area, name="resize_height", first=False)
    if network.layout == "nhwc":
        chain.add("Transpose", name="channels_last", perm=[0, 2, 3, 1])
    return chain


def area_matrix(source: int, target: int) -> np.ndarray:
    """Return ``[target, source] float32``: each row averages the source pixels under one target pixel.

    Whole pixels, any overlap counts fully: PyTorch's interpolation by area.
    """
    matrix = np.zeros((target, source), np.float32)
    for i in range(target):
        start, stop = i * source // target, -(-(i + 1) * source // target)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _mirror(front: _Chain, network: Preprocessing) -> None:
    """Append the mirrored faces to the batch: the network then stands in the graph once."""
    from onnx import helper

    straight, axis = front.tensor, 3 if network.layout == "nchw" else 2
    # OpenCV 4 slices forwards only
    front.add("Gather", np.arange(network.size, dtype=np.int64)[::-1], name="mirror", axis=axis)
    both = helper.make_node("Concat", [straight, front.tensor], ["front.both"], name="both_views", axis=0)
    front.nodes.append(both)
    front.tensor = "front.both"


def _back(proto: Any, *, normalise: bool, flip_fusion: bool) -> _Chain:
    from onnx import helper

    chain = _Chain(proto, INNER_OUTPUT, "back.")
    if flip_fusion:
        chain.unit("unit_views")  # both count alike, as in the evaluation
        halves = ["back.straight", "back.mirrored"]
        chain.nodes.append(helper.make_node("Split", [chain.tensor], halves, name="two_views", axis=0, num_outputs=2))
        chain.nodes.append(helper.make_node("Add", halves, ["back.sum"], name="sum_of_views"))
        chain.tensor = "back.sum"
    if normalise:
        chain.unit("unit_length")
    return chain


def _rename(nodes: list[Any], names: dict[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _connect(nodes: list[Any], front: str, back: str) -> None:
    """Let the network read what the front made, and let the file return what the back made."""
    ends = {"network.in": front}
    _rename(nodes, ends)
    _rename(nodes, {back: OUTPUT})


def _declare(graph: Any, kind: InputKind, calling: Preprocessing) -> None:
    from onnx import TensorProto, helper

    size = calling.size
    shape = [3, size, size] if calling.layout == "nchw" else [size, size, 3]
    element = TensorProto.UINT8 if kind.dtype == "uint8" else TensorProto.FLOAT
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, element, ["batch", *shape]))
    del graph.value_info[:]
