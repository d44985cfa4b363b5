"""The gallery's model, brought into the probe's space."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from proxylesskd.classifier.project import load_projection
from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.location import split_location
from proxylesskd.models.projected import ProjectedEmbedder

Model = Embedder | nn.Module | str | Path


def gallery_in_space_of(
    probe: Embedder, model: Model, gallery: Embedder, projection: Tensor | str | Path | None = None
) -> Embedder:
    """Return the gallery's embedder with the dimension of the probe's, projected where it has to be.

    Args:
        probe: the embedder of the probe.
        model: what it was made of; a run folder, or a file in one, may hold the projection it was trained with.
        gallery: the embedder that enrolled the gallery.
        projection: ``[gallery.dim, probe.dim]``, or the path of a classifier or run folder that holds one; it is then
            applied even between models of one dimension.

    Raises:
        UserError: the dimensions differ and no projection leads from one to the other.
    """
    if projection is not None:
        projected = ProjectedEmbedder(gallery, _given(projection))
        if projected.dim != probe.dim:
            raise UserError(
                f"expected a projection to the dimension {probe.dim} of {probe.name}, found one to {projected.dim}; "
                "give the classifier that this student was trained with"
            )
        return projected
    if gallery.dim == probe.dim:
        return gallery
    kept = _kept_with(model)
    if kept is not None and tuple(kept.shape) == (gallery.dim, probe.dim):
        return ProjectedEmbedder(gallery, kept)
    found = "no projection" if kept is None else f"a projection from {kept.shape[0]} to {kept.shape[1]}"
    raise UserError(
        f"expected a gallery model of the probe's dimension {probe.dim}, found {gallery.dim} by {gallery.name}, and "
        f"{found} beside the probe; evaluate the run folder of a student that was trained with a projected classifier, "
        "or give that classifier as projection"
    )


def _given(projection: Tensor | str | Path) -> Tensor:
    if isinstance(projection, Tensor):
        return projection
    loaded = load_projection(projection)
    if loaded is None:
        raise UserError(f"expected a projected classifier at '{projection}', found no projection in it")
    return loaded


def _kept_with(model: Model) -> Tensor | None:
    """Return the projection of the run that the probe comes from, if it comes from a path."""
    if not isinstance(model, (str, Path)):
        return None
    path, _ = split_location(model)
    return load_projection(path if path.is_dir() else path.parent)
