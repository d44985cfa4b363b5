"""A confusion matrix as inline SVG: what was so, downwards; what was said, across; darker is more often."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

CELL, LEFT, HEAD = 44, 132, 96  # pixels: a cell, room for the names beside the rows, and above the columns
DARK = 0.55  # share from which the number stands light on dark


def confusion_chart(counts: Sequence[Sequence[int]], names: Sequence[str], *, title: str, colour: int = 0) -> str:
    """Draw a confusion matrix and return an ``<svg>`` element.

    Args:
        counts: ``[C][C]``, how often what was ``names[row]`` was called ``names[column]``.
        names: C of them.
        title: for people who hear the page.
        colour: number of the colour class.
    """
    side = CELL * len(names)
    across = "".join(
        f'<text class="tick start" transform="translate({LEFT + CELL * (k + 0.5):.0f},{HEAD - 8}) rotate(-45)">'
        f"{escape(name)}</text>"
        for k, name in enumerate(names)
    )
    rows = "".join(_row(k, row, names, colour) for k, row in enumerate(counts))
    return (
        f'<svg class="chart" viewBox="0 0 {LEFT + side + 60} {HEAD + side + 6}" role="img" '
        f'aria-label="{escape(title)}">{across}{rows}</svg>'
    )


def _row(number: int, row: Sequence[int], names: Sequence[str], colour: int) -> str:
    """Draw one line of cells; shares are of the line, so that rare activities are seen as well."""
    top, total = HEAD + CELL * number, sum(row) or 1
    name = f'<text class="tick end" x="{LEFT - 8}" y="{top + CELL / 2 + 4:.0f}">{escape(names[number])}</text>'
    return name + "".join(
        _cell(LEFT + CELL * k, top, count, count / total, f"{names[number]} called {names[k]}: {count}", colour)
        for k, count in enumerate(row)
    )


def _cell(left: int, top: int, count: int, share: float, words: str, colour: int) -> str:
    light = ' style="fill:var(--card)"' if share > DARK else ""
    return (
        f'<g class="s{colour}"><rect x="{left}" y="{top}" width="{CELL - 2}" height="{CELL - 2}" rx="3" '
        f'fill="currentColor" fill-opacity="{0.04 + 0.9 * share:.3f}"/><title>{escape(words)}</title></g>'
        f'<text class="tick mid" x="{left + CELL / 2 - 1:.0f}" y="{top + CELL / 2 + 4:.0f}"{light}>{count}</text>'
    )
