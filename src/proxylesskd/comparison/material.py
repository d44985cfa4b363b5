"""What all cells share: faces, classifier, teacher and verification set, each known by a hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from proxylesskd.audit.audit import audit_classifier
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.project import load_projection
from proxylesskd.data.listed import listed
from proxylesskd.data.pairs import Pairs, read_pairs
from proxylesskd.data.source import Source, open_source
from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder
from proxylesskd.recipe import Recipe
from proxylesskd.teacher import load_teacher


@dataclass(frozen=True)
class Material:
    """Opened once for a whole comparison.

    Attributes:
        source: the training faces.
        pairs: the verification set.
        classifier: the inherited rows, or None.
        teacher: made the gallery and teaches, or None.
        projected: whether the classifier holds a projection from the teacher's dimension to its own.
    """

    source: Source
    pairs: Pairs
    classifier: InheritedClassifier | None = None
    teacher: Embedder | None = None
    projected: bool = False

    @classmethod
    def open(cls, recipe: Recipe, pairs: str | Path, root: str | Path | None = None) -> Material:
        """Open what the recipe names.

        Raises:
            UserError: something is missing or damaged.
        """
        if not recipe.data.train:
            raise UserError("expected the training faces, found none; give data.train=…")
        source = open_source(recipe.data.train)
        source = listed(source, recipe.data.keep) if recipe.data.keep else source
        plan = recipe.method
        classifier = InheritedClassifier.load(plan.classifier) if plan.classifier else None
        projected = bool(plan.classifier) and load_projection(plan.classifier) is not None
        teacher = load_teacher(plan.teacher) if plan.teacher else None
        return cls(source, read_pairs(pairs, root), classifier, teacher, projected)

    @property
    def dim(self) -> int:
        """Of the students whose recipe leaves it open."""
        if self.classifier is not None:
            return self.classifier.dim
        return 512 if self.teacher is None else self.teacher.dim

    @property
    def gallery_dim(self) -> int | None:
        """Of the teacher's gallery, after the projection if there is one."""
        if self.projected and self.classifier is not None:
            return self.classifier.dim
        return None if self.teacher is None else self.teacher.dim

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Hash of each part; ``data`` is that of the images' names and labels."""
        found = {"data": source_fingerprint(self.source), "pairs": pairs_fingerprint(self.pairs)}
        found |= {} if self.classifier is None else {"classifier": self.classifier.fingerprint}
        return found | ({} if self.teacher is None else {"teacher": self.teacher.fingerprint})

    def audit(self) -> None:
        """Stop where classifier, faces and teacher cannot belong together, once for all cells.

        Raises:
            UserError: the audit failed.
        """
        if self.classifier is not None:
            audit_classifier(self.classifier, self.source, teacher=self.teacher).require()


def source_fingerprint(source: Source) -> str:
    """Return the sha256 of the images' names and labels and of the identities, in order."""
    digest = hashlib.sha256("\n".join(source.identities).encode())
    digest.update(np.ascontiguousarray(source.labels, dtype=np.int64).tobytes())
    for index in range(len(source)):
        digest.update(source.name(index).encode() + b"\n")
    return digest.hexdigest()


def pairs_fingerprint(pairs: Pairs) -> str:
    """Return the sha256 of the pixels, the pairs and their folds."""
    digest = hashlib.sha256(np.ascontiguousarray(pairs.images).data)
    for values in (pairs.first, pairs.second, pairs.fold, pairs.same):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
