"""A comparison as text: for the terminal, as Markdown, and as CSV with every number."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxylesskd.comparison.estimates import ACCURACY
from proxylesskd.comparison.result import MODES, Comparison, Number, Row
from proxylesskd.comparison.sheets import ABSENT, TITLES, csv_records, markdown_sheet, terminal_sheet
from proxylesskd.evaluation.bootstrap import Difference

if TYPE_CHECKING:
    from rich.console import Group


def metric_title(metric: str) -> str:
    """Return ``accuracy`` or ``TAR@FAR=1e-3``."""
    if metric == ACCURACY:
        return metric
    mantissa, _, exponent = f"{float(metric.partition('=')[2]):.0e}".partition("e")
    return f"TAR@FAR={mantissa}e{int(exponent)}"


def value_text(number: Number | None, few: bool = False) -> str:
    """Return ``71.2 ± 0.4 [69.0, 73.1]``: the mean in %, the deviation over seeds, its interval; ``~`` if few pairs."""
    if number is None:
        return ABSENT
    one = number.estimate
    text = ("~" if few else "") + f"{100 * one.value:.1f}"
    text += "" if number.spread is None else f" ± {100 * number.spread:.1f}"
    if one.lower is None or one.upper is None:
        return text
    return f"{text} [{100 * one.lower:.1f}, {100 * one.upper:.1f}]"


def excludes_zero(difference: Difference) -> bool:
    """Say whether the interval of a difference leaves out zero."""
    return difference.lower > 0 or difference.upper < 0


def difference_text(difference: Difference | None) -> str:
    """Return ``+2.1 [+0.4, +3.9] *`` in points; the star says that the interval leaves out zero."""
    if difference is None:
        return ABSENT
    ends = f"[{100 * difference.lower:+.1f}, {100 * difference.upper:+.1f}]"
    return f"{100 * difference.value:+.1f} {ends}" + (" *" if excludes_zero(difference) else "")


def race(found: Comparison, student: str, mode: str) -> str:
    """Name the two methods that all others are measured by in the column "minus best other"."""
    best = found.best(student, mode)
    number = None if best is None else best.number(mode, found.headline)
    if best is None or number is None:
        return ""
    text = f"best by {metric_title(found.headline)}: {best.method}"
    return text if number.best_other is None else f"{text}; next: {number.best_other}"


def rate_text(row: Row) -> str:
    """Return images per second."""
    return ABSENT if row.images_per_second is None else f"{row.images_per_second:,.0f}"


def memory_text(row: Row) -> str:
    """Return the peak memory in GiB."""
    return ABSENT if row.peak_memory is None else f"{row.peak_memory / 2**30:.2f}"


def lines_of(found: Comparison, student: str, mode: str) -> list[Row]:
    """Return the rows of a table, the teacher's last: in cross-model mode a method without it shows dashes."""
    last = [found.teacher] if found.teacher is not None and mode == "single" else []
    return [*found.of(student), *last]


def caption(found: Comparison) -> str:
    """Say how to read the numbers."""
    name, genuine, impostor = found.pairs
    how, times = found.resampling, f"{found.resampling['replicates']:,}"
    return (
        f"{name}: {genuine:,} genuine and {impostor:,} impostor pairs. In %: the mean over seeds ± the standard "
        f"deviation over seeds, and the 95 % interval of {times} bootstrap replicates over {how['unit']}, "
        f"the same for all methods. Differences are paired, at {metric_title(found.headline)}; * leaves out zero. "
        "~ rests on fewer than ten impostor pairs."
    )


def _cells(found: Comparison, row: Row, mode: str) -> list[str]:
    headline = row.number(mode, found.headline)
    return [
        *(value_text(row.number(mode, metric), metric in found.few) for metric in found.metrics),
        difference_text(None if headline is None else headline.minus_baseline),
        difference_text(None if headline is None else headline.minus_best),
        rate_text(row),
        memory_text(row),
    ]


def _titles(found: Comparison) -> list[str]:
    metrics = [metric_title(metric) for metric in found.metrics]
    return ["method", "seeds", *metrics, f"minus {found.baseline}", "minus best other", "images/s", "peak GiB"]


