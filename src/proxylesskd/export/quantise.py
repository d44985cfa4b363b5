"""A network in eight bits: static, per channel, layer by layer as far as the layers bear it.

Convolutions are written as QLinearConv: in the form of a float convolution between QuantizeLinear and DequantizeLinear
runtimes fuse them only sometimes, and what they do not fuse is slower than float. The rest is in that form.

Activations are uint8 with a scale per tensor, weights int8 with a scale per channel and no more than seven bits: then
the pairwise int16 sums of CPUs without VNNI cannot overflow, and all CPUs give the same embeddings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.export.calibrate import Range
from proxylesskd.export.contract import OUTPUT
from proxylesskd.export.graph import (
    add_constant,
    as_maximum,
    attributes_of,
    constants_of,
    copy_of,
    expand_prelus,
    producers_of,
    replace_nodes,
)
from proxylesskd.export.grids import eight_bit_slopes, eight_bit_weights, grid, whole_bias
from proxylesskd.export.narrow import narrow_constants
from proxylesskd.export.plan import WEIGHED, Plan, is_weighed, plan_of


def prepared(body: Any) -> Any:
    """Return a copy of a network's graph in the form that is quantised: PReLUs as a maximum."""
    proto = copy_of(body)
    expand_prelus(proto, as_maximum)
    return proto


def layers(proto: Any) -> list[str]:
    """Return the outputs of the nodes with weights that can be quantised: what names a layer here."""
    constants = constants_of(proto)
    return [node.output[0] for node in proto.graph.node if is_weighed(node, constants)]


def tensors(proto: Any) -> list[str]:
    """Return every tensor whose range the quantiser may want."""
    constants = set(constants_of(proto))
    made = [
        name for node in proto.graph.node for name in node.output if node.op_type in (*WEIGHED, "Mul", "Max", "Add")
    ]
    read = [node.input[0] for node in proto.graph.node if node.op_type in WEIGHED]
    return [name for name in dict.fromkeys([*read, *made]) if name not in constants]


def quantise(proto: Any, ranges: Mapping[str, Range], floating: Collection[str] = ()) -> Any:
    """Return a quantised copy of a graph from :func:`prepared`.

    Args:
        proto: ``image`` in, ``embedding`` out, float32.
        ranges: of every tensor of :func:`tensors`.
        floating: layers of :func:`layers` that stay float.
    """
    target = copy_of(proto)
    made = _Writer(target, plan_of(target, set(floating)), ranges).write()
    narrow_constants(made)
    return made


