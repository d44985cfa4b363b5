"""One object for the three questions: one person or two, who is enrolled, and who is this."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proxylesskd.errors import CorruptImageError, UserError, needing_training
from proxylesskd.machine import cores
from proxylesskd.photos.cut import in_order
from proxylesskd.photos.detect import SCORE
from proxylesskd.photos.faces import Detector
from proxylesskd.recognition.answers import Candidate, Enrolment, Identification, Skipped, Verification
from proxylesskd.recognition.faces import FaceReader, Photo, PhotoError, digest_of, name_of
from proxylesskd.recognition.folder import identity_of, in_groups, photos_of
from proxylesskd.recognition.gallery import Enrolled, Gallery, as_text
from proxylesskd.recognition.model import Embeddings, RecognitionModel, check_model, open_model
from proxylesskd.recognition.search import Entries, search
from proxylesskd.recognition.thresholds import CROSS, SINGLE, OpenSet, open_set_threshold, threshold_for

if TYPE_CHECKING:
    import numpy.typing as npt

Progress = Callable[[int, int], None]


class Recognizer:
    """Compares, enrols and identifies photos with one model. Threads may share it.

    >>> recognizer = Recognizer("student.onnx", detector="yunet.onnx")  # doctest: +SKIP
    >>> recognizer.verify("a.jpg", "b.jpg").same  # doctest: +SKIP
    True

    Args:
        model: an exported file, a run folder or what :func:`proxylesskd.load_teacher` takes; opened when it is first
            needed. Or a :class:`~proxylesskd.recognition.model.RecognitionModel`.
        detector: YuNet's ONNX file; by default the one that ``PROXYLESSKD_YUNET`` names. Or a function, see
            :class:`~proxylesskd.recognition.faces.FaceReader`.
        face: which of several faces of a photo is meant: ``"only"`` refuses such a photo, ``"largest"``, ``"central"``.
        score: faces below it are not seen, in (0, 1).
        aligned: photos are aligned faces of 112x112 pixels already.
        calibration: see :func:`~proxylesskd.recognition.model.open_model`.

    Raises:
        UserError: there is no such model or no detector.
    """

    def __init__(
        self,
        model: str | Path | RecognitionModel,
        *,
        detector: str | Path | Detector | None = None,
        face: str = "only",
        score: float = SCORE,
        aligned: bool = False,
        calibration: str | Path | None = None,
    ) -> None:
        if not isinstance(model, RecognitionModel):
            check_model(model)
        self._model, self._calibration = model, calibration
        self._opening = threading.Lock()
        self.faces = FaceReader(detector, face=face, score=score, aligned=aligned)

    @property
    def model(self) -> RecognitionModel:
        """The model, opened when it is first asked for.

        Raises:
            UserError: it cannot be opened.
        """
        with self._opening:
            if not isinstance(self._model, RecognitionModel):
                self._model = open_model(self._model, calibration=self._calibration)
            return self._model

    def embed(self, photos: Sequence[Photo]) -> Embeddings:
        """Return ``[M, D] float32`` unit embeddings of the faces in M photos.

        Raises:
            PhotoError: a photo shows no face to take.
            UserError: the model cannot be opened.
        """
        # wrong photos are told of before a large model is opened
        faces = np.stack([self.faces(photo) for photo in photos])
        return self.model.embed(faces)

    def verify(self, first: Photo, second: Photo, *, far: float = 1e-3, threshold: float | None = None) -> Verification:
        """Say whether two photos show one person.

        Args:
            first: path, bytes, or pixels ``[H, W, 3] uint8`` RGB.
            second: likewise.
            far: false accept rate by which the model's threshold is chosen.
            threshold: the least similarity of one person, in place of the model's.

        Raises:
            PhotoError: a photo shows no face to take.
            UserError: the model knows no threshold for this rate, and none is given.
        """
        check_threshold(threshold)
        one, other = self.embed([first, second]).astype(np.float64)
        scale = self.model.scale(SINGLE)
        least = threshold_for(scale, far, what=f"'{self.model.name}'") if threshold is None else threshold
        similarity = float(np.clip(one @ other, -1, 1))
        likely = None if scale.calibration is None else scale.calibration.probability(similarity)
        rate = far if threshold is None else None
        return Verification(similarity >= least, similarity, least, rate, likely, self.model.name)

    def enroll(
        self, folder: str | Path, gallery: str | Path | Gallery, *, progress: Progress | None = None
    ) -> Enrolment:
        """Enrol a folder of photos, ``folder/identity/photo.jpg``; a photo in no sub-folder is an identity by itself.

        Photos that the gallery has of an identity are passed over, so that an enrolment that was ended is gone on
        with by asking for it again. Two processes may enrol into one gallery at the same time.

        Args:
            folder: of photos; names of sub-folders are names of identities.
            gallery: made where there is none.
            progress: called with (photos done, photos).

        Raises:
            UserError: no photos, none that can be enrolled, or a gallery that another model made.
        """
        listed = photos_of(Path(folder))
        gallery = self._gallery(gallery)
        known, counts, skipped = gallery.known(), [0, 0], []
        for done, group in in_groups(in_order(lambda photo: self._read(*photo, known), listed, min(cores(), 4))):
            skipped += [one for one in group if isinstance(one, Skipped)]
            counts[1] += sum(one is None for one in group)
            counts[0] += self._write(gallery, [one for one in group if isinstance(one, tuple)])
            if progress is not None:
                progress(done, len(listed))
        identities = len(gallery.counts())
        if not identities:
            raise UserError(f"expected photos that can be enrolled in '{folder}', found none: {skipped[0].reason}")
        twice = len(listed) - len(skipped) - sum(counts)  # another process was faster, or two files are one photo
        return Enrolment(str(gallery.path), len(listed), counts[0], counts[1] + twice, skipped, identities)

    def enroll_photo(self, photo: Photo, identity: str, gallery: str | Path | Gallery, *, name: str = "") -> bool:
        """Enrol one photo; return whether it is new to its identity.

        Args:
            photo: path, bytes, or pixels ``[H, W, 3] uint8`` RGB.
            identity: whose it is.
            gallery: made where there is none.
            name: of the photo; by default its path or its hash.

        Raises:
            PhotoError: it shows no face to take.
            UserError: the gallery was made by another model.
        """
        face = self.faces(photo)
        digest = digest_of(photo)
        called = name or (str(photo) if isinstance(photo, (str, Path)) else digest[:16])
        return bool(self._write(self._gallery(gallery), [(identity, called, digest, face)]))

    def identify(
        self,
        photo: Photo,
        gallery: str | Path | Gallery,
        *,
        k: int = 5,
        fpir: float = 0.01,
        threshold: float | None = None,
        projection: str | Path | None = None,
        same_space: bool = False,
        engine: str = "numpy",
    ) -> Identification:
        """Say who of a gallery a photo shows, or nobody.

        Args:
            photo: path, bytes, or pixels ``[H, W, 3] uint8`` RGB.
            gallery: made by this model, or by its teacher.
            k: how many of the most similar identities to tell of.
            fpir: share of strangers who may be named, see
                :func:`~proxylesskd.recognition.thresholds.open_set_threshold`.
            threshold: the least similarity of one person, in place of the model's.
            projection: the classifier or run folder of a student of another dimension than its teacher's.
            same_space: the caller's word that this model is a student of the gallery's, though it does not say so.
            engine: see :func:`~proxylesskd.recognition.search.search`.

        Raises:
            PhotoError: the photo shows no face to take.
            UserError: the gallery is none, or made by a model whose embeddings this one's cannot be compared with, or
                no threshold is known.
        """
        check_threshold(threshold)
        gallery = gallery if isinstance(gallery, Gallery) else Gallery(gallery)
        face = self.faces(photo)
        mode = gallery.mode_of(self.model, same_space=same_space)
        entries = self._entries(gallery, mode, projection)
        limit = self._limit(gallery, mode, len(entries), fpir, threshold)
        matches = search(entries, self.model.embed(face[None])[0], k, engine=engine)
        found = [Candidate(entries.identities[m.identity], m.score, entries.photos[m.photo]) for m in matches]
        named = found[0].identity if found and found[0].similarity >= limit.threshold else None
        return Identification(named, found, limit, mode, len(entries), self.model.name, gallery.maker.name)

    def _gallery(self, gallery: str | Path | Gallery) -> Gallery:
        if isinstance(gallery, Gallery):
            gallery.check_enrolling(self.model)
            return gallery
        return Gallery.create(gallery, self.model)

    def _read(self, root: Path, path: str, known: set[tuple[str, str]]) -> tuple[Any, ...] | Skipped | None:
        """Return what is to be embedded, None where it is enrolled already."""
        photo, identity = root / path, identity_of(path)
        try:
            digest = digest_of(photo)
            return None if (identity, digest) in known else (identity, as_text(path), digest, self.faces(photo))
        except PhotoError as error:
            return Skipped(as_text(path), str(error))
        except CorruptImageError as error:
            return Skipped(as_text(path), f"{name_of(photo)}: {error}")

    def _write(self, gallery: Gallery, read: Sequence[tuple[Any, ...]]) -> int:
        if not read:
            return 0
        embeddings = self.model.embed(np.stack([face for *_, face in read]))
        return gallery.add(
            Enrolled(identity, name, digest, one)
            for (identity, name, digest, _), one in zip(read, embeddings, strict=True)
        )

    def _entries(self, gallery: Gallery, mode: str, projection: str | Path | None) -> Entries:
        if projection is None and self.model.dim == gallery.maker.dim:
            return gallery.entries()
        if mode != CROSS:
            raise UserError("expected a projection for a student of the gallery's model alone; leave --projection out")
        return gallery.projected(_projection(projection or self.model.source, self.model.dim, gallery))

    def _limit(self, gallery: Gallery, mode: str, photos: int, fpir: float, threshold: float | None) -> OpenSet:
        if threshold is not None:
            return OpenSet(threshold)
        what = f"'{self.model.name}' in {mode} mode"
        return open_set_threshold(gallery.scale(self.model, mode), photos, fpir, what=what)


def check_threshold(threshold: float | None) -> None:
    """Stop on a threshold that no similarity can be compared with.

    Raises:
        UserError: it is outside [-1, 1].
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"expected a threshold in [-1, 1], a cosine, found {threshold:g}")


def _projection(where: str | Path | None, dim: int, gallery: Gallery) -> npt.NDArray[np.float32]:
    with needing_training("a student smaller than its teacher"):
        from proxylesskd.classifier.project import load_projection

    path = None if where is None else Path(where)
    found = None if path is None else load_projection(path.parent if path.suffix == ".onnx" else path)
    if found is None or tuple(found.shape) != (gallery.maker.dim, dim):
        shape = "none" if found is None else str(list(found.shape))
        raise UserError(
            f"expected a projection [{gallery.maker.dim}, {dim}] from the gallery's dimension to the student's, found "
            f"{shape}; give the student's run folder or its classifier by --projection"
        )
    projection: npt.NDArray[np.float32] = found.numpy()
    return projection


def verify(
    first: Photo,
    second: Photo,
    model: str | Path | RecognitionModel,
    *,
    far: float = 1e-3,
    threshold: float | None = None,
    **options: Any,
) -> Verification:
    """Say whether two photos show one person; ``options`` are those of :class:`Recognizer`.

    Raises:
        UserError: as :class:`Recognizer` and :meth:`Recognizer.verify`.
    """
    return Recognizer(model, **options).verify(first, second, far=far, threshold=threshold)
