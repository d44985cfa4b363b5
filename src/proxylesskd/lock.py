"""One process at a time: a lock on a folder that several programs of a machine may want to fill."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from proxylesskd.errors import UserError


@contextmanager
def locked(file: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold a file's lock, which one process at most holds at a time; wait for it as long as it takes.

    The lock is the kernel's: it ends with its process, however that ends, so that none is ever stale. The file
    itself is empty and stays.

    Args:
        file: made, with its folder, where there is none.
        waiting: called once when another process holds the lock.

    Raises:
        UserError: the file cannot be made, or its file system or this operating system knows no locks.
    """
    try:
        import fcntl
    except ImportError as error:  # no POSIX system
        raise UserError(f"expected a system with POSIX file locks to share '{file.parent}', found none") from error
    handle = _open(file)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"expected a file system with locks at '{file.parent}', found {error}; give a folder on another one"
            ) from error
        yield
    finally:
        os.close(handle)  # and with it the lock


def _open(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"expected a folder to write in at '{file.parent}', found {error}; give another") from error