class _Writer:
    """Writes the quantised graph node by node."""

    def __init__(self, proto: Any, plan: Plan, ranges: Mapping[str, Range]) -> None:
        self.proto, self.plan = proto, plan
        self.constants, self.producers = constants_of(proto), producers_of(proto)
        self.ranges = _shared(ranges, plan.same)
        self.made: list[Any] = []
        self.quantised: dict[str, str] = {}  # tensor -> its uint8 version
        self.restored: dict[str, str] = {}  # tensor -> that as float again

    def write(self) -> Any:
        """Return the graph."""
        for position, node in enumerate(list(self.proto.graph.node)):
            kind = self.plan.nodes.get(position)
            {"weighed": self._weighed, "scaled": self._scaled, "maximum": self._maximum, "added": self._added}.get(
                kind or "", self._float
            )(node)
        replace_nodes(self.proto, self.made)
        return self.proto

    def _float(self, node: Any) -> None:
        node.input[:] = [self._read(name) if name in self.quantised else name for name in node.input]
        self.made.append(node)

    def _weighed(self, node: Any) -> None:
        if node.op_type == "Conv":
            self._convolved(node)
            return
        data, scale = self._quantise_input(node.input[0])
        weight, weight_scale = self._weight(node.input[1], node.output[0])
        inputs = [data, weight]
        if len(node.input) > 2:
            inputs.append(self._bias(self.constants[node.input[2]], scale * weight_scale, node.output[0]))
        self._make(node, inputs)

    def _convolved(self, node: Any) -> None:
        scale = self._eight_bits(node.input[0])
        eight, weight_scale = eight_bit_weights(self.constants[node.input[1]])
        whole = [whole_bias(self.constants[name], scale * weight_scale) for name in node.input[2:]]
        self._convolve(node, eight, weight_scale, *whole, **attributes_of(node))

    def _convolve(
        self,
        node: Any,
        weight: npt.NDArray[np.int8],
        scale: npt.NDArray[np.float32],
        *bias: npt.NDArray[np.int32],
        **attributes: Any,
    ) -> None:
        from onnx import helper

        source, name = node.input[0], node.output[0]
        added = [
            add_constant(self.proto, f"{name}.w8", weight),
            add_constant(self.proto, f"{name}.ws", scale),
            self._no_offset(),
        ]
        inputs = [self.quantised[source], *self._grid_constants(source), *added, *self._grid_constants(name)]
        inputs += [add_constant(self.proto, f"{name}.b32", whole) for whole in bias]
        self.made.append(helper.make_node("QLinearConv", inputs, [f"{name}.u8"], name=f"{name}.u8", **attributes))
        self.quantised[name] = f"{name}.u8"

    def _no_offset(self) -> str:
        if "w8.zero" not in self.constants:
            self.constants["w8.zero"] = np.array(0, np.int8)
            add_constant(self.proto, "w8.zero", self.constants["w8.zero"])
        return "w8.zero"

    def _scaled(self, node: Any) -> None:
        """Multiply by slopes as a convolution of one weight a channel, which runtimes do faster than a product."""
        channels = len(self.constants[self.producers[node.input[0]].input[1]])
        slopes = np.broadcast_to(self.constants[node.input[1]].reshape(-1, 1, 1, 1), (channels, 1, 1, 1))
        eight, scale = eight_bit_slopes(slopes)
        self._convolve(node, eight, scale, group=channels, kernel_shape=[1, 1])

    def _maximum(self, node: Any) -> None:
        """Take the maximum of the uint8 numbers themselves: both sides and the result share one scale."""
        from onnx import helper

        name = node.output[0]
        inputs = [self.quantised[one] for one in node.input]
        self.made.append(helper.make_node("Max", inputs, [f"{name}.u8"], name=f"{name}.u8"))
        self.quantised[name] = f"{name}.u8"

    def _added(self, node: Any) -> None:
        self._make(node, [self._read(name) for name in node.input])

    def _make(self, node: Any, inputs: Sequence[str]) -> None:
        """Add a node that reads and, but for the embedding itself, writes quantised numbers."""
        name = node.output[0]
        node.input[:] = inputs
        if name != OUTPUT:
            node.output[0] = f"{name}.float"
        self.made.append(node)
        if name != OUTPUT:
            self._quantise(f"{name}.float", name)

    def _quantise_input(self, name: str) -> tuple[str, float]:
        scale = self._eight_bits(name)
        return self._read(name), scale

    def _eight_bits(self, name: str) -> float:
        """See that a tensor has its uint8 version, and return the scale."""
        if name not in self.quantised:
            self._quantise(name, name)
        return float(self.constants[self._grid_constants(name)[0]])

    def _quantise(self, tensor: str, name: str) -> None:
        from onnx import helper

        scale, zero = self._grid_constants(name)
        node = helper.make_node("QuantizeLinear", [tensor, scale, zero], [f"{name}.u8"], name=f"{name}.u8")
        self.made.append(node)
        self.quantised[name] = f"{name}.u8"

    def _read(self, name: str) -> str:
        if name not in self.restored:
            from onnx import helper

            scale, zero = self._grid_constants(name)
            made = f"{name}.back"
            node = helper.make_node("DequantizeLinear", [self.quantised[name], scale, zero], [made], name=made)
            self.made.append(node)
            self.restored[name] = made
        return self.restored[name]

    def _grid_constants(self, name: str) -> tuple[str, str]:
        owner = self.plan.same.get(name, name)
        owner = self.plan.same.get(owner, owner)
        if f"{owner}.scale" not in self.constants:
            scale, zero = grid(*self.ranges[owner])
            self.constants[f"{owner}.scale"] = np.array(scale, np.float32)
            add_constant(self.proto, f"{owner}.scale", self.constants[f"{owner}.scale"])
            add_constant(self.proto, f"{owner}.zero", np.array(zero, np.uint8))
        return f"{owner}.scale", f"{owner}.zero"

    def _weight(self, name: str, layer: str) -> tuple[str, npt.NDArray[np.float32]]:
        from onnx import helper

        eight, scale = eight_bit_weights(self.constants[name])
        inputs = [add_constant(self.proto, f"{layer}.w8", eight), add_constant(self.proto, f"{layer}.ws", scale)]
        made = f"{layer}.w"
        self.made.append(helper.make_node("DequantizeLinear", inputs, [made], name=made, axis=0))
        return made, scale

    def _bias(self, bias: npt.NDArray[np.float32], scale: npt.NDArray[np.float32], layer: str) -> str:
        from onnx import helper

        scale = scale.astype(np.float32)
        inputs = [
            add_constant(self.proto, f"{layer}.b32", whole_bias(bias, scale)),
            add_constant(self.proto, f"{layer}.bs", scale),
        ]
        made = f"{layer}.b"
        self.made.append(helper.make_node("DequantizeLinear", inputs, [made], name=made, axis=0))
        return made


def _shared(ranges: Mapping[str, Range], same: Mapping[str, str]) -> dict[str, Range]:
    """Widen the range of a tensor by those that share its scale."""
    wide = dict(ranges)
    for name, owner in same.items():
        wide[owner] = min(wide[owner][0], wide[name][0]), max(wide[owner][1], wide[name][1])
    return wide
