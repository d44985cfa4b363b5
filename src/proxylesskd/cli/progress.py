"""A bar for long work, on standard error so that what is printed can be piped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 100  # calls between two that are drawn


@contextmanager
def bar(what: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that moves a bar.

    Args:
        what: stands before it.
        quiet: draw nothing.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as drawn:
        task = drawn.add_task(what)

        def show(done: int, total: int) -> None:
            if done % EVERY == 0 or done == total:
                drawn.update(task, completed=done, total=total)

        yield show
