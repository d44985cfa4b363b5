"""What was used last, within a number of bytes; threads may share it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Something that knows how many bytes it takes."""

    @property
    def nbytes(self) -> int:
        """Return the bytes it takes."""
        ...


T = TypeVar("T", bound=Sized)


class ByteCache(Generic[T]):
    """Keeps the values that were asked for last, as many as fit.

    Args:
        limit: bytes in all; a larger value is made again each time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of ``key``, made if need be; two threads may make the same one at the same time."""
        with self._lock:
            if (kept := self._values.get(key)) is not None:
                self._values.move_to_end(key)
                return kept
        made = make()
        with self._lock:
            self._keep(key, made)
        return made

    def _keep(self, key: Hashable, made: T) -> None:
        if made.nbytes > self.limit or key in self._values:
            return
        self._values[key] = made
        self.held += made.nbytes
        while self.held > self.limit:
            self.held -= self._values.popitem(last=False)[1].nbytes
