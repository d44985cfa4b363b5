"""What any protocol found, in one form, so that tables, pages and comparisons need not know the protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from proxylesskd.evaluation.roc import Floats

FILE = "outcome.json"
FORMAT = 1


@dataclass(frozen=True)
class Measure:
    """One number of a protocol.

    Attributes:
        value: in [0, 1], or None where the set cannot support it, as TAR at a FAR of less than one impostor.
        lower: end of its 95 % bootstrap interval, None without replicates.
        upper: the other end.
        threshold: similarity from which is accepted, where the number has one.
        allowed: impostors that may be accepted; below ten the number rests on very few.
    """

    value: float | None
    lower: float | None = None
    upper: float | None = None
    threshold: float | None = None
    allowed: int | None = None


@dataclass(frozen=True)
class Curve:
    """A curve of a protocol, thinned to what a picture needs.

    Attributes:
        kind: ``"roc"`` (FAR, TAR), ``"det"`` (FAR or FPIR, FRR or FNIR) or ``"cmc"`` (rank, hit rate).
        x: ``[K]``.
        y: ``[K]``.
    """

    kind: Literal["roc", "det", "cmc"]
    x: Floats
    y: Floats


@dataclass(frozen=True)
class Outcome:
    """What a protocol found about one model.

    Attributes:
        protocol: what a person would call it: ``"IJB-C 1:1"``.
        model: name of the probe's model.
        gallery: name of the model that made the gallery in cross-model mode, or None.
        counts: what was compared: templates, images, genuine and impostor comparisons.
        measures: mode (``"single"``, ``"cross"``) -> name of the number -> the number. Names are those that
            :mod:`proxylesskd.evaluation` uses: ``accuracy``, ``auc``, ``eer``, ``tar@far=0.001``, and ``rank-1``,
            ``tpir@fpir=0.01``; a group or split stands before it, as in ``African/accuracy``.
        curves: mode -> title -> curve.
        drawn: what the bootstrap drew, how often, with which seed; empty without.
    """

    protocol: str
    model: str
    gallery: str | None
    counts: Mapping[str, int]
    measures: Mapping[str, Mapping[str, Measure]]
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    drawn: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``outcome.json``."""
        curves = {
            mode: {title: {"kind": c.kind, "x": c.x.tolist(), "y": c.y.tolist()} for title, c in by_title.items()}
            for mode, by_title in self.curves.items()
        }
        measures = {mode: {name: asdict(m) for name, m in by_name.items()} for mode, by_name in self.measures.items()}
        return {
            "format": FORMAT,
            "protocol": self.protocol,
            "model": self.model,
            "gallery": self.gallery,
            "counts": dict(self.counts),
            "measures": measures,
            "curves": curves,
            "bootstrap": dict(self.drawn),
        }

    def save(self, folder: str | Path) -> None:
        """Write ``outcome.json``; NaN and infinity are refused, for no other program reads them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False), encoding="utf-8")


def outcome_from(told: Mapping[str, Any]) -> Outcome:
    """Return the outcome that ``to_dict`` told of.

    Raises:
        KeyError, TypeError: it did not.
    """
    return Outcome(
        protocol=told["protocol"],
        model=told["model"],
        gallery=told["gallery"],
        counts=told["counts"],
        measures={mode: {n: Measure(**m) for n, m in by_name.items()} for mode, by_name in told["measures"].items()},
        curves={
            mode: {t: Curve(c["kind"], np.array(c["x"], float), np.array(c["y"], float)) for t, c in by_title.items()}
            for mode, by_title in told["curves"].items()
        },
        drawn=told["bootstrap"],
    )
