"""InsightFace's ``.bin`` verification sets, read without unpickling.

Such a file is a pickle of ``(list of encoded images, list of bool)``, and unpickling a stranger's file runs a
stranger's program. Here the pickle's instructions are only listed (``pickletools``), and a small machine follows the
few that build tuples, lists, bytes, numbers and uint8 arrays. Every other one is refused, and nothing is ever called.
"""

from __future__ import annotations

import math
import mmap
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from proxylesskd.errors import UserError

MAX_FILE_BYTES = 4 << 30
# One image takes about four instructions; the limit keeps a file of tiny instructions from filling the memory.
MAX_INSTRUCTIONS = 5_000_000


@dataclass(frozen=True)
class _Global:
    """A name the pickle refers to; looked up in the table of harmless ones, never imported."""

    name: str


@dataclass(frozen=True)
class _DType:
    code: str


@dataclass
class _Array:
    """A numpy array of bytes or bools, as far as the pickle has described it."""

    code: str = ""
    data: bytes = b""


class _RefusedError(Exception):
    """What was found in the file that does not belong there."""


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _encode(args: tuple[Any, ...]) -> bytes:
    text, codec = args
    if not isinstance(text, str) or _text(codec).replace("-", "") != "latin1":
        raise _RefusedError("text in an unusual encoding")
    return text.encode("latin1")


def _bytes(args: tuple[Any, ...]) -> bytes:
    if not args:
        return b""
    if len(args) == 1 and isinstance(args[0], bytes):
        return args[0]
    return _encode(args)


def _dtype(args: tuple[Any, ...]) -> _DType:
    code = _text(args[0]).lstrip("|<>=")
    if code not in ("u1", "b1"):
        raise _RefusedError(f"a numpy array of type '{code[:20]}'")
    return _DType(code)


def _reconstruct(args: tuple[Any, ...]) -> _Array:
    if args[0] != _Global("numpy.ndarray"):
        raise _RefusedError("an array of an unknown class")
    return _Array()


def _set_array(array: _Array, shape: tuple[int, ...], dtype: _DType, data: bytes) -> _Array:
    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or len(data) != math.prod(shape):
        raise _RefusedError("an array whose size is not that of its data")
    array.code, array.data = dtype.code, data
    return array


def _frombuffer(args: tuple[Any, ...]) -> _Array:
    data, dtype, shape, _ = args
    return _set_array(_Array(), shape, dtype, data)


def _scalar(args: tuple[Any, ...]) -> int:
    dtype, data = args
    return _set_array(_Array(), (1,), dtype, data).data[0]


_CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "_codecs.encode": _encode,
    "numpy.dtype": _dtype,
    **dict.fromkeys(["builtins.bytes", "__builtin__.bytes", "builtins.bytearray", "__builtin__.bytearray"], _bytes),
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _CALLS[f"{_core}.multiarray._reconstruct"] = _reconstruct
    _CALLS[f"{_core}.multiarray.scalar"] = _scalar
    _CALLS[f"{_core}.numeric._frombuffer"] = _frombuffer
_NAMES = {*_CALLS, "numpy.ndarray"}


class _Machine:
    """Follows a pickle's harmless instructions on a stack of plain values."""

    def __init__(self, budget: int) -> None:
        # Calls may return this many bytes in all, so that one long text encoded again and again fills no memory.
        self.budget = budget
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_bytes(self, text: str) -> None:
        self.stack.append(text.encode("latin1"))  # Python 2's str, as pickletools spells it

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise _RefusedError("items added to something that is no list")
        target.extend(items)

    def refer(self, name: str) -> None:
        if name not in _NAMES:
            raise _RefusedError(f"a call to {name[:80]}")
        self.stack.append(_Global(name))

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.refer(f"{_text(module)}.{_text(name)}")

    def reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or function.name not in _CALLS or type(args) is not tuple:
            raise _RefusedError("a call of something that is no function")
        result = _CALLS[function.name](args)
        self.budget -= len(result) if isinstance(result, bytes) and all(result is not a for a in args) else 0
        if self.budget < 0:
            raise _RefusedError("more bytes made from the file than are in it")
        self.stack.append(result)

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Array):
            _, shape, dtype, _, data = state
            _set_array(target, shape, dtype, data)
        elif not isinstance(target, _DType):
            raise _RefusedError("the state of an object that is no array")


