"""A classifier out of whatever a teacher left behind: its own last layer if there is one, else estimated rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxylesskd.audit.finding import Finding
from proxylesskd.audit.rows import check_norms
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.classifier.from_checkpoint import classifier_of, own_classifier, read_head
from proxylesskd.classifier.head import NoHeadError
from proxylesskd.classifier.inherit import DEFAULT_ROWS, Rows, inherit, inherit_embedded
from proxylesskd.data.source import Source, open_source
from proxylesskd.data.subset import first_images
from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.location import split_location
from proxylesskd.processes import rank_and_world
from proxylesskd.teacher import load_teacher

# Embeddings of fewer bytes than this are kept in memory, so that the audit can look at every image.
KEEP = 2 << 30


@dataclass(frozen=True)
class Obtained:
    """A classifier, and what is known about how it was made.

    Attributes:
        classifier: the rows.
        embedded: where its teacher was run over all images, their embeddings.
        teacher: the teacher, where it was opened for that.
        faces: the images that ``embedded`` is of, in its order.
        norms: where the rows are a foreign last layer, what their norms say before they are normalised.
    """

    classifier: InheritedClassifier
    embedded: EmbeddedSource | None = None
    teacher: Embedder | None = None
    faces: Source | None = None
    norms: Finding | None = None


def inherit_best(
    teacher: str | Path,
    source: Source | str | None = None,
    *,
    rows: Rows | None = None,
    key: str | None = None,
    transposed: bool | None = None,
    names: Sequence[str] | None = None,
    images_per_identity: int = 0,
    embeddings: str | Path | None = None,
    progress: bool = False,
) -> InheritedClassifier:
    """Inherit in the best way the teacher's file allows: its own last layer if it has one, else estimated rows.

    Args:
        teacher: a checkpoint, a folder of shards, a run folder, or a model that :func:`proxylesskd.load_teacher` takes.
        source: labelled faces or their URI; says which identities get a row.
        rows: how to estimate them, see :func:`proxylesskd.classifier.inherit.inherit`; given, the last layer is not
            looked for.
        key: tensor of a foreign checkpoint that is the last layer.
        transposed: whether that tensor stands ``[D, C]``, where its name does not say it.
        names: of the checkpoint's rows; those of the source unless given.
        images_per_identity: where rows are estimated, how many images of each identity are used; 0 for all.
        embeddings: folder to keep the teacher's embeddings in.
        progress: draw a progress bar.

    Raises:
        UserError: there is no last layer and no source to estimate one, or the two do not belong together.
    """
    obtained = obtain(
        teacher,
        open_source(source) if isinstance(source, str) else source,
        rows=rows,
        key=key,
        transposed=transposed,
        names=names,
        images_per_identity=images_per_identity,
        embeddings=embeddings,
        progress=progress,
    )
    return obtained.classifier


def obtain(
    teacher: str | Path,
    source: Source | None,
    *,
    rows: Rows | None = None,
    key: str | None = None,
    transposed: bool | None = None,
    names: Sequence[str] | None = None,
    images_per_identity: int = 0,
    embeddings: str | Path | None = None,
    progress: bool = False,
) -> Obtained:
    """Inherit as :func:`inherit_best` does, and keep what was learnt on the way for the audit."""
    own = None if rows else _own_layer(teacher, source, key, transposed, names)
    return own or _estimate(teacher, source, rows or DEFAULT_ROWS, images_per_identity, embeddings, progress)


def _own_layer(
    teacher: str | Path,
    source: Source | None,
    key: str | None,
    transposed: bool | None,
    names: Sequence[str] | None,
) -> Obtained | None:
    """Return the last layer of the teacher's file, or None where it has none and rows can be estimated."""
    path, _ = split_location(teacher)
    own = own_classifier(path)
    if own is not None:
        return Obtained(InheritedClassifier.load(own))
    if names is None and source is not None:
        names = source.identities
    try:
        head = read_head(path, key=key, count=None if names is None else len(names), transposed=transposed)
    except NoHeadError as error:
        if source is None or key is not None:
            raise UserError(f"{error}; give --data with labelled faces to estimate the rows") from error
        return None
    classifier = classifier_of(head, names)
    return Obtained(classifier, norms=check_norms(head.rows, classifier.identities))


def _estimate(
    teacher: str | Path,
    source: Source | None,
    rows: Rows,
    images_per_identity: int,
    embeddings: str | Path | None,
    progress: bool,
) -> Obtained:
    """Estimate the rows, keeping the embeddings of all images where they fit or a folder is given."""
    if source is None:
        raise UserError("expected labelled faces to estimate the rows from, found none; give --data")
    model = load_teacher(teacher)
    if images_per_identity:
        source = first_images(source, images_per_identity)
    alone = rank_and_world()[1] == 1  # several processes share embeddings through files only
    fits = alone and fits_memory(len(source), model.dim)
    if not fits and embeddings is None:
        if rows != "mean":
            raise UserError(
                f"expected a folder for the embeddings of {len(source)} images, which one process cannot keep in "
                f"memory, found none; give --embeddings FOLDER, or --rows mean, which streams"
            )
        return Obtained(inherit(model, source, rows="mean", progress=progress), teacher=model)
    embedded = embed_source(model, source, folder=embeddings, progress=progress)
    said = {"images_per_identity": images_per_identity or "all"}
    classifier = inherit_embedded(embedded, rows=rows, progress=progress, provenance=said)
    return Obtained(classifier, embedded, model, source)


def fits_memory(images: int, dim: int) -> bool:
    """Say whether embeddings of both views of so many images are kept in memory, in float16."""
    return images * 2 * 2 * dim <= KEEP


def read_names(path: str | Path) -> list[str]:
    """Read the names of a checkpoint's rows, one a line.

    Raises:
        UserError: the file cannot be read as text, or a line is empty.
    """
    try:
        names = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected names of rows, one a line, at '{path}', found {error}") from error
    if not all(names):
        raise UserError(f"expected a name in every line of '{path}', found line {names.index('') + 1} empty")
    return names