def terminal_tables(found: Comparison) -> Group:
    """Return one table for each student and mode, for the terminal; they fit 110 columns."""
    from rich import box
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    tables = list[Any]()
    for student in found.students:
        for mode in _modes(found, student):
            title = escape(f"\n{student}, {TITLES[mode]}; {race(found, student, mode)}")
            table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
            table.pad_edge = table.show_edge = False
            for name in _titles(found):
                table.add_column(escape(name.replace("@FAR", "\n@FAR").replace("minus ", "minus\n")), overflow="fold")
            for row in lines_of(found, student, mode):
                table.add_row(escape(row.method), _count(row), *(_broken(text) for text in _cells(found, row, mode)))
            tables.append(table)
    return Group(*tables, escape(caption(found)), *(terminal_sheet(sheet) for sheet in found.protocols))


def _broken(text: str) -> str:
    """Put a value's interval on a line of its own, so that the table stays narrow."""
    from rich.markup import escape

    return escape(re.sub(r" \[(.+?), (.+?)\]( \*)?$", r"\3\n\1 to \2", text))


def _modes(found: Comparison, student: str) -> list[str]:
    return [mode for mode in MODES if any(mode in row.numbers for row in found.of(student))]


def _count(row: Row) -> str:
    return str(len(row.seeds)) if row.seeds else ABSENT


def to_markdown(found: Comparison) -> str:
    """Return the tables as Markdown, one for each student and mode, then what failed."""
    titles, parts = _titles(found), [caption(found)]
    head = "| " + " | ".join(titles) + " |\n|" + "---|" * len(titles)
    for student in found.students:
        for mode in _modes(found, student):
            lines = [
                "| " + " | ".join([_plain(row.method), _count(row), *map(_plain, _cells(found, row, mode))]) + " |"
                for row in lines_of(found, student, mode)
            ]
            told = _plain(race(found, student, mode).capitalize())
            parts.append(f"### {student}, {TITLES[mode]}\n\n{told}.\n\n" + "\n".join([head, *lines]))
    parts += [markdown_sheet(sheet) for sheet in found.protocols]
    if found.missing:
        parts.append("Without numbers:\n\n" + "\n".join(f"- {one}" for one in found.missing))
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Keep stars and bars from being read as Markdown."""
    return text.replace("*", "\\*").replace("|", "\\|")


_COLUMNS = (
    "student", "method", "seeds", "mode", "metric", "value", "lower", "upper", "seed_deviation",
    "minus_baseline", "minus_baseline_lower", "minus_baseline_upper", "excludes_zero",
    "best_other", "minus_best", "minus_best_lower", "minus_best_upper", "best_excludes_zero",
    "steps", "images_per_second", "seconds_per_step", "peak_memory", "device",
)  # fmt: skip


def to_csv(found: Comparison) -> str:
    """Return one line for every number; shares in [0, 1], memory in bytes, absent values empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in [*found.rows, *([] if found.teacher is None else [found.teacher])]:
        for mode, numbers in row.numbers.items():
            for metric, number in numbers.items():
                writer.writerow(_record(row, mode, metric, number))
    for sheet in found.protocols:
        for *who, mean in csv_records(sheet):
            ends = [mean.value, mean.lower, mean.upper, mean.spread]
            writer.writerow([*who, *ends, *[None] * (len(_COLUMNS) - len(who) - len(ends))])
    return text.getvalue()


def _record(row: Row, mode: str, metric: str, number: Number) -> list[object]:
    one = number.estimate
    costs = (row.steps, row.images_per_second, row.seconds_per_step, row.peak_memory, row.device)
    return [
        *(row.student, row.method, " ".join(map(str, row.seeds)), mode, metric),
        *(one.value, one.lower, one.upper, number.spread),
        *_ends(number.minus_baseline),
        number.best_other,
        *_ends(number.minus_best),
        *costs,
    ]


def _ends(difference: Difference | None) -> Sequence[object]:
    if difference is None:
        return (None, None, None, None)
    return (difference.value, difference.lower, difference.upper, int(excludes_zero(difference)))
