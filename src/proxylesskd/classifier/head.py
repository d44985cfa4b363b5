"""A last layer as it stands in foreign files: which of their matrices it is, which way round, and its rows joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from proxylesskd.errors import UserError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DEPTH = 5  # mappings inside mappings; a pickled one may contain itself
_SHOWN = 6


class NoHeadError(UserError):
    """A file without anything that can be recognised as a last layer; rows can still be estimated from faces."""


@dataclass(frozen=True)
class Head:
    """The last layer of a foreign file.

    Attributes:
        rows: ``[C, D] float32``, not normalised, one row per identity in the order of the training labels.
        kind: what was recognised, for people.
        key: name of the tensor in its file or files.
        files: names of the files it was read from, in the order of the rows.
        padding: rows at the end that stood for no identity and were removed.
        identities: names of the rows, where the file has them.
        notes: what else a user should know.
    """

    rows: Tensor
    kind: str
    key: str
    files: list[str]
    padding: int = 0
    identities: list[str] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Matrix:
    """A matrix that may be the last layer, or one shard of it.

    Attributes:
        key: its name; containers are part of it, joined by dots.
        values: ``[C, D]`` or, transposed, ``[D, C]``; often mapped from its file.
        transposed: whether it stands ``[D, C]``; None where its name does not say it.
        bias: ``[C]``, what the layer adds to its logits, or None.
    """

    key: str
    values: Tensor
    transposed: bool | None = None
    bias: Tensor | None = None

    @property
    def shown(self) -> str:
        """Name and shape, for messages."""
        return f"{shown_key(self.key)} {list(self.values.shape)}"


@dataclass(frozen=True)
class Found:
    """What a reader found: one matrix, or one per shard, in the order of the rows.

    Attributes:
        kind: what was recognised, for people.
        matrices: the shards.
        files: names of their files, one per shard.
        notes: what else a user should know.
    """

    kind: str
    matrices: list[Matrix]
    files: list[str]
    notes: list[str] = field(default_factory=list)


def shown_key(key: str) -> str:
    """Make a name from an untrusted file fit for a one-line message."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in key[:200])
    return plain or "(the tensor)"


def tensors_in(content: Any) -> dict[str, Tensor]:
    """Flatten nested mappings of tensors into names joined by dots; a bare tensor has the name ``""``."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    todo: list[tuple[str, Any, int]] = [("", content, 0)]
    while todo:
        name, value, depth = todo.pop(0)
        if isinstance(value, Tensor):
            found[name] = value.detach()
        elif isinstance(value, Mapping) and depth < _DEPTH and id(value) not in seen:
            seen.add(id(value))
            inner = [(key, item) for key, item in value.items() if isinstance(key, str)]
            todo += [(f"{name}.{key}" if name else key, item, depth + 1) for key, item in inner]
    return found


def matrices_in(tensors: Mapping[str, Tensor]) -> list[Matrix]:
    """Return the floating-point matrices, each with what its name says of its orientation."""
    return [
        Matrix(key, values, orientation(key), _bias(key, tensors))
        for key, values in tensors.items()
        if values.ndim == 2 and values.dtype in _FLOATS
    ]


def _bias(key: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
    layer, _, last = key.rpartition(".")
    return tensors.get(f"{layer}.bias" if layer else "bias") if last in ("weight", "kernel") else None


def orientation(key: str) -> bool | None:
    """Say by the name of a tensor whether it stands ``[D, C]``; None where the name says nothing."""
    last = key.rpartition(".")[2]
    if last == "kernel":
        return True
    return False if last in ("weight", "rows", "center", "centers", "centres") else None


def listed(matrices: Iterable[Matrix]) -> str:
    """List the first few matrices with their shapes."""
    all_of_them = list(matrices)
    more = f" and {len(all_of_them) - _SHOWN} more" if len(all_of_them) > _SHOWN else ""
    return (", ".join(matrix.shown for matrix in all_of_them[:_SHOWN]) or "no matrices at all") + more


def is_transposed(matrix: Matrix, *, given: bool | None, count: int | None, dim: int | None) -> bool:
    """Decide whether a matrix stands ``[D, C]``: as given, else as its name says, else by its shape.

    Args:
        matrix: ``[a, b]``.
        given: the user's word.
        count: C where known.
        dim: D where known.

    Raises:
        UserError: nothing decides; without ``count`` or ``dim`` only more rows than columns do.
    """
    known = given if given is not None else matrix.transposed
    if known is not None:
        return known
    height, width = matrix.values.shape
    readings = [(False, height, width), (True, width, height)]
    if dim is not None:
        readings = [reading for reading in readings if reading[2] == dim] or readings
    if count is not None:
        readings = [reading for reading in readings if reading[1] == count] or readings
    if len(readings) == 1:
        return readings[0][0]
    if height > width:
        return False
    raise UserError(
        f"expected more rows than columns, or to know which is which, found {matrix.shown}; say --transposed if "
        f"every identity is a column, --no-transposed if every identity is a row"
    )


def join(parts: Sequence[tuple[Matrix, bool]]) -> Tensor:
    """Put shards below each other into one ``[C, D] float32`` tensor, without a second copy of the whole.

    Args:
        parts: matrices of one dimension D, each with whether it stands ``[D, n]``.
    """
    oriented = [matrix.values.T if transposed else matrix.values for matrix, transposed in parts]
    rows = torch.empty(sum(len(part) for part in oriented), oriented[0].shape[1])
    start = 0
    for part in oriented:
        rows[start : start + len(part)] = part  # float16, bfloat16 and float64 become float32 here
        start += len(part)
    return rows


def check_values(matrix: Matrix, file: str) -> None:
    """Refuse a tensor that claims to be larger than what the file holds, and kinds of tensors that have no rows.

    Raises:
        UserError: it is no ordinary matrix of floating-point numbers.
    """
    values = matrix.values
    plain = values.layout == torch.strided and values.device.type == "cpu" and not values.is_quantized
    if not plain or values.ndim != 2 or values.dtype not in _FLOATS:
        raise UserError(
            f"expected a matrix of float16, bfloat16, float32 or float64 called '{shown_key(matrix.key)}' in '{file}', "
            f"found {list(values.shape)} {values.dtype} {values.layout} on {values.device.type}"
        )
    claimed, held = values.numel() * values.element_size(), values.untyped_storage().nbytes()
    if claimed > held or 0 in values.shape:
        raise UserError(f"refused '{file}': '{matrix.shown}' claims {claimed} bytes, and the file holds {held} of them")
