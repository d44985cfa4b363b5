"""What any protocol found, in one form, so that tables, pages and comparisons need not know the protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.evaluation.roc import Floats
from proxylesskd.export.run_folder import read_json

FILE, FOLDER = "outcome.json", "protocols"
FORMAT = 1
KINDS = ("roc", "det", "cmc", "density")


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
        kind: ``"roc"`` (FAR, TAR), ``"det"`` (FAR or FPIR, FRR or FNIR), ``"cmc"`` (rank, hit rate) or
            ``"density"`` (similarity, share of the comparisons around it).
        x: ``[K]``.
        y: ``[K]``.
    """

    kind: Literal["roc", "det", "cmc", "density"]
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


def read_outcome(folder: Path) -> Outcome:
    """Read the ``outcome.json`` of a folder.

    Raises:
        UserError: there is none, or it is of another form.
    """
    path = folder / FILE
    told = read_json(path)
    if told is None:
        raise UserError(f"expected {FILE} in '{folder}', found none; evaluate again")
    if told.get("format") != FORMAT:
        raise UserError(f"expected format {FORMAT} in '{path}', found {told.get('format')!r}; evaluate again")
    try:
        return _outcome(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"expected the outcome of a protocol in '{path}', found {error!r}; evaluate again") from error


def read_outcomes(folder: Path) -> dict[str, Outcome]:
    """Read what a run folder knows of protocols, by their names: the outcomes in ``protocols/*/``.

    Raises:
        UserError: one is malformed.
    """
    found = [read_outcome(path.parent) for path in sorted((folder / FOLDER).glob(f"*/{FILE}"))]
    return {outcome.protocol: outcome for outcome in found}


def _outcome(told: Mapping[str, Any]) -> Outcome:
    return Outcome(
        protocol=_text(told["protocol"]),
        model=_text(told["model"]),
        gallery=None if told["gallery"] is None else _text(told["gallery"]),
        counts={name: int(count) for name, count in told["counts"].items()},
        measures={mode: {n: _measure(m) for n, m in by_name.items()} for mode, by_name in told["measures"].items()},
        curves={mode: {t: _curve(c) for t, c in by_title.items()} for mode, by_title in told["curves"].items()},
        drawn=dict(told["bootstrap"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} in place of a name")
    return value


def _measure(told: Mapping[str, Any]) -> Measure:
    numbers = {name: told[name] for name in ("value", "lower", "upper", "threshold", "allowed")}
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float))):
            raise TypeError(f"{name} {number!r}")
    return Measure(**numbers)


def _curve(told: Mapping[str, Any]) -> Curve:
    x, y = np.array(told["x"], dtype=np.float64), np.array(told["y"], dtype=np.float64)
    if told["kind"] not in KINDS or x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"a curve of kind {told['kind']!r}, {x.shape} and {y.shape} points")
    return Curve(told["kind"], x, y)
