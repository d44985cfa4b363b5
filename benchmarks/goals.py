"""Goals against measurements: what was asked, what was found, met or missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from interleave import Timing, ratio


class Shape(NamedTuple):
    """The size of a problem: C identities, a batch of B."""

    identities: int
    batch: int

    def __str__(self) -> str:
        return f"C={self.identities:,}, B={self.batch}"


@dataclass
class Table:
    """What one run measured of one shape.

    Attributes:
        timings: by head.
        memory: by head, MB beyond the stored rows at the peak.
        errors: by head, of the gradient against float64, relative, before timing.
        notes: why a head is missing.
    """

    timings: dict[str, Timing] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Goal:
    """One thing that was asked for.

    Attributes:
        text: in words.
        ours: the head that it is about.
        limit: a ratio of times, or MB without a rival.
        rivals: whose time is divided by ours; for a goal of memory none. Of several the fastest counts.
        at_most: whether ours is divided by the rival instead, and must not exceed the limit.
        where: the shapes that it holds for.
    """

    text: str
    ours: str
    limit: float
    rivals: tuple[str, ...] = ()
    at_most: bool = False
    where: Callable[[Shape], bool] = lambda _: True


def fastest(timings: Mapping[str, Timing], names: Iterable[str], clock: str) -> str | None:
    """Return the name with the smallest median, None where none was measured."""
    return min((name for name in names if name in timings), key=lambda name: timings[name].median(clock), default=None)


def judge(goal: Goal, table: Table, clock: str = "wall") -> tuple[str, str]:
    """Return what was measured and whether the goal is met: by the median, whatever its interval."""
    if not goal.rivals:
        if goal.ours not in table.memory:
            return "-", "not measured"
        used = table.memory[goal.ours]
        return f"{used:.0f} MB", _verdict(used <= goal.limit)
    rival = fastest(table.timings, goal.rivals, clock)
    if rival is None or goal.ours not in table.timings:
        return "-", "not measured"
    ours, other = table.timings[goal.ours], table.timings[rival]
    found = ratio(ours, other, clock) if goal.at_most else ratio(other, ours, clock)
    return f"{found}x", _verdict(found.value <= goal.limit if goal.at_most else found.value >= goal.limit)


def summary(goals: Iterable[Goal], tables: Mapping[Shape, Table], clock: str = "wall") -> Iterator[str]:
    """Yield the lines of a Markdown table: every goal at every shape that it holds for."""
    yield "| goal | shape | asked | measured [95 % interval] | |"
    yield "|---|---|---|---|---|"
    for goal in goals:
        unit, sign = ("x", "≤" if goal.at_most else "≥") if goal.rivals else (" MB", "≤")
        for shape, table in tables.items():
            if goal.where(shape):
                measured, verdict = judge(goal, table, clock)
                yield f"| {goal.text} | {shape} | {sign} {goal.limit:g}{unit} | {measured} | {verdict} |"


def cheaper(ours: str, sampled: Iterable[str], tables: Mapping[Shape, Table], clock: str = "wall") -> Iterator[str]:
    """Yield one sentence for every shape and head that looks at a part of the classes only."""
    for shape, table in tables.items():
        for name in sampled:
            if name in table.timings and ours in table.timings:
                found = ratio(table.timings[name], table.timings[ours], clock)
                word = "cheaper" if found.high < 1 else "dearer" if found.low > 1 else "as dear"
                yield f"- {shape}: {name} takes {found} of the time of the exact head: {word}."


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"
