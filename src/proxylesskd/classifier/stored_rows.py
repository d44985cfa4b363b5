"""How rows lie in a file and in memory: float32, bfloat16 or bytes; taken apart, put together and checked by blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.rows import CompactRows, Rows, block, gather, in_bytes, quantise, split
from proxylesskd.machine import GIB, available_memory

STORES = ("float32", "bfloat16", "int8")
# Files with fewer bytes of rows are read into memory, where nothing that happens to the file can touch them.
MAPPED_FROM = 256 << 20
BLOCK = 8192  # rows that are looked at together: 16 MiB of float32 at D = 512

_TYPES = {
    "float32": {"rows": torch.float32},
    "bfloat16": {"codes": torch.bfloat16, "fine": torch.int8, "steps": torch.float32},
    "int8": {"codes": torch.int8, "fine": torch.int8, "steps": torch.float32},
}


def require_store(store: str) -> str:
    """Return the name of a way to store rows.

    Raises:
        UserError: there is none of that name.
    """
    if store not in STORES:
        raise UserError(f"expected rows stored as {', '.join(STORES)}, found '{store}'{nearest(store, STORES)}")
    return store


def store_of(rows: Rows) -> str:
    """Return how rows are stored, one of :data:`STORES`."""
    if isinstance(rows, Tensor):
        return "float32"
    return "int8" if in_bytes(rows) else "bfloat16"


def stored_as(rows: Tensor, store: str) -> Rows:
    """Return ``[n, D]`` floating-point rows in another form."""
    if require_store(store) == "float32":
        return rows.float()
    return split(rows) if store == "bfloat16" else quantise(rows)


def parts(rows: Rows) -> dict[str, Tensor]:
    """Return the tensors that rows consist of, by the names they have in a file."""
    if isinstance(rows, Tensor):
        return {"rows": rows}
    return {field.name: getattr(rows, field.name) for field in fields(rows)}


def joined(tensors: Mapping[str, Tensor]) -> Rows | None:
    """Return the rows that consist of these tensors; None where they are none.

    Raises:
        UserError: they have the right names, but not the types or shapes.
    """
    for store, types in _TYPES.items():
        if types.keys() <= tensors.keys():
            found = {name: tensors[name] for name in types}
            store = "int8" if store != "float32" and in_bytes(found["codes"]) else store
            _require_fitting(found, store)
            return found["rows"] if store == "float32" else CompactRows(**found)
    return None


def layout_of(store: str, count: int, dim: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return type and shape of the tensors that ``count`` rows of length ``dim`` consist of."""
    types = _TYPES[require_store(store)]
    return {name: (t, (count,) if name == "steps" else (count, dim)) for name, t in types.items()}


def size_of(store: str, count: int, dim: int) -> int:
    """Return the bytes that ``count`` rows of length ``dim`` take, stored in this way."""
    return sum(torch.Size(shape).numel() * dtype.itemsize for dtype, shape in layout_of(store, count, dim).values())


def bytes_of(rows: Rows) -> int:
    """Return the bytes that rows take as they are stored."""
    return sum(tensor.nbytes for tensor in parts(rows).values())


def in_memory(rows: Rows) -> Rows:
    """Return a copy that no file backs."""
    copied = {name: tensor.clone() for name, tensor in parts(rows).items()}
    return copied["rows"] if isinstance(rows, Tensor) else CompactRows(**copied)


def blocks(rows: Rows) -> Iterator[tuple[int, Tensor]]:
    """Yield the first row's number and ``[n, D] float32`` rows, as exact as they are stored, block by block."""
    for start in range(0, rows.shape[0], BLOCK):
        yield start, gather(rows[start : start + BLOCK], slice(None), torch.float32)


def whole(rows: Rows) -> Tensor:
    """Return ``[C, D] float32``; stored so they are returned themselves, otherwise computed.

    Raises:
        UserError: this machine has no room for them.
    """
    if isinstance(rows, Tensor):
        return rows
    needed, free = 4 * rows.codes.numel(), available_memory()
    if rows.device.type == "cpu" and needed > free:
        raise UserError(
            f"expected {needed / GIB:.1f} GiB of free memory for {rows.shape[0]} rows in float32, found "
            f"{free / GIB:.1f}; what needs all rows in float32 at once (audit, combining, projecting) wants a larger "
            "machine, training and estimating do not"
        )
    found = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    for start, values in blocks(rows):
        found[start : start + len(values)] = values
    return found


def unit(rows: Tensor) -> Tensor:
    """Return a copy of ``[C, D]`` rows of length 1, float32; those within 1e-6 keep every bit."""
    found = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    for start, values in blocks(rows):
        norms = values.norm(dim=1, keepdim=True)  # [n, 1]
        found[start : start + len(values)] = torch.where(_is_one(norms), values, values / norms)
    return found


def check_rows(rows: Rows, identities: Sequence[str]) -> bool:
    """Look at every row once; return whether all of them, as a pass over all reads them, have length 1.

    Raises:
        UserError: one is zero or not finite, or a compact one, which cannot be normalised, has another length.
    """
    bad, even = list[int](), True
    for start in range(0, rows.shape[0], BLOCK):
        # without the residuals of compact rows, which change a length by a few per cent at most
        norms = block(rows, start, min(start + BLOCK, rows.shape[0]), torch.float32).norm(dim=1)  # [n]
        wrong = ~torch.isfinite(norms) | (norms < 1e-6)
        if not isinstance(rows, Tensor):
            wrong |= (norms - 1).abs() > 0.05
        bad += (wrong.nonzero().flatten() + start).tolist()
        even = even and bool(_is_one(norms).all())
    if bad:
        kind = "finite rows that are not zero" if isinstance(rows, Tensor) else "finite rows of length 1"
        raise UserError(
            f"expected {kind}, found {len(bad)} others, first row {bad[0]} ('{identities[bad[0]]}'); "
            "leave these identities out"
        )
    return even


def _is_one(norms: Tensor) -> Tensor:
    return (norms - 1).abs() < 1e-6


def _require_fitting(tensors: Mapping[str, Tensor], store: str) -> None:
    first = tensors["rows" if store == "float32" else "codes"]
    if first.ndim == 2:
        wanted = layout_of(store, *first.shape)
        if store == "float32" or all(wanted[k] == (t.dtype, tuple(t.shape)) for k, t in tensors.items()):
            return
    found = ", ".join(f"{name} {list(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items())
    raise UserError(f"expected rows [C, D] stored as {store}, found {found}; make the classifier anew")
