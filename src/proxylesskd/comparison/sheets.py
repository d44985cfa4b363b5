"""What protocols found, as text: for the terminal, Markdown, CSV and the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from proxylesskd.comparison.result import Mean, Sheet

if TYPE_CHECKING:
    from rich.table import Table

ABSENT = "-"
TITLES = {"single": "single-model", "cross": "cross-model"}


def title_of(sheet: Sheet) -> str:
    """Return what a sheet's table is called."""
    return f"{sheet.protocol}, {sheet.student}, {TITLES[sheet.mode]}"


def spoken(name: str) -> str:
    """Return ``TAR@FAR=1e-3`` for ``tar@far=0.001``, likewise of groups; other names as they are."""
    group, slash, own = name.rpartition("/")
    kind, equals, rate = own.partition("=")
    if not equals:
        return name
    mantissa, _, exponent = f"{float(rate):.0e}".partition("e")
    return f"{group}{slash}{kind.upper()}={mantissa}e{int(exponent)}"


def mean_text(mean: Mean | None) -> str:
    """Return ``71.2 ± 0.4`` over seeds, or ``71.2 [69.0, 73.1]`` of one; ``~`` where it rests on few impostors."""
    if mean is None:
        return ABSENT
    text = ("~" if mean.few else "") + f"{100 * mean.value:.1f}"
    if mean.spread is not None:
        return f"{text} ± {100 * mean.spread:.1f}"
    if mean.lower is None or mean.upper is None:
        return text
    return f"{text} [{100 * mean.lower:.1f}, {100 * mean.upper:.1f}]"


def lines_of(sheet: Sheet) -> Iterator[tuple[str, str, list[str]]]:
    """Yield method, number of its seeds, and its numbers as text."""
    for method, row in sheet.rows.items():
        yield method, str(len(sheet.seeds[method]) or ABSENT), [mean_text(row.get(name)) for name in sheet.names]


def markdown_sheet(sheet: Sheet) -> str:
    """Return a sheet as Markdown."""
    titles = ["method", "seeds", *map(spoken, sheet.names)]
    head = "| " + " | ".join(titles) + " |\n|" + "---|" * len(titles)
    lines = ["| " + " | ".join([_plain(name), seeds, *cells]) + " |" for name, seeds, cells in lines_of(sheet)]
    how = "In %: the mean over seeds ± the standard deviation over seeds; of one seed with its bootstrap interval."
    return f"### {title_of(sheet)}\n\n{how}\n\n" + "\n".join([head, *lines])


def _plain(text: str) -> str:
    return text.replace("*", "\\*").replace("|", "\\|")


def terminal_sheet(sheet: Sheet) -> Table:
    """Return a sheet for the terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    title = escape(f"\n{title_of(sheet)}")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.pad_edge = table.show_edge = False
    for name in ["method", "seeds", *map(spoken, sheet.names)]:
        table.add_column(escape(name.replace("@", "\n@").replace("/", "\n")), overflow="fold")
    for method, seeds, cells in lines_of(sheet):
        table.add_row(escape(method), seeds, *map(escape, cells))
    return table


def csv_records(sheet: Sheet) -> Iterator[tuple[str, str, str, str, str, Mean]]:
    """Yield student, method, seeds, mode, name of the number with its protocol, and the number."""
    for method, row in sheet.rows.items():
        for name, mean in row.items():
            seeds = " ".join(map(str, sheet.seeds[method]))
            yield sheet.student, method, seeds, sheet.mode, f"{sheet.protocol}: {name}", mean
