"""A gallery: who is enrolled, by which model, and which models may search it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.recognition.gallery_file import (
    about,
    changes,
    count_change,
    create,
    insert,
    reading,
    transaction,
)
from proxylesskd.recognition.model import RecognitionModel
from proxylesskd.recognition.search import Embeddings, Entries
from proxylesskd.recognition.thresholds import CROSS, SINGLE, Scale, scale_of

if TYPE_CHECKING:
    import numpy.typing as npt

LARGEST_DIM = 1 << 16
LONGEST_NAME = 1000
FLOAT = np.dtype("<f4")


@dataclass(frozen=True)
class Enrolled:
    """One photo to enrol.

    Attributes:
        identity: whose it is.
        photo: its name.
        digest: sha256 of its bytes: one identity has a photo once.
        embedding: ``[D] float32`` of unit length.
    """

    identity: str
    photo: str
    digest: str
    embedding: Embeddings


@dataclass(frozen=True)
class Maker:
    """The model that made a gallery.

    Attributes:
        name: what a person calls it.
        identity: hash by which it is known again.
        hashes: all hashes it is known by.
        dim: length D of its embeddings.
        scale: what similarities of two of its embeddings mean.
    """

    name: str
    identity: str
    hashes: frozenset[str]
    dim: int
    scale: Scale


class Gallery:
    """Enrolled photos in one file, an SQLite database. Threads and processes may share it.

    Every photo that :meth:`add` has returned of is on the disk, whatever happens to the process afterwards.

    Args:
        path: an existing gallery; :meth:`create` makes one.

    Raises:
        UserError: none stands there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with reading(self.path) as database:
            self.maker = _maker(about(database), self.path)
        self._kept: tuple[str, Entries] | None = None
        self._keeping = threading.Lock()

    @classmethod
    def create(cls, path: str | Path, model: RecognitionModel) -> Gallery:
        """Make a gallery of a model, or open the one that stands there.

        Raises:
            UserError: the one that stands there was made by another model, or the file is something else.
        """
        create(Path(path), _told(model))
        gallery = cls(path)
        gallery.check_enrolling(model)
        return gallery

    def check_enrolling(self, model: RecognitionModel) -> None:
        """Stop unless a model is the one that made the gallery: only its embeddings belong here.

        Raises:
            UserError: it is another one.
        """
        if model.identity != self.maker.identity or model.dim != self.maker.dim:
            raise UserError(
                f"expected the model that made the gallery '{self.path}', {_called(self.maker)}, found "
                f"{_called(model)}; a student may search it, but only its own model enrolls"
            )

    def mode_of(self, model: RecognitionModel, *, same_space: bool = False) -> str:
        """Return how a model searches: ``"single"`` if it made the gallery, ``"cross"`` if it is a student of that one.

        Args:
            model: of the probes.
            same_space: the caller's word that the model is a student of the gallery's, though it does not say so.

        Raises:
            UserError: it is neither, and its embeddings mean nothing here.
        """
        if model.identity == self.maker.identity and model.dim == self.maker.dim:
            return SINGLE
        if same_space or model.taught_by(self.maker.hashes):
            return CROSS
        said = f"a student of '{model.teacher.get('name', 'another model')}'" if model.teacher else "no student of it"
        raise UserError(
            f"expected a probe by {_called(self.maker)}, which made the gallery '{self.path}', or by a student of it, "
            f"found {_called(model)}, {said}: their similarities would mean nothing; enroll the photos with this "
            "model, or say --same-space if it is such a student"
        )

    def scale(self, model: RecognitionModel, mode: str) -> Scale:
        """Return what similarities of a probe by this model mean here.

        The model says it; in single-model mode the gallery does for one that says nothing.
        """
        own = model.scale(mode)
        return self.maker.scale if mode == SINGLE and not own.thresholds else own

    def add(self, photos: Iterable[Enrolled]) -> int:
        """Enrol photos, all of them or, if this fails, none; return how many are new to their identity.

        Raises:
            UserError: an embedding is not ``[D] float32`` of unit length, or a name is empty or too long.
        """
        rows = [self._row(photo) for photo in photos]
        if not rows:
            return 0
        with transaction(self.path) as database:
            return insert(database, rows)

    def remove(self, identity: str) -> int:
        """Erase an identity and its embeddings from the file; return how many photos it had."""
        with transaction(self.path) as database:
            gone = database.execute("DELETE FROM photo WHERE identity = ?", (identity,)).rowcount
            if gone:
                count_change(database)
            return gone

    def known(self) -> set[tuple[str, str]]:
        """Return (identity, digest) of every photo."""
        with reading(self.path) as database:
            return {(str(who), str(what)) for who, what in database.execute("SELECT identity, digest FROM photo")}

    def counts(self) -> dict[str, int]:
        """Return how many photos each identity has, by name."""
        with reading(self.path) as database:
            rows = database.execute("SELECT identity, count(*) FROM photo GROUP BY identity ORDER BY identity")
            return {str(identity): int(count) for identity, count in rows}

    def entries(self) -> Entries:
        """Return all that is enrolled; read again only when it has changed.

        Raises:
            UserError: an embedding in the file is damaged.
        """
        with self._keeping, reading(self.path) as database:
            now = changes(database)
            if self._kept is None or self._kept[0] != now:
                rows = database.execute("SELECT identity, name, embedding FROM photo ORDER BY identity, id")
                self._kept = now, self._entries(rows)
            return self._kept[1]

    def projected(self, projection: npt.NDArray[np.float32]) -> Entries:
        """Return what is enrolled in the space of a smaller student.

        Args:
            projection: ``[D, student's dimension]`` of the classifier by which the student was trained.

        Raises:
            UserError: it is of another dimension, or takes an embedding to nothing.
        """
        if projection.ndim != 2 or len(projection) != self.maker.dim:
            raise UserError(
                f"expected a projection [{self.maker.dim}, D] for the gallery '{self.path}', found "
                f"{list(projection.shape)}; give the classifier that the student was trained with"
            )
        entries = self.entries()
        moved = entries.embeddings @ projection
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise UserError("expected a projection that keeps embeddings, found one that takes some to nothing")
        return replace(entries, embeddings=(moved / lengths).astype(np.float32), index=[])

    def _row(self, photo: Enrolled) -> tuple[str, str, str, bytes]:
        embedding = np.asarray(photo.embedding)
        if embedding.shape != (self.maker.dim,) or not abs(float(np.linalg.norm(embedding)) - 1) < 1e-3:
            raise UserError(
                f"expected embeddings [{self.maker.dim}] of unit length, found {list(embedding.shape)} for "
                f"'{photo.photo}'"
            )
        for name in (photo.identity, photo.photo):
            if not 0 < len(name) <= LONGEST_NAME:
                raise UserError(f"expected names of 1 to {LONGEST_NAME} letters, found {len(name)}")
        return as_text(photo.identity), as_text(photo.photo), photo.digest, embedding.astype(FLOAT).tobytes()

    def _entries(self, rows: Iterable[tuple[Any, Any, Any]]) -> Entries:
        identities: list[str] = []
        starts: list[int] = []
        photos: list[str] = []
        blobs = bytearray()
        for identity, photo, blob in rows:
            if not isinstance(blob, bytes) or len(blob) != FLOAT.itemsize * self.maker.dim:
                raise UserError(f"expected {self.maker.dim} floats for each photo in '{self.path}', found others")
            if not identities or identities[-1] != str(identity):
                identities.append(str(identity))
                starts.append(len(photos))
            photos.append(str(photo))
            blobs += blob
        embeddings = np.frombuffer(blobs, FLOAT).reshape(len(photos), self.maker.dim)
        if not (np.abs(np.linalg.norm(embeddings, axis=1) - 1) < 1e-2).all():
            raise UserError(f"expected embeddings of unit length in '{self.path}', found others: the file is damaged")
        return Entries(identities, photos, np.array([*starts, len(photos)], np.int64), embeddings)


def as_text(name: str) -> str:
    """Return a name of a file with the bytes spelt out that are no text: SQLite keeps UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _called(model: Maker | RecognitionModel) -> str:
    return f"'{model.name}' ({model.identity[:12]}, {model.dim} dimensions)"


def _told(model: RecognitionModel) -> dict[str, str]:
    return {
        "name": model.name,
        "identity": model.identity,
        "hashes": json.dumps(sorted(model.hashes)),
        "dim": str(model.dim),
        "scale": json.dumps(model.scale(SINGLE).to_dict()),
    }


def _maker(told: dict[str, str], path: Path) -> Maker:
    with suppress(KeyError, ValueError, TypeError, AttributeError, RecursionError):
        scale = json.loads(told["scale"])
        hashes = frozenset(str(one) for one in json.loads(told["hashes"]))
        dim = int(told["dim"])
        if 0 < dim <= LARGEST_DIM:
            known = scale_of(scale["thresholds"], scale["calibration"])
            return Maker(told["name"], told["identity"], hashes, dim, known)
    raise UserError(f"expected '{path}' to say which model made it, found what cannot be read; the file is damaged")
