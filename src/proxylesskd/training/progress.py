"""What a person sees of a training: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from proxylesskd.progress import format_seconds


class Progress:
    """Steps done, loss, accuracy, images per second, time left.

    On a terminal it is a bar; elsewhere (a file, a batch system) a plain line every ``every`` seconds. Quiet
    leaves out both; what :meth:`say` is told is printed always.

    Args:
        steps: of the whole training.
        done: steps that an earlier run did.
        quiet: no bar and no lines.
        console: where to print; standard error unless told.
        every: seconds between two lines where there is no terminal.
        clock: seconds that only grow; for tests.
    """

    def __init__(
        self,
        steps: int,
        *,
        done: int = 0,
        quiet: bool = False,
        console: Console | None = None,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps, self.every = steps, every
        self._console = console or Console(stderr=True)
        self._lines = not quiet and not self._console.is_terminal
        self._clock = clock
        self._first = (clock(), done)
        self._printed = float("-inf")
        self._bar = _make_bar(self._console, disable=quiet or not self._console.is_terminal)
        self._task = self._bar.add_task("training", total=steps, completed=done, values="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, step: int, values: Mapping[str, float]) -> None:
        """Say that ``step`` steps are done, and show numbers beside it."""
        text = format_values(values)
        self._bar.update(self._task, completed=step, values=text)
        now = self._clock()
        if self._lines and (now - self._printed >= self.every or step == self.steps):
            self._printed = now
            self.say(f"step {step}/{self.steps}  {text}  {self._time_left(step, now)} left")

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _time_left(self, step: int, now: float) -> str:
        begun, done = self._first
        per_step = (now - begun) / max(1, step - done)
        return format_seconds(per_step * (self.steps - step))


def format_values(values: Mapping[str, float]) -> str:
    """Return ``"loss 12.31  accuracy 0.412"``: four significant digits each."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def _make_bar(console: Console, *, disable: bool) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}"),
        TimeRemainingColumn(),
        console=console,
        disable=disable,
    )
