"""Outcomes in the terminal: one alone, or several side by side, within the 80 columns of a log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from proxylesskd.errors import UserError
from proxylesskd.protocols.outcome import Measure, Outcome

if TYPE_CHECKING:
    from rich.table import Table

FEW = 10
WIDEST = 3  # outcomes and modes beside each other


def outcome_table(outcome: Outcome) -> Table:
    """Return one row a number: its value and interval in %, by mode."""
    return outcomes_table({outcome.model: outcome})


def outcomes_table(outcomes: Mapping[str, Outcome]) -> Table:
    """Return one row a number and one column a model and mode; with more columns than fit, a row for each instead.

    A number that rests on fewer than ten impostors is marked ``~``; one that the set cannot support is ``-``.

    Args:
        outcomes: of one protocol on one set, by the name of the model.

    Raises:
        UserError: there are none, or they are of different protocols or sets.
    """
    protocol = _protocol_of(outcomes)
    columns = {
        (name, mode): by_name for name, outcome in outcomes.items() for mode, by_name in outcome.measures.items()
    }
    names = list(dict.fromkeys(name for by_name in columns.values() for name in by_name))
    if len(columns) <= WIDEST:
        return _beside(protocol, outcomes, columns, names)
    return _below(protocol, outcomes, columns, names)


Columns = Mapping[tuple[str, str], Mapping[str, Measure]]


def _protocol_of(outcomes: Mapping[str, Outcome]) -> str:
    found = {(outcome.protocol, tuple(outcome.counts.items())) for outcome in outcomes.values()}
    if len(found) != 1:
        names = " and ".join(sorted({f"'{protocol}'" for protocol, _ in found})) or "none"
        raise UserError(f"expected outcomes of one protocol on one set, found {names}; evaluate all models on one")
    ((protocol, counts),) = found
    return f"{protocol}: " + ", ".join(f"{count:,} {what}" for what, count in counts)


def _beside(title: str, outcomes: Mapping[str, Outcome], columns: Columns, names: list[str]) -> Table:
    table = _empty(title, outcomes)
    table.add_column("")
    for name, mode in columns:
        table.add_column(_head(name, mode, outcomes), overflow="fold")
    for measure in names:
        table.add_row(_shown(measure), *(cell(by_name.get(measure)) for by_name in columns.values()))
    return table


def _below(title: str, outcomes: Mapping[str, Outcome], columns: Columns, names: list[str]) -> Table:
    table = _empty(title, outcomes)
    for head in ("", "model", "value"):
        table.add_column(head, overflow="fold")
    for measure in names:
        for number, ((name, mode), by_name) in enumerate(columns.items()):
            label = _head(name, mode, outcomes).replace("\n", ", ")
            table.add_row("" if number else _shown(measure), label, cell(by_name.get(measure)))
    return table


def _empty(title: str, outcomes: Mapping[str, Outcome]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    units = sorted({str(o.drawn["unit"]) for o in outcomes.values() if o.drawn.get("replicates")})
    intervals = f" with 95 % bootstrap intervals over {' or '.join(units)}" if units else ""
    measured = [m.value for o in outcomes.values() for by_name in o.measures.values() for m in by_name.values()]
    missing = "; - the set is too small to tell" if None in measured else ""
    caption = f"%{intervals}; ~ rests on fewer than {FEW} impostors{missing}"
    table = Table(title=escape(title), caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.pad_edge = table.show_edge = False
    return table


def _head(name: str, mode: str, outcomes: Mapping[str, Outcome]) -> str:
    from rich.markup import escape

    if mode == "cross":
        return escape(f"{name}\ngallery {outcomes[name].gallery}")
    return escape(name)


def _shown(measure: str) -> str:
    from rich.markup import escape

    return escape(measure)


def cell(measure: Measure | None) -> str:
    """Return ``93.12 (92.01-94.20)``, ``~`` before it where it rests on few, ``-`` where there is no value."""
    if measure is None or measure.value is None:
        return "-"
    few = measure.allowed is not None and measure.allowed < FEW
    value = ("~" if few else "") + percent(measure.value)
    if measure.lower is None or measure.upper is None:
        return value
    return f"{value} ({percent(measure.lower)}-{percent(measure.upper)})"


def percent(value: float) -> str:
    """Return a rate in % with two decimals, with three digits where that would show fewer than two."""
    return f"{100 * value:.2f}" if value == 0 or value >= 1e-3 else f"{100 * value:.3g}"
