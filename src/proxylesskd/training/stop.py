"""Stopping between two steps instead of within one, when Ctrl-C or a batch system asks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from proxylesskd.processes import highest


class StopRequest:
    """While entered, turns the first SIGINT or SIGTERM into a wish that the loop grants after its step.

    A second SIGINT interrupts at once (KeyboardInterrupt); a second SIGTERM changes nothing, since a batch system and
    `torchrun` may both send one. Signals can be caught in the main thread alone; elsewhere, and for a signal that the
    process was started to ignore, everything stays as it was.

    Attributes:
        signal: name of the signal that asked, such as ``"SIGTERM"``, or None.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._giving_way = False

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def of_any(self) -> str | None:
        """Return the signal that asked any of the processes to stop: all of them get the same answer."""
        own = 0 if self.signal is None else signal.Signals[self.signal].value
        found = highest(own)
        return signal.Signals(found).name if found else None

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Let a signal end the body at once, for what may take long and changes nothing."""
        try:
            self._giving_way = True
            yield
            self._giving_way = False
        except _GaveWay:
            pass
        finally:
            self._giving_way = False

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.signal = signal.Signals(number).name
        if self._giving_way:
            raise _GaveWay


class _GaveWay(BaseException):
    """No error: nobody but :meth:`StopRequest.giving_way` may catch it."""
