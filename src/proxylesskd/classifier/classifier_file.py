"""The file of a classifier: rows as they are stored, names, provenance; larger than the memory if need be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from proxylesskd.classifier.names import Names, names_from
from proxylesskd.classifier.stored_rows import BLOCK, blocks, joined, layout_of, parts, store_of, stored_as, unit
from proxylesskd.classifier.tensor_file import TensorWriter, map_tensors
from proxylesskd.errors import UserError
from proxylesskd.losses.rows import Rows

_FORMAT = "proxylesskd-classifier-2"  # 1 had the names as a list in JSON


class Content(NamedTuple):
    """What a file holds; the rows are views on it."""

    rows: Rows
    identities: Sequence[str]
    provenance: dict[str, Any]
    projection: Tensor | None


def write_classifier(
    path: Path,
    rows: Rows,
    store: str,
    identities: Sequence[str],
    provenance: Mapping[str, Any],
    projection: Tensor | None,
) -> None:
    """Write a file block by block; it appears whole or not at all.

    Args:
        path: the file.
        rows: ``[C, D]`` unit rows.
        store: how they are to lie there.
        identities: C names.
        provenance: plain values.
        projection: ``[T, D] float32`` or None.

    Raises:
        UserError: it cannot be written.
    """
    names = Names.pack(identities)
    beside = {"identities": names.text, "identity_ends": names.ends}
    beside |= {} if projection is None else {"projection": projection}
    layout = layout_of(store, *rows.shape) | {name: (t.dtype, tuple(t.shape)) for name, t in beside.items()}
    metadata = {"format": _FORMAT, "provenance": json.dumps(dict(provenance))}
    with TensorWriter(path, layout, metadata) as file:
        for start in range(0, rows.shape[0], BLOCK):
            for name, piece in parts(converted(rows[start : start + BLOCK], store)).items():
                file.put(name, start, piece)
        for name, tensor in beside.items():
            file.put(name, 0, tensor)


def converted(rows: Rows, store: str) -> Rows:
    """Return ``[C, D]`` unit rows stored in another way; those that are stored so are not copied."""
    if store_of(rows) == store:
        return rows
    layout = layout_of(store, *rows.shape)
    made = {name: torch.empty(shape, dtype=dtype, device=rows.device) for name, (dtype, shape) in layout.items()}
    for start, values in blocks(rows):
        for name, piece in parts(stored_as(unit(values), store)).items():
            made[name][start : start + len(piece)] = piece
    found = joined(made)
    assert found is not None
    return found


def read_classifier(path: Path) -> Content:
    """Return what a file holds; its rows are not read yet.

    Raises:
        UserError: the file is missing, damaged or no classifier.
    """
    if not path.is_file():
        raise UserError(f"expected a classifier file, found nothing at '{path}'; make one with 'proxylesskd inherit'")
    tensors, metadata = map_tensors(path)
    rows, provenance = joined(tensors), _provenance(metadata)
    if rows is None or provenance is None or "identities" not in tensors:
        raise UserError(
            f"expected a classifier made by 'proxylesskd inherit' at '{path}', found a file without "
            f"identities and provenance; make one with 'proxylesskd inherit'"
        )
    projection = tensors.get("projection")
    identities = names_from(tensors["identities"], tensors.get("identity_ends"))
    return Content(rows, identities, provenance, None if projection is None else projection.clone())


def _provenance(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    try:
        found = json.loads(metadata["provenance"])
    except (KeyError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
