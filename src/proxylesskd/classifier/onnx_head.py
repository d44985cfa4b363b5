"""The classifier inside a whole teacher in ONNX: its last MatMul or Gemm, where that makes the output.

An embedder may end in a Gemm as well. Which of the two it is, is not guessed: a last layer has more rows than columns,
or as many as there are identities; with a number of identities that does not fit, only what the graph does to its
output or its weights shows that it is a classifier all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proxylesskd.classifier.head import Found, Matrix, NoHeadError, listed, shown_key
from proxylesskd.classifier.onnx_constant import Array, Constants
from proxylesskd.errors import UserError
from proxylesskd.models.onnx_graph import read_graph

_CLASSIFYING = ("Softmax", "LogSoftmax")
_PASSING = ("Identity", "Cast", "Clip", "QuantizeLinear", "DequantizeLinear")
_NORMALISING = {"LpNormalization", "ReduceL2", "ReduceSumSquare", "Sqrt"}
_WIDEST_EMBEDDING = 2048  # an output with more columns is one per identity


@dataclass(frozen=True)
class Product:
    """The last matrix product of a graph.

    Attributes:
        matrix: rows ``[C, D]`` or, transposed, ``[D, C]``.
        embedding: name of the tensor ``[B, D]`` that is multiplied by it.
        certain: whether something tells it from the layer that makes an embedding: a softmax or a scale comes after
            it, or embeddings or weights are normalised before it.
    """

    matrix: Matrix
    embedding: str
    certain: bool

    @property
    def size(self) -> tuple[int, int]:
        """C and D."""
        height, width = self.matrix.values.shape
        return (width, height) if self.matrix.transposed else (height, width)


def read_onnx(path: Path, *, key: str | None = None, count: int | None = None) -> Found:
    """Read the last layer of a whole teacher.

    Args:
        path: the ``.onnx`` file.
        key: name of its weight in the graph, where only the user's word says that it is the last layer.
        count: the number of identities, where known.

    Raises:
        NoHeadError: the graph ends in something else, as embedders do.
        UserError: no ONNX file, several outputs are classifiers, or no last layer has the name ``key``.
    """
    model, _ = read_graph(path)
    products = [found for output in model.graph.output if (found := last_product(model, output.name)) is not None]
    if not products:
        raise NoHeadError(
            f"expected '{path}' to end in the classifier, found no MatMul or Gemm with constant weights at its end; "
            "it is an embedder: estimate the rows"
        )
    product = _chosen(products, path, key, count)
    notes = [
        f"the graph goes on after its embedding: load the teacher as {path.name}:output={shown_key(product.embedding)}"
    ]
    if not product.certain:
        notes.append("nothing but its shape tells the last layer from one that makes an embedding")
    return Found("last product of an ONNX graph", [product.matrix], [path.name], notes)


def last_product(model: Any, output: str) -> Product | None:
    """Go back from an output to the MatMul or Gemm with constant weights that makes it, or return None.

    Args:
        model: from :func:`~proxylesskd.models.onnx_graph.read_graph`.
        output: name of the output.
    """
    constants = Constants(model)
    certain, bias = False, np.zeros(1)
    for _ in range(len(model.graph.node)):
        node = constants.makers.get(output)
        if node is None:
            return None
        if node.op_type in ("MatMul", "Gemm"):
            return _product(constants, node, bias, certain)
        step = _step(constants, node)
        if step is None:
            return None
        output, added, classifies = step
        certain, bias = certain or classifies, np.append(bias, added)
    return None


def _step(constants: Constants, node: Any) -> tuple[str, Array, bool] | None:
    """Return the tensor before a node that changes logits harmlessly, what it adds, and whether embedders lack it."""
    nothing = np.zeros(1)
    if node.op_type in _PASSING:
        return node.input[0], nothing, False
    if node.op_type in _CLASSIFYING:
        return node.input[0], nothing, True
    if node.op_type not in ("Add", "Mul", "Div") or len(node.input) != 2:
        return None
    values = [constants.find(name) for name in node.input]
    fixed = values[1] if values[1] is not None else values[0]
    before = node.input[0 if values[1] is not None else 1]
    if fixed is None or (node.op_type == "Div" and values[1] is None):
        return None
    if node.op_type == "Add":
        return before, fixed.astype(np.float64), False
    # One positive number for all identities does not change which row is nearest.
    return (before, nothing, True) if fixed.size == 1 and float(fixed.reshape(-1)[0]) > 0 else None


def _product(constants: Constants, node: Any, bias: Array, certain: bool) -> Product | None:
    options = {attribute.name: attribute for attribute in node.attribute}
    turned = "transB" in options and options["transB"].i == 1
    if ("transA" in options and options["transA"].i) or ("alpha" in options and options["alpha"].f <= 0):
        return None
    weights = constants.find(node.input[1])
    added = constants.find(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    if weights is None or added is None or weights.ndim != 2 or weights.dtype.kind != "f":
        return None
    normalised = _NORMALISING & (constants.operators(node.input[1]) | _operators_before(constants, node.input[0]))
    matrix = Matrix(
        constants.largest_weight(node.input[1]),
        _tensor(weights),
        transposed=not turned,
        bias=torch.from_numpy(np.append(bias, added.astype(np.float64))),
    )
    return Product(matrix, node.input[0], certain or bool(normalised))


def _operators_before(constants: Constants, embedding: str) -> set[str]:
    """Return the operators that make an embedding of unit length: one, or a division by what comes after a sum."""
    node = constants.makers.get(embedding)
    found = {node.op_type} if node is not None else set[str]()
    if node is not None and node.op_type == "Div":
        name = node.input[1]
        for _ in range(4):  # such as ReduceL2, Clip, Expand
            node = constants.makers.get(name)
            if node is None:
                break
            found.add(node.op_type)
            name = node.input[0] if node.input else ""
    return found


def _chosen(products: list[Product], path: Path, key: str | None, count: int | None) -> Product:
    if key is not None:
        usable = [product for product in products if product.matrix.key == key]
        if not usable:
            raise UserError(
                f"expected the last product of '{path}' to have the weight '{key}', found "
                f"{listed(product.matrix for product in products)}"
            )
    else:
        usable = [product for product in products if _is_head(product, count)]
    if len(usable) == 1:
        return usable[0]
    shown = listed(product.matrix for product in usable or products)
    if usable:
        raise UserError(f"expected one classifier in '{path}', found several: {shown}; name one with --key")
    wanted = "more rows than columns" if count is None else f"{count} rows"
    raise NoHeadError(
        f"expected a last layer of {wanted} at the end of '{path}', found {shown}, which may make the embedding: name "
        "it with --key if it is the classifier, or estimate the rows"
    )


def _is_head(product: Product, count: int | None) -> bool:
    rows, dim = product.size
    if count is None:
        return rows > dim
    return rows == count or (rows > dim and (product.certain or rows > _WIDEST_EMBEDDING))


def _tensor(weights: Array) -> Tensor:
    # A copy: arrays that share their memory with the file's message are read-only.
    return torch.from_numpy(np.array(weights, dtype=weights.dtype.newbyteorder("=")))
