"""What a comparison found: rows of methods, with every number from the files of the cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxylesskd.evaluation.bootstrap import Difference
from proxylesskd.evaluation.result import Estimate
from proxylesskd.report.run import METHODS_COMPARED

if TYPE_CHECKING:
    from rich.console import Group

MODES = ("single", "cross")
TEACHER = "teacher"


@dataclass(frozen=True)
class Number:
    """One metric of one method in one mode.

    Attributes:
        estimate: mean over the seeds, with its interval over identities.
        spread: standard deviation over the seeds, or None of one seed.
        minus_baseline: paired; None of the baseline itself and of the teacher.
        best_other: the best of the other methods by this metric, or None.
        minus_best: paired, against that one.
    """

    estimate: Estimate
    spread: float | None = None
    minus_baseline: Difference | None = None
    best_other: str | None = None
    minus_best: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """One method with one student, over its finished seeds.

    Attributes:
        student: name.
        method: formula.
        seeds: those that finished.
        numbers: mode -> metric -> number; a mode that cannot be is absent.
        curves: mode -> (FARs, TARs), the mean over the seeds.
        steps: of the training; None of the teacher, as all that follow.
        images_per_second: while training, median over the seeds.
        seconds_per_step: likewise.
        peak_memory: bytes, the most of any seed.
        device: on which it was trained.
    """

    student: str
    method: str
    seeds: tuple[int, ...]
    numbers: Mapping[str, Mapping[str, Number]]
    curves: Mapping[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    steps: int | None = None
    images_per_second: float | None = None
    seconds_per_step: float | None = None
    peak_memory: int | None = None
    device: str | None = None

    def number(self, mode: str, metric: str) -> Number | None:
        """Return a number, or None where there is none."""
        return self.numbers.get(mode, {}).get(metric)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        found = {mode: {m: n.to_dict() for m, n in each.items()} for mode, each in self.numbers.items()}
        return plain | {"seeds": list(self.seeds), **found}


_PLAIN = ("student", "method", "steps", "images_per_second", "seconds_per_step", "peak_memory", "device")


@dataclass(frozen=True)
class Mean:
    """One number of a protocol over the seeds of a method.

    Attributes:
        value: mean over the seeds, in [0, 1].
        spread: standard deviation over the seeds, None of one seed.
        lower: end of the 95 % interval of the only seed, None of several or without.
        upper: the other end.
        few: whether it rests on fewer than ten impostors.
    """

    value: float
    spread: float | None = None
    lower: float | None = None
    upper: float | None = None
    few: bool = False


@dataclass(frozen=True)
class Sheet:
    """A protocol in one mode with one student.

    Attributes:
        protocol: its title.
        student: name.
        mode: ``single`` or ``cross``.
        names: of the numbers, in the protocol's order.
        rows: method (or ``teacher``) -> name of the number -> mean; a number that the set cannot support is absent.
        seeds: method -> those that finished; none of the teacher.
    """

    protocol: str
    student: str
    mode: str
    names: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Mean]]
    seeds: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Missing:
    """A cell without numbers.

    Attributes:
        student, method, seed: which one.
        reason: why; None where it was not run yet.
    """

    student: str
    method: str
    seed: int
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.student}, {self.method}, seed {self.seed}: {self.reason or 'not finished'}"


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Attributes:
        folder: of the comparison.
        baseline: the method that others are measured by.
        metrics: names, the accuracy first.
        headline: the metric by which the best is named.
        few: those that rest on fewer than ten impostor pairs.
        rows: students in order, within them methods in order.
        teacher: its row, or None.
        missing: cells without numbers.
        equal: what was the same for all, name -> value.
        recipe: that all cells share, as nested plain values.
        pairs: name of the verification set, its genuine and its impostor pairs.
        resampling: what the bootstrap drew, how often, with which seed.
        protocols: what protocols found, one sheet for each student, protocol and mode.
    """

    folder: Path
    baseline: str
    metrics: tuple[str, ...]
    headline: str
    few: frozenset[str]
    rows: tuple[Row, ...]
    teacher: Row | None
    missing: tuple[Missing, ...]
    equal: Mapping[str, str]
    recipe: Mapping[str, Any]
    pairs: tuple[str, int, int]
    resampling: Mapping[str, Any]
    protocols: tuple[Sheet, ...] = ()

    @property
    def failed(self) -> tuple[Missing, ...]:
        """Cells that were tried and failed."""
        return tuple(one for one in self.missing if one.reason is not None)

    @property
    def students(self) -> list[str]:
        """Names, in order."""
        return list(dict.fromkeys(row.student for row in self.rows))

    def of(self, student: str) -> list[Row]:
        """Return the rows of a student."""
        return [row for row in self.rows if row.student == student]

    def best(self, student: str, mode: str = "single") -> Row | None:
        """Return the best row of a student by the headline metric, or None where nothing finished."""
        found = [(n.estimate.value, row) for row in self.of(student) if (n := row.number(mode, self.headline))]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for ``comparison.json``."""
        name, genuine, impostor = self.pairs
        return {
            "kind": METHODS_COMPARED,
            "baseline": self.baseline,
            "headline": self.headline,
            "metrics": list(self.metrics),
            "few": sorted(self.few),
            "pairs": {"name": name, "genuine": genuine, "impostor": impostor},
            "bootstrap": dict(self.resampling),
            "equal": dict(self.equal),
            "recipe": dict(self.recipe),
            "rows": [row.to_dict() for row in self.rows],
            "teacher": None if self.teacher is None else self.teacher.to_dict(),
            "protocols": [asdict(sheet) for sheet in self.protocols],
            "missing": [asdict(one) for one in self.missing],
        }

    def table(self) -> Group:
        """Return the tables for the terminal."""
        from proxylesskd.comparison.tables import terminal_tables

        return terminal_tables(self)
