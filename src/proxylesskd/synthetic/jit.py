"""Compilation of the few inner loops, and what happens where compiled code cannot be cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a numeric loop; keep the machine code on disk where that is possible.

    The plain function stays reachable as ``.py_func``. Arithmetic is left strict (no fast-math), so that an
    image does not depend on how a compiler feels like reordering sums.
    """
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # a read-only installation without a home folder: compile in every process instead
        return cast(Function, numba.njit(nogil=True)(function))
