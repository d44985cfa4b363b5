"""What is shown on a terminal, in a file, and to those who want quiet."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from proxylesskd import progress
from proxylesskd.progress import bar, format_seconds, track


def _run(*, terminal: bool = False, quiet: bool = False, seconds: float = 20.0, total: int = 10) -> str:
    stream, now = io.StringIO(), [100.0]
    console = Console(file=stream, force_terminal=terminal, width=100)
    with bar("reading [images]", quiet, console=console, clock=lambda: now[0]) as show:
        for done in range(1, total + 1):
            now[0] += seconds
            show(done, total)
    return stream.getvalue()


def test_a_line_every_half_minute_without_a_terminal() -> None:
    lines = _run().splitlines()
    assert lines == [
        "reading [images]: 2 of 10, 0:02:40 left",
        "reading [images]: 4 of 10, 0:02:00 left",
        "reading [images]: 6 of 10, 0:01:20 left",
        "reading [images]: 8 of 10, 0:00:40 left",
        "reading [images]: 10 of 10, 0:00:00 left",
    ]


def test_the_end_is_said_where_anything_was() -> None:
    assert _run(seconds=10, total=4).splitlines()[-1] == "reading [images]: 4 of 4, 0:00:00 left"


def test_short_work_says_nothing_without_a_terminal() -> None:
    assert _run(seconds=2) == ""


def test_a_bar_on_a_terminal() -> None:
    shown = _run(terminal=True)
    assert "reading" in shown
    assert "10/10" in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_shows_nothing(terminal: bool) -> None:
    assert _run(quiet=True, terminal=terminal) == ""


def test_items_pass_through_and_are_counted_when_they_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    work: list[str] = []

    class _Bar:
        def __init__(self, what: str, quiet: bool) -> None:
            assert (what, quiet) == ("counting", True)

        def __enter__(self) -> Callable[[int, int], None]:
            return lambda done, total: seen.append((done, total))

        def __exit__(self, *_: object) -> None:
            work.append("closed")

    monkeypatch.setattr(progress, "bar", _Bar)
    for item in track(["a", "b"], "counting", quiet=True):
        work.append(f"{item} {len(seen)}")
    assert work == ["a 0", "b 1", "closed"]
    assert seen == [(1, 2), (2, 2)]
    assert list(track(iter("xyz"), "counting", total=3, quiet=True)) == ["x", "y", "z"]
    assert seen[-1] == (3, 3)


def test_items_of_unknown_number_need_a_total() -> None:
    with pytest.raises(TypeError, match="expected a total"):
        list(track(iter("xyz"), "counting"))


def test_seconds() -> None:
    assert format_seconds(3 * 3600 + 62.4) == "3:01:02"
