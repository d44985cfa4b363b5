"""Which layers bear eight bits: ranges by the best of three methods, and layers that hurt stay float.

The embedding after quantising is compared with the float one on faces that were not used for the ranges. When it is
not close enough, each layer is quantised alone to see how much it hurts; then the fewest of the worst stay float.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError
from proxylesskd.export.calibrate import METHODS, Range, histograms, open_graph, ranges
from proxylesskd.export.contract import INPUT, OUTPUT
from proxylesskd.export.gate import gate
from proxylesskd.export.quantise import layers, prepared, quantise, tensors

TARGET = 0.99  # mean cosine to the float embedding

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Mixed:
    """What the search chose.

    Attributes:
        method: how ranges were found.
        mean_cosine: to the float embedding, on the faces of the search.
        floating: layers that stay float.
        layers: how many layers there are.
        harm: mean of 1 - cosine with one layer alone in eight bits; empty where all layers bore them at once.
    """

    method: str
    mean_cosine: float
    floating: tuple[str, ...]
    layers: int
    harm: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for files."""
        return asdict(self)


class _Search:
    """Quantises one network in different ways and measures each."""

    def __init__(self, proto: Any, inputs: Pixels) -> None:
        self.proto, self.inputs = proto, inputs
        self.right = self._embed(proto)

    def _embed(self, proto: Any) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = open_graph(proto).run([OUTPUT], {INPUT: self.inputs})[0]
        return found

    def cosine(self, chosen: Mapping[str, Range], floating: Collection[str] = ()) -> float:
        """Return the mean cosine with some layers left float; one of a nan is no agreement at all."""
        mean = gate(self.right, self._embed(quantise(self.proto, chosen, floating)), -1).mean_cosine
        return mean if np.isfinite(mean) else -1.0


def quantised(
    body: Any, calibration: Pixels, faces: Pixels, *, target: float = TARGET, methods: Sequence[str] = METHODS
) -> tuple[Any, Mixed]:
    """Return a network's graph in eight bits, and what was chosen.

    Args:
        body: from :func:`proxylesskd.export.onnx.network_graph`.
        calibration: ``[N, ...]`` prepared training faces, for the ranges.
        faces: ``[M, ...]`` other prepared faces, for the choice.
        target: mean cosine to the float embedding that is aimed at with as few float layers as possible.
        methods: ways of finding ranges that are tried.

    Raises:
        UserError: the network has no layer that could be quantised.
    """
    proto = prepared(body)
    names = layers(proto)
    if not names:
        raise UserError("expected convolutions or linear layers with constant weights to quantise, found none")
    seen = histograms(proto, calibration, tensors(proto))
    search = _Search(proto, faces)
    tried = {method: ranges(seen, method) for method in methods}
    cosines = {method: search.cosine(tried[method]) for method in methods}
    best = max(cosines, key=cosines.__getitem__)
    if cosines[best] >= target:
        return quantise(proto, tried[best]), Mixed(best, cosines[best], (), len(names), {})
    harm = {name: 1 - search.cosine(tried[best], set(names) - {name}) for name in names}
    floating, cosine = _fewest(search, tried[best], sorted(names, key=lambda name: -harm[name]), target)
    return quantise(proto, tried[best], floating), Mixed(best, cosine, tuple(floating), len(names), harm)


def _fewest(search: _Search, chosen: Mapping[str, Range], worst: list[str], target: float) -> tuple[list[str], float]:
    """Return the shortest head of a list of layers that, left float, reaches the target, by bisection."""
    low, high, reached = 0, len(worst), 1.0  # low is known to fail, high to do: everything float
    while high - low > 1:
        middle = (low + high) // 2
        cosine = search.cosine(chosen, worst[:middle])
        if cosine >= target:
            high, reached = middle, cosine
        else:
            low = middle
    return worst[:high], reached
