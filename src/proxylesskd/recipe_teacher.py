"""From a recipe to the teacher that some methods hear while the student trains."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.data.source import Source
from proxylesskd.methods.catalogue import Shapes
from proxylesskd.methods.method import TEACHER_NEEDS
from proxylesskd.models.maps import map_shapes
from proxylesskd.recipe import Recipe
from proxylesskd.teacher import load_teacher
from proxylesskd.teacher_maps import teacher_map_shapes
from proxylesskd.teaching.teach import Teach, teach_for


@dataclass(frozen=True)
class Heard:
    """A teacher in a training.

    Attributes:
        teach: what it says of a batch.
        dim: of its embeddings as the methods see them.
        shapes: ``(c, h, w)`` of its maps, where a method looks at them.
    """

    teach: Teach
    dim: int
    shapes: Shapes | None


def hear(
    recipe: Recipe,
    source: Source,
    classifier: InheritedClassifier | None,
    wanted: AbstractSet[str],
    augment_seed: int,
    quiet: bool,
) -> Heard | None:
    """Open the recipe's teacher for the methods that hear it.

    Args:
        recipe: its ``method.teacher``, ``method.cache`` and augmentation.
        source: the training faces.
        classifier: where its rows were projected to a smaller student, the teacher's embeddings are, too.
        wanted: what the methods want, see :func:`proxylesskd.methods.catalogue.wants`.
        augment_seed: of the augmentation, so that a cache knows which faces were mirrored.
        quiet: draw no progress bar.

    Returns:
        None where no method hears it.

    Raises:
        UserError: it cannot be opened, or cannot give what the methods want.
    """
    needs = frozenset(wanted) & TEACHER_NEEDS
    if not needs:
        return None
    teacher = load_teacher(recipe.method.teacher)
    projection = None if classifier is None else classifier.projection
    teach = teach_for(
        teacher,
        source,
        recipe.augment,
        needs=needs,
        choice=recipe.method.cache,
        folder=recipe.method.cache_folder,
        seed=augment_seed,
        project=None if projection is None else partial(_projected, projection),
        workers=recipe.data.workers,
        progress=not quiet,
    )
    dim = teacher.dim if projection is None else int(projection.shape[1])
    return Heard(teach, dim, teacher_map_shapes(teacher) if "teacher_maps" in needs else None)


def _projected(projection: Tensor, embeddings: Tensor) -> Tensor:
    """Return ``[B, D]``, the teacher's ``[B, T]`` embeddings in the space of a classifier that was projected."""
    return embeddings @ projection.to(embeddings)


def student_shapes(recipe: Recipe, student: nn.Module, wanted: AbstractSet[str]) -> Shapes | None:
    """Return ``(c, h, w)`` of the student's maps, where a method looks at them."""
    return map_shapes(student, recipe.model.image_size) if "student_maps" in wanted else None