_Step = Callable[[_Machine, Any], Any]

_STEPS: dict[str, _Step] = {
    "PROTO": lambda _m, _a: None,
    "FRAME": lambda _m, _a: None,
    "MARK": lambda m, _: m.mark(),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.since_mark(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "LIST": lambda m, _: m.push(m.since_mark()),
    "TUPLE": lambda m, _: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "GLOBAL": lambda m, a: m.refer(a.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda m, _: m.stack_global(),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
    "BYTEARRAY8": lambda m, a: m.push(bytes(a)),
    **dict.fromkeys(["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"], _Machine.push),
    **dict.fromkeys(["BINBYTES", "SHORT_BINBYTES", "BINBYTES8"], _Machine.push),
    **dict.fromkeys(["UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"], _Machine.push),
    **dict.fromkeys(["STRING", "BINSTRING", "SHORT_BINSTRING"], _Machine.push_bytes),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT"], lambda m, a: m.memo.__setitem__(a, m.stack[-1])),
    **dict.fromkeys(["GET", "BINGET", "LONG_BINGET"], lambda m, a: m.push(m.memo[a])),
}


def _refusal(name: str, arg: Any) -> _RefusedError:
    if name == "INST":  # protocol 0's call, the name within the instruction
        return _RefusedError(f"a call to {str(arg).replace(' ', '.', 1)[:80]}")
    return _RefusedError(f"the instruction {name}")


def _follow(path: Path) -> Any:
    machine = _Machine(budget=path.stat().st_size)
    # A mapped file never reads more than there is; an ordinary one first allocates whatever length the pickle claims.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for count, (opcode, arg, _) in enumerate(pickletools.genops(cast(IO[bytes], mapped))):
            if opcode.name == "STOP":
                return machine.stack.pop()
            if count >= MAX_INSTRUCTIONS:
                raise _RefusedError(f"more than {MAX_INSTRUCTIONS} instructions")
            step = _STEPS.get(opcode.name)
            if step is None:
                raise _refusal(opcode.name, arg)
            step(machine, arg)
    raise _RefusedError("no end")


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, _Array) and item.code == "u1":
        return item.data
    if not isinstance(item, bytes):
        raise _RefusedError(f"an image of type {type(item).__name__.strip('_')}")
    return item


def _as_bools(items: Any) -> list[bool]:
    if isinstance(items, _Array):
        return [bool(b) for b in items.data]
    if not isinstance(items, list | tuple) or any(type(i) not in (bool, int) or i not in (0, 1) for i in items):
        raise _RefusedError("a second part that is no list of bools")
    return [bool(i) for i in items]


def _contents(value: Any) -> tuple[list[bytes], list[bool]]:
    if not isinstance(value, tuple | list) or len(value) != 2 or not isinstance(value[0], list | tuple):
        raise _RefusedError("something else")
    images, same = [_as_bytes(item) for item in value[0]], _as_bools(value[1])
    if not same or len(images) != 2 * len(same):
        raise _RefusedError(f"{len(images)} images for {len(same)} pairs")
    return images, same


def read_bin(path: Path) -> tuple[list[bytes], list[bool]]:
    """Read InsightFace's ``.bin`` without executing anything.

    Understands what Python 2 and 3 write (protocols 0 to 5) for bytes, bytearrays, numpy uint8 arrays and bools.

    Returns:
        ``2 P`` encoded images (pair p is images ``2p`` and ``2p + 1``; equal images may share one object), and
        ``P`` bools: is it the same identity.

    Raises:
        UserError: not such a file, damaged, over 4 GiB, or it holds a call.
    """
    expected = f"expected (list of encoded images, list of bool) as InsightFace pickles it in '{path}'"
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _RefusedError(f"more than {MAX_FILE_BYTES >> 30} GiB")
        return _contents(_follow(path))
    except _RefusedError as found:
        raise UserError(f"{expected}, found {found}; nothing of it was executed, use a file you trust") from None
    except OSError as error:
        raise UserError(f"{expected}, found no readable file: {error.strerror}") from error
    # Random bytes make pickletools and the machine fail in every way a short stack or a wrong type can.
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{expected}, found a damaged pickle ({str(error)[:80]}); fetch the file again") from error
