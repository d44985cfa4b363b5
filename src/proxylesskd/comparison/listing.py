"""The methods there are, for ``proxylesskd compare --list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxylesskd.methods.catalogue import CATALOGUE, expand, wants

if TYPE_CHECKING:
    from rich.table import Table

WORDS = {
    "classifier": "classifier",
    "teacher_embeddings": "teacher",
    "teacher_norms": "teacher",
    "teacher_maps": "teacher's maps",
    "student_maps": "student's maps",
    "balanced": "balanced batches",
    "balanced_half": "balanced half-batches",
}


def needs_of(name: str) -> list[str]:
    """Return what the sum that a method trains with needs beyond labelled faces, in words."""
    wanted = wants(expand(name))
    return list(dict.fromkeys(word for need, word in WORDS.items() if need in wanted))


def methods_table() -> Table:
    """Return every method of the catalogue: name, paper, the sum that it trains with, what that needs."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), caption_justify="left")
    table.caption = "Any sum of them is a method, too: 'proxyless + 0.5*rkd(angle=2) @ fade(0.2, 0.8)'."
    table.pad_edge = table.show_edge = False
    for title in ("name", "method", "paper", "trains", "needs"):
        table.add_column(title, overflow="fold")
    for name, entry in CATALOGUE.items():
        words = (name, entry.title, entry.paper, entry.formula or name, ", ".join(needs_of(name)) or "labels alone")
        table.add_row(*(escape(word) for word in words))
    return table
