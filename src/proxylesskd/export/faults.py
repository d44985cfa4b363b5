"""When a file does not agree with its network: what is most likely wrong with it.

Each suspicion is put to the test. Colours and batch size by calling the file otherwise; mean and scale by what the
graph does to its pixels; a broken layer by comparing every layer's output with the network's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError
from proxylesskd.export.assemble import INNER_OUTPUT
from proxylesskd.export.calibrate import open_graph
from proxylesskd.export.contract import OUTPUT, Contract, contract_of, embed_with, open_session, prepare
from proxylesskd.export.gate import gate
from proxylesskd.export.graph import constants_of, copy_of, producers_of
from proxylesskd.models.onnx_graph import leading_affine
from proxylesskd.models.preprocess import Preprocessing

FACES = 16  # a suspicion is tested on so many
CURED = 0.9  # of the distance between the faulty cosine and 1 that the right suspicion mends
BROKEN = 0.25  # relative error of a layer's output from which it counts as broken
JUMP = 3.0  # and by so much it exceeds that of all layers before it

Faces = npt.NDArray[np.uint8]
Units = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """What a file should be.

    Attributes:
        preprocessing: how the network wants its images.
        body: the network alone as a graph, from :func:`proxylesskd.export.onnx.network_graph`.
        faces: ``[M, 3, 112, 112] uint8``.
        reference: ``[M, D]`` what the network makes of them.
    """

    preprocessing: Preprocessing
    body: Any
    faces: Faces
    reference: Units


def batch_fault(path: Path, faces: Faces, refused: int) -> str | None:
    """Say that a file runs one batch size only, or None when that is not what is wrong with it."""
    for batch in (1, 2, 4, 8, 16, 32):
        if batch != refused:
            try:
                embed_with(path, faces[:batch], batch=batch)
            except UserError:
                continue
            return f"its batch dimension is fixed: it runs {batch} at a time but not {refused}"
    return None


def likely_fault(path: Path, truth: Truth) -> str | None:
    """Return what is most likely wrong with an ONNX file whose embeddings are not the network's, or None."""
    import onnx

    proto, few = onnx.load(path), slice(0, FACES)
    faces, reference = truth.faces[few], truth.reference[few]
    contract = contract_of(open_session(path), path)
    return (
        _colours(path, faces, reference, contract)
        or _scaling(proto, truth, contract)
        or broken_layer(proto, truth, contract)
    )


def _colours(path: Path, faces: Faces, reference: Units, contract: Contract) -> str | None:
    plain = gate(reference, embed_with(path, faces, batch=len(faces)), -1).mean_cosine
    swapped = gate(reference, embed_with(path, faces[:, ::-1], batch=len(faces)), -1).mean_cosine
    if not 1 - swapped < (1 - CURED) * (1 - plain):
        return None
    order = contract.preprocessing.order
    other = "bgr" if order == "rgb" else "rgb"
    return (
        f"red and blue are swapped: it says {order.upper()}, and reaches a mean cosine of {swapped:.4f} instead of "
        f"{plain:.4f} when it is fed {other.upper()}"
    )


def _scaling(proto: Any, truth: Truth, contract: Contract) -> str | None:
    """Compare what becomes of a pixel value on its way to the first layer, in the file and in the network."""
    wanted = _through(truth.preprocessing, leading_affine(truth.body))
    found = _through(contract.preprocessing, leading_affine(proto))
    if np.allclose(wanted, found, rtol=1e-3, atol=1e-3):
        return None
    (scale, offset), (is_scale, is_offset) = wanted, found
    return (
        f"mean or scale is wrong: a pixel value v should become (v - {-offset / scale:.4g}) / {1 / scale:.4g}, and "
        f"becomes (v - {-is_offset / is_scale:.4g}) / {1 / is_scale:.4g}"
    )


def _through(outside: Preprocessing, inside: tuple[float, float]) -> tuple[float, float]:
    scale, offset = inside
    return scale / outside.std, offset - scale * outside.mean / outside.std


def broken_layer(proto: Any, truth: Truth, contract: Contract) -> str | None:
    """Name the first layer whose output is far from the network's while those before it are not, or None."""
    faces = truth.faces[:FACES]
    names = [node.output[0] for node in truth.body.graph.node if node.op_type in ("Conv", "Gemm")]
    ours = layer_outputs(truth.body, names, prepare(faces, truth.preprocessing))
    theirs = layer_outputs(proto, names, prepare(faces, contract.preprocessing, contract.dtype))
    worst_before = 0.01
    for number, name in enumerate(names):
        if name not in theirs:
            continue
        error = _relative_error(ours[name], theirs[name][: len(faces)])
        if error > BROKEN and error > JUMP * worst_before:
            return (
                f"layer {number + 1} of {len(names)} ('{name}') is broken: its output differs by {100 * error:.0f} % "
                f"from the network's, those before it by at most {100 * worst_before:.0f} %"
                f"{_in_eight_bits(proto, name)}"
            )
        worst_before = max(worst_before, error)
    return None


def _in_eight_bits(proto: Any, name: str) -> str:
    return "; its eight-bit scale is wrong or too coarse" if f"{name}.u8" in producers_of(proto) else ""


def _relative_error(right: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    if right.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.linalg.norm(found - right) / max(float(np.linalg.norm(right)), 1e-12))


def layer_outputs(proto: Any, names: list[str], inputs: npt.NDArray[Any]) -> Mapping[str, npt.NDArray[np.float32]]:
    """Run a graph and return the outputs of its layers by name, quantised ones as the numbers they stand for."""
    from onnx import ValueInfoProto

    made, watched = producers_of(proto), copy_of(proto)
    shown = {name: tensor for name in names if (tensor := _tensor_of(name, made)) is not None}
    del watched.graph.output[:]
    watched.graph.output.extend(ValueInfoProto(name=tensor) for tensor in shown.values())
    answers = open_graph(watched).run(list(shown.values()), {proto.graph.input[0].name: inputs})
    grids = {tensor: _grid_of(made[tensor], proto) for tensor in shown.values()}
    found = {}
    for (name, tensor), answer in zip(shown.items(), answers, strict=True):
        scale, zero = grids[tensor]
        found[name] = ((answer.astype(np.float32) - zero) * scale).astype(np.float32)
    return found


def _tensor_of(name: str, made: Mapping[str, Any]) -> str | None:
    """Return what a layer's output is called in a file: quantised, or before it was brought to unit length."""
    unscaled = [INNER_OUTPUT] if name == OUTPUT else []
    return next((tensor for tensor in (f"{name}.u8", *unscaled, name) if tensor in made), None)


def _grid_of(node: Any, proto: Any) -> tuple[float, float]:
    places = {"QLinearConv": (6, 7), "QuantizeLinear": (1, 2)}.get(node.op_type)
    if places is None:
        return 1.0, 0.0
    constants = constants_of(proto)
    scale, zero = (constants[node.input[place]] for place in places)
    return float(scale), float(zero)
