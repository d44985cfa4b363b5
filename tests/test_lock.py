from __future__ import annotations

import builtins
import errno
import fcntl
import threading
from pathlib import Path
from typing import Any

import pytest

from proxylesskd.errors import UserError
from proxylesskd.lock import locked


def test_one_at_a_time_and_the_other_is_told(tmp_path: Path) -> None:
    told, order, inside = threading.Event(), list[str](), threading.Event()

    def second() -> None:
        inside.wait(10)
        with locked(tmp_path / "deep" / "l", told.set):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with locked(tmp_path / "deep" / "l", lambda: order.append("the first need not wait")):
        inside.set()
        assert told.wait(10)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "l"):
        raise KeyError
    with locked(tmp_path / "l", lambda: pytest.fail("nobody holds it")):
        pass


def test_where_there_can_be_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"a folder to write in at .*file"), locked(tmp_path / "file" / "l"):
        pass

    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match="expected a file system with locks"), locked(tmp_path / "l"):
        pass


def test_another_operating_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "fcntl":
            raise ImportError(name)
        return ordinary(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="POSIX file locks"), locked(tmp_path / "l"):
        pass
