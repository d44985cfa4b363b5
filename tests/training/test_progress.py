"""What is printed where there is a terminal, where there is none, and where nobody wants it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from proxylesskd.training.progress import Progress, format_values


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _run(*, terminal: bool = False, quiet: bool = False, seconds: float = 1.0, done: int = 0) -> str:
    stream, clock = io.StringIO(), _Clock()
    console = Console(file=stream, force_terminal=terminal, width=120)
    with Progress(25, done=done, quiet=quiet, console=console, every=10.0, clock=clock) as progress:
        for step in range(done + 1, 26):
            clock.now += seconds
            progress.advance(step, {"loss": 12.34567, "images/s": 1500.0})
        progress.say("hello [bold]")
    return stream.getvalue()


def test_a_line_every_ten_seconds_without_a_terminal() -> None:
    lines = _run().splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["1/25", "11/25", "21/25", "25/25"]
    assert "loss 12.35  images/s 1500" in lines[0]
    assert lines[1].endswith("0:00:14 left")
    assert lines[-1] == "hello [bold]"


def test_time_left_counts_from_where_the_run_went_on() -> None:
    lines = _run(seconds=20.0, done=20).splitlines()
    assert lines[0].startswith("step 21/25")
    assert lines[0].endswith("0:01:20 left")


def test_a_bar_on_a_terminal() -> None:
    shown = _run(terminal=True)
    assert "25/25" in shown
    assert "loss 12.35" in shown
    assert "left" not in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_leaves_what_is_said(terminal: bool) -> None:
    assert _run(quiet=True, terminal=terminal).strip() == "hello [bold]"


def test_formats() -> None:
    assert format_values({"a": 0.000123456, "b": 2.0}) == "a 0.0001235  b 2"
