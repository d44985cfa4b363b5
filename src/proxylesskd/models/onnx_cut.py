"""Cutting a graph short: the network up to a tensor inside it, such as the embedding before a classifier."""

from __future__ import annotations

from typing import Any

from proxylesskd.errors import UserError, nearest

_SHOWN = 6


def cut_at(model: Any, tensor: str) -> Any:
    """Return a copy of an ONNX model whose only output is a tensor that the graph computes.

    Nodes and weights that it does not need are left out.

    Args:
        model: from :func:`~proxylesskd.models.onnx_graph.read_graph`.
        tensor: name of the tensor.

    Raises:
        UserError: no node makes a tensor of that name.
    """
    from onnx import helper

    makers = {name: node for node in model.graph.node for name in node.output if name}
    if tensor not in makers:
        # The end of a graph is where embeddings are.
        last = ", ".join(f"'{name}'" for name in list(makers)[-_SHOWN:])
        raise UserError(
            f"expected output={tensor} to be a tensor inside the graph, found none{nearest(tensor, makers)}; "
            f"the last ones are {last}"
        )
    wanted = _needed(makers, tensor)
    cut = type(model)()
    cut.CopyFrom(model)
    graph = cut.graph
    nodes = [node for node in graph.node if wanted.intersection(node.output)]
    weights = [weight for weight in graph.initializer if weight.name in wanted]
    output = next((value for value in (*graph.value_info, *graph.output) if value.name == tensor), None)
    # Without a declared type the runtime infers it.
    outputs = [output or helper.make_empty_tensor_value_info(tensor)]
    for place, kept in ((graph.node, nodes), (graph.initializer, weights), (graph.output, outputs)):
        copies = [type(item).FromString(item.SerializeToString()) for item in kept]
        del place[:]
        place.extend(copies)
    return cut


def _needed(makers: dict[str, Any], tensor: str) -> set[str]:
    """Return the names of all tensors that go into one."""
    wanted, todo = {tensor}, [tensor]
    while todo:
        node = makers.get(todo.pop())
        fresh = _reads(node) - wanted if node is not None else set()
        wanted |= fresh
        todo += fresh
    return wanted


def _reads(node: Any) -> set[str]:
    """Return the tensors that a node reads, by the graphs of its branches and loops as well."""
    inner = [branch for attribute in node.attribute for branch in (attribute.g, *attribute.graphs)]
    return set(node.input).union(*(_reads(child) for graph in inner for child in graph.node))
