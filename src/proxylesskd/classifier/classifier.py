"""The inherited classifier: the teacher's last layer, one unit row per identity, frozen for good."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models.weights import umask


class InheritedClassifier(nn.Module):
    """Unit rows, the identities they stand for, and how they came to be.

    Args:
        rows: ``[C, D]`` floating point; normalised here, all of them finite and non-zero.
        identities: C distinct names; row ``i`` belongs to ``identities[i]``.
        provenance: plain values that say where the rows come from.
        projection: ``[T, D]`` floating point, where the rows were projected from a teacher of dimension T: the linear
            map that takes the teacher's embeddings into the space of the rows.

    Attributes:
        rows: ``[C, D] float32``, unit length, a buffer: never trained.
        projection: ``[T, D] float32`` or None, a buffer too.

    Raises:
        UserError: shapes do not fit, a row is zero or not finite, or a name stands twice.
    """

    rows: Tensor
    projection: Tensor | None

    def __init__(
        self,
        rows: Tensor,
        identities: Sequence[str],
        provenance: Mapping[str, Any],
        projection: Tensor | None = None,
    ) -> None:
        super().__init__()
        _check(rows, identities)
        _check_projection(projection, rows.shape[1])
        self.register_buffer("rows", _unit(rows.detach().float()))
        self.register_buffer("projection", None if projection is None else projection.detach().float())
        self.identities = list(identities)
        self.provenance = dict(provenance)

    @property
    def dim(self) -> int:
        """Length D of a row, and so of the student's embedding."""
        return int(self.rows.shape[1])

    @property
    def teacher_dim(self) -> int:
        """Length of the teacher's embeddings: that of a row, unless the rows were projected."""
        return self.dim if self.projection is None else int(self.projection.shape[0])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of rows and names; equal fingerprints are the same classifier. Computed once: the rows never change."""
        digest = hashlib.sha256(json.dumps(self.identities).encode())
        for tensor in self._tensors().values():
            digest.update(tensor.numpy().tobytes())
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

    def rows_of(self, identities: Sequence[str]) -> Tensor:
        """Return ``[len(identities)] int64``, the row of every named identity.

        A source may hold fewer identities than the classifier: rows without images stay as negatives.

        Raises:
            UserError: a name has no row.
        """
        position = {name: row for row, name in enumerate(self.identities)}
        missing = [name for name in identities if name not in position]
        if missing:
            raise UserError(
                f"expected a row for each of the {len(identities)} identities in the data, found none for "
                f"{len(missing)} of them, first '{missing[0]}' (the classifier begins with '{self.identities[0]}'); "
                "inherit the classifier from the same data, or give the data that belongs to it"
            )
        return torch.tensor([position[name] for name in identities], dtype=torch.int64)

    def with_provenance(self, **said: Any) -> InheritedClassifier:
        """Return the same rows with more said about where they come from."""
        return InheritedClassifier(self.rows, self.identities, self.provenance | said, self.projection)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file; it appears whole or not at all."""
        from safetensors.torch import save_file

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = torch.frombuffer(bytearray(json.dumps(self.identities).encode()), dtype=torch.uint8)
        partial = path.with_name(path.name + ".partial")
        metadata = {"format": "proxylesskd-classifier-1", "provenance": json.dumps(self.provenance)}
        save_file({**self._tensors(), "identities": names}, partial, metadata)
        partial.chmod(0o666 & ~umask())  # safetensors makes private files
        partial.replace(path)

    def _tensors(self) -> dict[str, Tensor]:
        """Return the rows and, where there is one, the projection, on the CPU."""
        tensors = {"rows": self.rows, "projection": self.projection}
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items() if tensor is not None}

    @classmethod
    def load(cls, path: str | Path) -> InheritedClassifier:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: the file is missing, damaged or no classifier.
        """
        tensors, metadata = _read(Path(path))
        try:
            identities = json.loads(bytes(tensors["identities"].numpy()))
            provenance = json.loads(metadata["provenance"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"expected a classifier made by 'proxylesskd inherit' at '{path}', found a file without "
                f"identities and provenance; make one with 'proxylesskd inherit'"
            ) from error
        return cls(tensors["rows"], identities, provenance, tensors.get("projection"))

    def describe(self) -> dict[str, Any]:
        """Return what ``classifier.json`` of a run says: hash, size, provenance."""
        count, dim = self.rows.shape
        return {
            "fingerprint": self.fingerprint,
            "identities": count,
            "dim": dim,
            "teacher_dim": self.teacher_dim,
            "provenance": self.provenance,
        }


def _unit(rows: Tensor) -> Tensor:
    """Normalise rows, but leave those of unit length alone: read back from a file they keep every bit."""
    norms = rows.norm(dim=1, keepdim=True)  # [C, 1]
    return torch.where((norms - 1).abs() < 1e-6, rows, rows / norms)


def _check(rows: Tensor, identities: Sequence[str]) -> None:
    if rows.ndim != 2 or not rows.is_floating_point() or rows.shape[0] < 2:
        raise UserError(f"expected floating-point rows [C >= 2, D], found {tuple(rows.shape)} {rows.dtype}")
    if len(identities) != rows.shape[0]:
        raise UserError(
            f"expected one identity a row, found {rows.shape[0]} rows and {len(identities)} identities; "
            "the label list does not belong to this classifier"
        )
    if len(set(identities)) != len(identities):
        twice = next(name for name in identities if list(identities).count(name) > 1)
        raise UserError(f"expected distinct identities, found '{twice}' more than once; rename or merge them")
    norms = rows.float().norm(dim=1)
    bad = (~torch.isfinite(norms) | (norms < 1e-6)).nonzero().flatten().tolist()
    if bad:
        raise UserError(
            f"expected finite rows that are not zero, found {len(bad)} others, first row {bad[0]} "
            f"('{identities[bad[0]]}'); leave these identities out"
        )


def _check_projection(projection: Tensor | None, dim: int) -> None:
    if projection is not None and (projection.ndim != 2 or projection.shape[1] != dim or projection.shape[0] < dim):
        raise UserError(
            f"expected a projection [T >= {dim}, {dim}] onto rows of dimension {dim}, found {tuple(projection.shape)}"
        )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"expected a classifier file, found nothing at '{path}'; make one with 'proxylesskd inherit'")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"expected a safetensors file at '{path}', found a damaged or foreign one: {error}") from error
