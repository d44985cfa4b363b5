"""What ``evaluation.json`` says, read back as the few values that a page or a card shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from proxylesskd.errors import UserError
from proxylesskd.export.run_folder import read_json

Interval = tuple[float, float]
Value = TypeVar("Value")
MODES = ("single", "cross")
# a rate that rests on fewer accepted impostor pairs than this may move by much with the next pair list
FEW = 10


@dataclass(frozen=True)
class Measure:
    """A value in [0, 1] and its 95 % interval, if one was computed."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Rate:
    """TAR at one FAR.

    Attributes:
        far: false accept rate in [0, 1].
        tar: true accept rate; None where the pairs are too few for this FAR.
        threshold: similarity from which a pair counts as the same person at this FAR; None likewise.
        few: whether the rate rests on fewer than ten impostor pairs.
    """

    far: float
    tar: Measure | None
    threshold: float | None
    few: bool = False


@dataclass(frozen=True)
class Mode:
    """One mode of an evaluation.

    Attributes:
        accuracy: 10-fold accuracy.
        auc: area under the ROC.
        eer: equal error rate.
        rates: TAR at each FAR, from the easiest FAR to the strictest.
        roc: (far, tar) of the curve.
        histogram: (edges ``[K + 1]``, genuine counts ``[K]``, impostor counts ``[K]``) of the similarities.
    """

    accuracy: Measure
    auc: Measure
    eer: Measure
    rates: tuple[Rate, ...]
    roc: tuple[Sequence[float], Sequence[float]]
    histogram: tuple[Sequence[float], Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Evaluated:
    """One ``evaluation.json``.

    Attributes:
        pairs: name of the verification set.
        counts: (genuine, impostor) pairs.
        gallery: name of the gallery's model in cross-model mode, or None.
        resampling: what the bootstrap drew, in words, or an empty string.
        modes: by name, ``"single"`` and ``"cross"``.
    """

    pairs: str
    counts: tuple[int, int]
    gallery: str | None
    resampling: str
    modes: Mapping[str, Mode]


def read_evaluation(path: Path) -> Evaluated | None:
    """Read an ``evaluation.json``; None when there is no such file.

    Raises:
        UserError: the file is not what an evaluation writes; the message names the file and the trouble.
    """
    told = read_json(path)
    if told is None:
        return None
    try:
        return _evaluated(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"expected what an evaluation writes in {path}, found {error!r}; evaluate again") from error


def _evaluated(told: Mapping[str, Any]) -> Evaluated:
    pairs, drawn = told["pairs"], told["bootstrap"]
    replicates = int(drawn["replicates"])
    words = f"{replicates:,} bootstrap replicates over {drawn['unit']}" if replicates else ""
    gallery = None if told["gallery"] is None else str(told["gallery"])
    modes = {name: _mode(told[name]) for name in MODES if name in told}
    return Evaluated(str(pairs["name"]), (int(pairs["genuine"]), int(pairs["impostor"])), gallery, words, modes)


def _mode(told: Mapping[str, Any]) -> Mode:
    roc, histogram = told["roc"], told["histogram"]
    far, tar = _numbers(roc["far"]), _numbers(roc["tar"])
    edges, genuine, impostor = (_numbers(histogram[name]) for name in ("edges", "genuine", "impostor"))
    if len(far) != len(tar) or len({len(edges) - 1, len(genuine), len(impostor)}) != 1:
        raise ValueError("curves of unequal lengths")
    rates = sorted((_rate(entry) for entry in told["tar"]), key=lambda rate: -rate.far)
    return Mode(
        accuracy=_measure(told["accuracy"]),
        auc=_measure(told["auc"]),
        eer=Measure(_number(told["eer"]["value"])),
        rates=tuple(rates),
        roc=(far, tar),
        histogram=(edges, genuine, impostor),
    )


def _rate(told: Mapping[str, Any]) -> Rate:
    few = int(told["impostor_pairs_allowed"]) < FEW
    return Rate(_number(told["far"]), _optional(_measure, told["tar"]), _optional(_number, told["threshold"]), few)


def _measure(told: Mapping[str, Any]) -> Measure:
    low, high = _optional(_number, told["lower"]), _optional(_number, told["upper"])
    return Measure(_number(told["value"]), None if low is None or high is None else (low, high))


def _optional(read: Callable[[Any], Value], value: Any) -> Value | None:
    return None if value is None else read(value)


def _numbers(values: Sequence[Any]) -> list[float]:
    return [_number(value) for value in values]


def _number(value: Any) -> float:
    """Refuse what JSON readers let through: true, "1", NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} instead of a finite number")
    return float(value)
