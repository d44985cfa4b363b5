"""What a person sees of long work: a bar on a terminal, a line now and then elsewhere; on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")
Show = Callable[[int, int], None]

DRAWN = 0.1  # seconds between two looks of a bar
SAID = 30.0  # seconds between two lines where there is no terminal; shorter work says nothing


def track(items: Iterable[Item], what: str, *, total: int | None = None, quiet: bool = False) -> Iterator[Item]:
    """Yield the items and show how many are done.

    Args:
        items: what the work goes through.
        what: the work's name, before the numbers.
        total: number of items; needed where ``items`` cannot tell.
        quiet: show nothing.

    Raises:
        TypeError: there is neither a total nor a length.
    """
    if total is None:
        if not isinstance(items, Sized):
            raise TypeError("expected a total for items without a length")
        total = len(items)
    with bar(what, quiet) as show:
        for done, item in enumerate(items, 1):
            yield item
            show(done, total)


@contextmanager
def bar(
    what: str,
    quiet: bool = False,
    *,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Show]:
    """Yield a function of (done, total) that moves a bar, or says a line every :data:`SAID` seconds.

    Args:
        what: the work's name, before the numbers.
        quiet: show nothing.
        console: where; standard error unless told.
        clock: seconds that only grow; for tests.
    """
    from rich.console import Console

    console = console or Console(stderr=True)
    if quiet:
        yield lambda _done, _total: None
    elif console.is_terminal:
        with _drawn(what, console, clock) as show:
            yield show
    else:
        yield _said(what, console, clock)


@contextmanager
def _drawn(what: str, console: Console, clock: Callable[[], float]) -> Iterator[Show]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as shown:
        task, last = shown.add_task(what, total=None), float("-inf")

        def show(done: int, total: int) -> None:
            nonlocal last
            if done == total or clock() - last >= DRAWN:
                last = clock()
                shown.update(task, completed=done, total=total)

        yield show


def _said(what: str, console: Console, clock: Callable[[], float]) -> Show:
    begun = last = clock()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = clock()
        if now - last < SAID and not (done == total and last > begun):
            return
        last = now
        left = format_seconds((now - begun) / max(1, done) * (total - done))
        line = f"{what}: {done:,} of {total:,}, {left} left"
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return show


def format_seconds(seconds: float) -> str:
    """Return hours, minutes and seconds as ``H:MM:SS``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
