"""Signals: the first is a wish, a second Ctrl-C an order."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from proxylesskd.training.stop import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.signal is None
        assert stop.of_any() is None
        os.kill(os.getpid(), number)
        assert stop.signal == number.name
        assert stop.of_any() == number.name
    assert signal.getsignal(number) is before


def test_a_second_interrupt_is_an_order_and_a_second_sigterm_is_not() -> None:
    with StopRequest() as stop:
        for _ in range(3):  # a batch system and torchrun may both send one
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == "SIGTERM"


def test_what_gives_way_ends_at_once_and_only_then() -> None:
    done = []
    with StopRequest() as stop:
        with stop.giving_way():
            done.append("before")
        with stop.giving_way():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("never")
        assert stop.signal == "SIGTERM"
        with stop.giving_way():  # the wish is known by now
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("after")
    assert done == ["before", "after"]


def test_an_error_within_what_gives_way_goes_on() -> None:
    with StopRequest() as stop, pytest.raises(ZeroDivisionError), stop.giving_way():
        _ = 1 // 0


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.signal is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_leaves_signals_alone() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with StopRequest() as stop:
            found.append((signal.getsignal(signal.SIGTERM), stop.signal))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(before, None)]
