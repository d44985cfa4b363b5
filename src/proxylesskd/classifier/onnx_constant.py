"""What the constant part of an ONNX graph is worth: weights that pass through casts, transpositions, normalisations.

Only a few operators are known, each written out here, and none may make more numbers than the largest weight of the
graph has: an untrusted file neither runs anything nor fills the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_MOST_NODES = 64  # a normalisation takes five


class NotConstantError(Exception):
    """A tensor depends on the input of the graph, or on an operator that is not known here."""


class Constants:
    """The constant tensors of one graph, computed when asked for.

    Args:
        model: from :func:`~proxylesskd.models.onnx_graph.read_graph`.
    """

    def __init__(self, model: Any) -> None:
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self._weights = {weight.name: weight for weight in model.graph.initializer}
        sizes = [_size(weight.dims) for weight in model.graph.initializer]
        constants = [node for node in model.graph.node if node.op_type == "Constant"]
        sizes += [_size(attribute.t.dims) for node in constants for attribute in node.attribute]
        self._limit = max(sizes, default=0)
        self._known: dict[str, Array] = {}

    def value(self, name: str) -> Array:
        """Return a constant tensor.

        Raises:
            NotConstantError: it is none.
        """
        for later in self._order(name):
            if later not in self._known:
                self._known[later] = self._computed(later)
        return self._known[name]

    def find(self, name: str) -> Array | None:
        """Return a constant tensor, or None for one that is not constant."""
        try:
            return self.value(name)
        except NotConstantError:
            return None

    def operators(self, name: str) -> set[str]:
        """Return the operators that make a constant tensor out of weights."""
        return {self.makers[made].op_type for made in self._order(name) if made in self.makers}

    def largest_weight(self, name: str) -> str:
        """Return the name of the largest weight that goes into a constant tensor."""
        weights = [made for made in self._order(name) if not self._inputs(made)]
        return max(weights, key=lambda weight: self.value(weight).size)

    def _inputs(self, name: str) -> list[str]:
        node = None if name in self._weights else self.makers.get(name)
        if node is None or node.op_type == "Constant":
            return []
        # What Expand and Reshape would make of it, numpy's broadcasting does by itself.
        return [part for part in (node.input[:1] if node.op_type == "Expand" else node.input) if part]

    def _order(self, name: str) -> list[str]:
        """Return what a tensor is computed from, itself last, refusing what is not constant."""
        order: list[str] = []
        todo, opened = [name], set[str]()
        while todo:
            current = todo[-1]
            self._check(current)
            missing = [part for part in self._inputs(current) if part not in order]
            if missing and current in opened:
                raise NotConstantError(name)  # it goes into itself
            if missing:
                opened.add(current)
                todo += missing
            else:
                order += [] if current in order else [current]
                todo.pop()
            if len(opened) > _MOST_NODES or len(todo) > _MOST_NODES:
                raise NotConstantError(name)
        return order

    def _check(self, name: str) -> None:
        if name in self._weights:
            return
        node = self.makers.get(name)
        if node is None or node.op_type not in (*_OPERATORS, "Constant") or node.domain not in ("", "ai.onnx"):
            raise NotConstantError(name)

    def _computed(self, name: str) -> Array:
        from onnx import numpy_helper

        if name in self._weights:
            return _numbers(numpy_helper.to_array(self._weights[name]))
        node = self.makers[name]
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is None:
                raise NotConstantError(name)
            return _numbers(numpy_helper.to_array(value))
        inputs = [self._known[part] for part in self._inputs(name)]
        try:
            if _size(np.broadcast_shapes(*(part.shape for part in inputs))) > self._limit:
                raise NotConstantError(name)
        except ValueError:
            if node.op_type in _ELEMENTWISE:
                raise NotConstantError(name) from None
        try:
            return np.asarray(_OPERATORS[node.op_type](_attributes(node), *inputs))
        except (ValueError, TypeError, IndexError) as error:
            raise NotConstantError(name) from error


def _size(dims: Any) -> int:
    size = 1
    for dim in dims:
        size *= int(dim)
    return size


def _numbers(array: Array) -> Array:
    """Return float16 to float64 and integers as they are, bfloat16 as float32, which holds it exactly."""
    if array.dtype.kind in "fiu" and array.dtype.itemsize <= 8:
        return array
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    raise NotConstantError(array.dtype.name)


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _cast(attributes: dict[str, Any], value: Array) -> Array:
    from onnx import TensorProto

    kinds = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
    if attributes.get("to") not in kinds:
        raise ValueError("a cast to no floating-point numbers")
    return value.astype(kinds[attributes["to"]])


def _axes(attributes: dict[str, Any], given: tuple[Array, ...]) -> tuple[int, ...] | None:
    if given:
        return tuple(int(axis) for axis in given[0].reshape(-1))
    return tuple(attributes["axes"]) if "axes" in attributes else None


def _reduce(before: Callable[[Array], Array], after: Callable[[Array], Array]) -> Callable[..., Array]:
    def reduce(attributes: dict[str, Any], value: Array, *axes: Array) -> Array:
        total = before(value).sum(axis=_axes(attributes, axes), keepdims=bool(attributes.get("keepdims", 1)))
        return after(total)

    return reduce


def _unit(attributes: dict[str, Any], value: Array) -> Array:
    if attributes.get("p", 2) != 2:
        raise ValueError("another norm than the Euclidean")
    norms = np.sqrt(np.square(value).sum(axis=attributes.get("axis", -1), keepdims=True))
    return np.asarray(value / np.where(norms == 0, 1, norms))


def _clip(attributes: dict[str, Any], value: Array, *bounds: Array) -> Array:
    if "min" in attributes or "max" in attributes:
        return np.asarray(np.clip(value, attributes.get("min"), attributes.get("max")))
    return np.asarray(np.clip(value, *bounds) if len(bounds) == 2 else np.maximum(value, *bounds) if bounds else value)


def _dequantized(attributes: dict[str, Any], value: Array, scale: Array, *zero: Array) -> Array:
    axis = attributes.get("axis", 1)
    shape = [1] * value.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    offset = zero[0].reshape(shape) if zero else 0
    return np.asarray((value.astype(np.float32) - offset) * scale.reshape(shape))


_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Max", "Pow")
_OPERATORS: dict[str, Callable[..., Array]] = {
    "Identity": lambda _, value: value,
    "Expand": lambda _, value: value,
    "Cast": _cast,
    "Transpose": lambda attributes, value: np.transpose(value, attributes.get("perm")),
    "DequantizeLinear": _dequantized,
    "Add": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Div": lambda _, a, b: a / b,
    "Max": lambda _, a, b: np.maximum(a, b),
    "Pow": lambda _, a, b: np.power(a, b),
    "Sqrt": lambda _, value: np.sqrt(value),
    "Reciprocal": lambda _, value: 1 / value,
    "Clip": _clip,
    "ReduceSum": _reduce(np.asarray, np.asarray),
    "ReduceSumSquare": _reduce(np.square, np.asarray),
    "ReduceL2": _reduce(np.square, np.sqrt),
    "LpNormalization": _unit,
}
