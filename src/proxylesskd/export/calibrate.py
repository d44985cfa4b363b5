"""Which range each tensor of a graph takes on real faces, and which part of it eight bits had better cover."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.export.contract import INPUT
from proxylesskd.export.graph import copy_of

BINS = 2048
BATCH = 8
METHODS = ("minmax", "percentile", "entropy")
PERCENTILE = 99.99
_LEVELS = 256
_STEPS = 16

Range = tuple[float, float]


@dataclass(frozen=True)
class Histogram:
    """How often one tensor took which value.

    Attributes:
        low: lowest value.
        high: highest value.
        counts: ``[BINS] int64`` between them.
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]


def histograms(proto: Any, inputs: npt.NDArray[np.float32], tensors: Sequence[str]) -> dict[str, Histogram]:
    """Run a graph on prepared faces ``[M, …]`` twice: for the ends of every tensor's range, and for what lies between.

    Args:
        proto: ``image`` in.
        inputs: what the graph takes.
        tensors: whose values are wanted; the input may be one.
    """
    session = open_graph(with_outputs(proto, [name for name in tensors if name != INPUT]))
    ends: dict[str, Range] = {}
    for values in _runs(session, inputs, tensors):
        for name, value in values.items():
            low, high = ends.get(name, (np.inf, -np.inf))
            ends[name] = min(low, float(value.min())), max(high, float(value.max()))
    counts = {name: np.zeros(BINS, np.int64) for name in tensors}
    for values in _runs(session, inputs, tensors):
        for name, value in values.items():
            counts[name] += np.histogram(value, BINS, _wide(*ends[name]))[0]
    return {name: Histogram(*_wide(*ends[name]), counts[name]) for name in tensors}


def _wide(low: float, high: float) -> Range:
    """Widen what is so narrow that float32 cannot tell its bins apart."""
    least = max(1e-6, 1e-3 * max(abs(low), abs(high)))
    return (low, high) if high - low > least else (low - least, high + least)


def _runs(
    session: Any, inputs: npt.NDArray[np.float32], tensors: Sequence[str]
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    inner = [name for name in tensors if name != INPUT]
    for start in range(0, len(inputs), BATCH):
        part = inputs[start : start + BATCH]
        found = dict(zip(inner, session.run(inner, {INPUT: part}), strict=True))
        yield {**found, INPUT: part} if INPUT in tensors else found


def with_outputs(proto: Any, tensors: Sequence[str]) -> Any:
    """Return a copy of a graph that returns inner tensors instead of its outputs."""
    from onnx import TensorProto, helper

    watched = copy_of(proto)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    return watched


def open_graph(proto: Any, *, threads: int = 1) -> Any:
    """Open a graph in onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def ranges(found: Mapping[str, Histogram], method: str) -> dict[str, Range]:
    """Return ``(low, high)`` of every tensor, zero between them, by one of :data:`METHODS`."""
    choose = {"minmax": _ends, "percentile": _percentile, "entropy": _entropy}[method]
    return {name: _with_zero(*choose(histogram)) for name, histogram in found.items()}


def _with_zero(low: float, high: float) -> Range:
    return min(low, 0.0), max(high, 0.0)


def _ends(histogram: Histogram) -> Range:
    return histogram.low, histogram.high


def _percentile(histogram: Histogram) -> Range:
    """Leave out one value in ten thousand, half of it at each end."""
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    share = np.append(0.0, np.cumsum(histogram.counts) / max(1, histogram.counts.sum()))
    tail = (100 - PERCENTILE) / 200
    low = edges[max(0, int(np.searchsorted(share, tail, side="right")) - 1)]
    high = edges[min(BINS, int(np.searchsorted(share, 1 - tail, side="left")))]
    return float(low), float(high)


def _entropy(histogram: Histogram) -> Range:
    """Keep the share of the range whose quantised histogram diverges least from the whole one (Kullback-Leibler)."""
    shares = [(step + 1) / _STEPS for step in range(_STEPS // 4, _STEPS)]
    kept = [(histogram.low * share, histogram.high * share) for share in shares]
    return min(kept, key=lambda ends: _divergence(histogram, *_with_zero(*ends)))


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    """Return the divergence of a histogram, its tails clipped into the ends, from its 256-level version."""
    centres = np.linspace(histogram.low, histogram.high, 2 * BINS + 1)[1::2]
    bin_of = ((centres - low) / (high - low) * BINS).astype(np.int64).clip(0, BINS - 1)
    reference = np.bincount(bin_of, histogram.counts, BINS).astype(np.float64)
    inside = np.where((centres >= low) & (centres <= high), histogram.counts, 0)
    kept = np.bincount(bin_of, inside, BINS).reshape(_LEVELS, -1)
    filled = (reference.reshape(_LEVELS, -1) > 0).astype(np.float64)
    spread = filled * (kept.sum(1) / np.maximum(1, filled.sum(1)))[:, None]
    p = reference / reference.sum()
    q = np.maximum(spread.ravel() / max(1.0, spread.sum()), 1e-9)
    known = p > 0
    return float((p[known] * np.log(p[known] / q[known])).sum())
