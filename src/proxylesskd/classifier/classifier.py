"""The inherited classifier: the teacher's last layer, one unit row per identity, frozen for good."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.classifier.classifier_file import read_classifier, write_classifier
from proxylesskd.classifier.names import Names, json_of, twice
from proxylesskd.classifier.stored_rows import (
    BLOCK,
    MAPPED_FROM,
    bytes_of,
    check_rows,
    in_memory,
    joined,
    parts,
    require_store,
    store_of,
    unit,
    whole,
)
from proxylesskd.errors import UserError
from proxylesskd.losses.rows import Rows


class InheritedClassifier(nn.Module):
    """Unit rows, the identities they stand for, and how they came to be.

    Args:
        rows: ``[C, D]``, all of them finite and non-zero. Floating point is copied to float32 and normalised here;
            compact rows stay as they are, and have length 1 already.
        identities: C distinct names; row ``i`` belongs to ``identities[i]``.
        provenance: plain values that say where the rows come from.
        projection: ``[T, D]`` floating point, where the rows were projected from a teacher of dimension T: the linear
            map that takes the teacher's embeddings into the space of the rows.

    Attributes:
        identities: the names, a list or, of very many, a sequence that decodes them when they are asked for.
        projection: ``[T, D] float32`` or None, a buffer.

    The rows are buffers too: they move with the module and are never trained. Those of a large file are views on the
    file, and must not be written to. A ``state_dict`` holds the fingerprint alone: it is loaded where the rows are the
    same, and refused elsewhere.

    Raises:
        UserError: shapes do not fit, a row is zero or not finite, or a name stands twice.
    """

    identities: Sequence[str]
    projection: Tensor | None

    def __init__(
        self,
        rows: Rows,
        identities: Sequence[str],
        provenance: Mapping[str, Any],
        projection: Tensor | None = None,
    ) -> None:
        super().__init__()
        identities = identities if isinstance(identities, Names) else list(identities)
        _check_shapes(rows, identities)
        _check_projection(projection, rows.shape[1])
        check_rows(rows, identities)
        self._hold(unit(rows.detach()) if isinstance(rows, Tensor) else rows, identities, provenance, projection)

    def _hold(
        self, stored: Rows, identities: Sequence[str], provenance: Mapping[str, Any], projection: Tensor | None
    ) -> None:
        for name, tensor in parts(stored).items():
            self.register_buffer(f"stored_{name}", tensor, persistent=False)
        self._parts = tuple(parts(stored))
        self.register_buffer(
            "projection", None if projection is None else projection.detach().float(), persistent=False
        )
        self.identities = identities
        self.provenance = dict(provenance)

    @classmethod
    def _of(
        cls, stored: Rows, identities: Sequence[str], provenance: Mapping[str, Any], projection: Tensor | None
    ) -> InheritedClassifier:
        """Make one of what was checked before, without copying it."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._hold(stored, identities, provenance, projection)
        return made

    @property
    def stored(self) -> Rows:
        """``[C, D]`` unit rows as they are stored, float32 or compact: what the loss goes through."""
        found = joined({name: getattr(self, f"stored_{name}") for name in self._parts})
        assert found is not None
        return found

    @property
    def rows(self) -> Tensor:
        """``[C, D] float32`` unit rows; computed anew at every call where they are stored compactly.

        Raises:
            UserError: they are stored compactly, and in float32 are larger than the memory.
        """
        return whole(self.stored)

    @property
    def store(self) -> str:
        """How the rows are stored: ``"float32"``, ``"bfloat16"`` or ``"int8"``."""
        return store_of(self.stored)

    @property
    def dim(self) -> int:
        """Length D of a row, and so of the student's embedding."""
        return int(self.stored.shape[1])

    @property
    def teacher_dim(self) -> int:
        """Length of the teacher's embeddings: that of a row, unless the rows were projected."""
        return self.dim if self.projection is None else int(self.projection.shape[0])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of rows and names; equal fingerprints are the same classifier. Computed once: the rows never change."""
        digest = hashlib.sha256()
        for piece in json_of(self.identities):
            digest.update(piece)
        for tensor in self._tensors().values():
            for start in range(0, len(tensor), BLOCK):
                digest.update(tensor[start : start + BLOCK].cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def expect(self, fingerprint: str) -> None:
        """Stop if this is not the classifier that ``fingerprint`` names.

        Raises:
            UserError: it is another one.
        """
        if fingerprint != self.fingerprint:
            raise UserError(
                f"expected the classifier {fingerprint} of the earlier run, found {self.fingerprint}; "
                "resume with the classifier that the run began with"
            )

    def get_extra_state(self) -> str:
        """Return what a checkpoint says of the classifier."""
        return self.fingerprint

    def set_extra_state(self, state: str) -> None:
        """Refuse a checkpoint that was trained through other rows."""
        self.expect(state)

    def rows_of(self, identities: Sequence[str]) -> Tensor:
        """Return ``[len(identities)] int64``, the row of every named identity.

        A source may hold fewer identities than the classifier: rows without images stay as negatives.

        Raises:
            UserError: a name has no row.
        """
        wanted = dict.fromkeys(identities, -1)
        for row, name in enumerate(self.identities):
            if name in wanted:
                wanted[name] = row
        missing = [name for name in identities if wanted[name] < 0]
        if missing:
            raise UserError(
                f"expected a row for each of the {len(identities)} identities in the data, found none for "
                f"{len(missing)} of them, first '{missing[0]}' (the classifier begins with '{self.identities[0]}'); "
                "inherit the classifier from the same data, or give the data that belongs to it"
            )
        return torch.tensor([wanted[name] for name in identities], dtype=torch.int64)

    def with_provenance(self, **said: Any) -> InheritedClassifier:
        """Return the same rows with more said about where they come from."""
        return self._of(self.stored, self.identities, self.provenance | said, self.projection)

    def save(self, path: str | Path, store: str | None = None) -> None:
        """Write one safetensors file, block by block; it appears whole or not at all.

        Args:
            path: the file.
            store: how the rows lie there, ``"float32"``, ``"bfloat16"`` or ``"int8"``; as they are here unless given.

        Raises:
            UserError: it cannot be written.
        """
        store = self.store if store is None else require_store(store)
        provenance = self.provenance
        if store != self.store:
            provenance = provenance | {"stored_as": store, "stored_from": self.fingerprint}
        write_classifier(Path(path), self.stored, store, self.identities, provenance, self.projection)

    def _tensors(self) -> dict[str, Tensor]:
        """Return what the rows consist of and, where there is one, the projection."""
        return parts(self.stored) | ({} if self.projection is None else {"projection": self.projection})

    @classmethod
    def load(cls, path: str | Path) -> InheritedClassifier:
        """Read what :meth:`save` wrote; the rows of a large file stay there, and are mapped.

        Raises:
            UserError: the file is missing, damaged or no classifier.
        """
        rows, identities, provenance, projection = read_classifier(Path(path))
        if bytes_of(rows) < MAPPED_FROM:
            return cls(rows if isinstance(rows, Tensor) else in_memory(rows), identities, provenance, projection)
        _check_shapes(rows, identities)
        _check_projection(projection, rows.shape[1])
        even = check_rows(rows, identities)
        if isinstance(rows, Tensor) and not (even and rows.dtype == torch.float32):
            rows = unit(rows)
        return cls._of(rows, identities, provenance, projection)

    def describe(self) -> dict[str, Any]:
        """Return what ``classifier.json`` of a run says: hash, size, provenance."""
        count, dim = self.stored.shape
        return {
            "fingerprint": self.fingerprint,
            "identities": count,
            "dim": dim,
            "teacher_dim": self.teacher_dim,
            "store": self.store,
            "provenance": self.provenance,
        }


def _check_shapes(rows: Rows, identities: Sequence[str]) -> None:
    if isinstance(rows, Tensor) and not rows.is_floating_point():
        raise UserError(f"expected floating-point rows [C >= 2, D], found {tuple(rows.shape)} {rows.dtype}")
    if len(rows.shape) != 2 or rows.shape[0] < 2:
        raise UserError(f"expected floating-point rows [C >= 2, D], found {tuple(rows.shape)} {rows.dtype}")
    if len(identities) != rows.shape[0]:
        raise UserError(
            f"expected one identity a row, found {rows.shape[0]} rows and {len(identities)} identities; "
            "the label list does not belong to this classifier"
        )
    repeated = twice(identities)
    if repeated is not None:
        raise UserError(f"expected distinct identities, found '{repeated}' more than once; rename or merge them")


def _check_projection(projection: Tensor | None, dim: int) -> None:
    if projection is not None and (projection.ndim != 2 or projection.shape[1] != dim or projection.shape[0] < dim):
        raise UserError(
            f"expected a projection [T >= {dim}, {dim}] onto rows of dimension {dim}, found {tuple(projection.shape)}"
        )
