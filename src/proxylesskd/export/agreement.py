"""The gate's second half: does a file decide about pairs of faces as the network it came from does?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.data.pairs import Pairs
from proxylesskd.evaluation.bootstrap import bootstrap, interval, make_metric, paired_difference
from proxylesskd.evaluation.embed import pair_scores
from proxylesskd.evaluation.roc import impostors_allowed, roc_curve, tar_at_far
from proxylesskd.evaluation.verification import fold_accuracy
from proxylesskd.export.gate import GateReport, gate

FARS = (1e-3, 1e-2, 1e-1)
REPLICATES = 500

Units = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """Beyond what an exported file is refused.

    Attributes:
        every: cosine to the network that every face must reach; -1 for no such rule.
        mean: cosine that the mean over all faces must reach.
        accuracy: by how much the verification accuracy may fall, in [0, 1].
    """

    every: float
    mean: float
    accuracy: float = 0.003


LIMITS: Mapping[str, Limits] = {
    "float32": Limits(0.9999, 0.9999),
    "float16": Limits(0.999, 0.999),
    "int8": Limits(-1.0, 0.97),
}


@dataclass(frozen=True)
class Change:
    """What became of one number.

    Attributes:
        network: its value with the PyTorch network.
        file: its value with the file.
        difference: file minus network.
        lower: lower end of the difference's 95 % interval, from a paired bootstrap.
        upper: upper end.
        own: 95 % interval of the network's value.
    """

    network: float
    file: float
    difference: float
    lower: float
    upper: float
    own: tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """How a file compares with its network.

    Attributes:
        cosine: agreement of embeddings, image by image.
        limits: what was asked of it.
        accuracy: ten-fold verification accuracy, None without pairs.
        tar: TAR at ``far``, None without enough pairs.
        far: lowest of 1e-3, 1e-2 and 1e-1 that the pairs support.
    """

    cosine: GateReport
    limits: Limits
    accuracy: Change | None = None
    tar: Change | None = None
    far: float | None = None

    def complaints(self) -> list[str]:
        """Return in words which limits were broken."""
        found = []
        if not self.cosine.passed:
            found.append(
                f"a cosine of {self.cosine.worst_cosine:.6f} for face {self.cosine.worst_image} instead of at least "
                f"{self.limits.every:g} ({self.cosine.failed} of {self.cosine.images} faces fail)"
            )
        if not self.cosine.mean_cosine >= self.limits.mean:
            found.append(f"a mean cosine of {self.cosine.mean_cosine:.6f} instead of at least {self.limits.mean:g}")
        if self.accuracy is not None and self.accuracy.difference < -self.limits.accuracy:
            found.append(
                f"an accuracy of {100 * self.accuracy.file:.2f} % instead of {100 * self.accuracy.network:.2f} % "
                f"(at most {100 * self.limits.accuracy:g} points less)"
            )
        if self.tar is not None and self.tar.file < self.tar.own[0]:
            low, high = (100 * end for end in self.tar.own)
            found.append(
                f"a TAR of {100 * self.tar.file:.2f} % at FAR {self.far:g}, below the interval of the network's "
                f"own {100 * self.tar.network:.2f} % [{low:.2f}, {high:.2f}]"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for files."""
        return asdict(self)


def agreement(reference: Units, candidate: Units, limits: Limits, pairs: Pairs | None = None) -> Agreement:
    """Compare embeddings ``[M, D]`` of the same faces, and decisions about pairs of these faces.

    Args:
        reference: by the network.
        candidate: by the file.
        limits: what is asked of the file.
        pairs: whose ``images`` were embedded; None for the cosine alone.

    Raises:
        UserError: the shapes differ.
    """
    cosine = gate(reference, candidate, limits.every)
    if pairs is None or not np.isfinite(candidate).all():
        return Agreement(cosine, limits)
    scores = [pair_scores(units, units, pairs) for units in (_unit(reference), _unit(candidate))]
    accuracy = _change("accuracy", scores, pairs, [fold_accuracy(s, pairs.same, pairs.fold).mean for s in scores])
    far = supported_far(pairs)
    if far is None:
        return Agreement(cosine, limits, accuracy)
    rates = [tar_at_far(roc_curve(s, pairs.same), far)[0] for s in scores]
    return Agreement(cosine, limits, accuracy, _change(f"tar@far={far!r}", scores, pairs, rates), far)


def supported_far(pairs: Pairs) -> float | None:
    """Return the lowest false accept rate of :data:`FARS` for which there are enough impostor pairs."""
    impostors = int((~pairs.same).sum())
    return next((far for far in FARS if impostors_allowed(far, impostors) >= 1), None)


def _change(metric: str, scores: list[Any], pairs: Pairs, values: list[float]) -> Change:
    difference = paired_difference(scores[1], scores[0], pairs, metric=metric, replicates=REPLICATES)
    drawn = bootstrap({metric: make_metric(metric)}, scores[0], pairs, replicates=REPLICATES)[metric]
    own = interval(drawn) or (values[0], values[0])
    return Change(values[0], values[1], values[1] - values[0], difference.lower, difference.upper, own)


def _unit(embeddings: Units) -> Units:
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    unit: Units = (embeddings / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
