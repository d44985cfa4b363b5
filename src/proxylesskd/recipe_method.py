"""From a recipe to its method: the margin, the engine and what they need."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.shard import ClassifierShard
from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.engines.choose import NAMES
from proxylesskd.losses.engines.engine import Engine
from proxylesskd.losses.engines.neighbours import Neighbours
from proxylesskd.losses.engines.sharded import Sharded
from proxylesskd.losses.make_margin import make_margin
from proxylesskd.losses.margin import Margin
from proxylesskd.losses.nearest_rows import find_nearest
from proxylesskd.methods.catalogue import Resources, Shapes, expand, make_terms
from proxylesskd.methods.formula import Summand
from proxylesskd.methods.learner import Learner
from proxylesskd.processes import first_alone, rank_and_world
from proxylesskd.recipe import Recipe

ENGINES = (*NAMES, "sharded", "neighbours")


def margin_of(recipe: Recipe) -> Margin:
    """Make the margin that the recipe names.

    Raises:
        UserError: there is none of that name, or a setting is out of range.
    """
    plan = recipe.method
    return make_margin(
        plan.margin,
        plan.m,
        plan.gradient,
        m1=plan.m1,
        m3=plan.m3,
        m_high=plan.m_high,
        penalty=plan.penalty,
        concentration=plan.concentration,
    )


def check_method(recipe: Recipe) -> None:
    """Stop where the recipe names a margin or an engine that there is none of, before anything is written.

    Raises:
        UserError: names it, and the nearest that there is.
    """
    margin_of(recipe)
    engine = recipe.method.engine
    if engine not in ENGINES:
        hint = nearest(engine, ENGINES)
        raise UserError(f"expected method.engine among {', '.join(ENGINES)}, found '{engine}'{hint}")


def with_method(recipe: Recipe) -> Recipe:
    """Return the recipe with a method where it leaves that open: the best one for what there is.

    With a teacher that is ``homing`` (``docs/research.md`` says how it was found); rows alone suffice ``proxyless``.
    """
    if recipe.method.name != "auto":
        return recipe
    return replace(recipe, method=replace(recipe.method, name="homing" if recipe.method.teacher else "proxyless"))


def summands_of(recipe: Recipe) -> tuple[Summand, ...]:
    """Read the sum of methods that the recipe names, and stop where anything about the method is wrong.

    Raises:
        UserError: a method, an option, a margin or an engine that there is none of; the nearest is named.
    """
    check_method(recipe)
    return expand(recipe.method.name)


def learner_of(
    recipe: Recipe,
    student: nn.Module,
    folder: Path,
    *,
    num_identities: int,
    dim: int,
    images: int = 0,
    classifier: InheritedClassifier | None = None,
    teacher_dim: int | None = None,
    student_shapes: Shapes | None = None,
    teacher_shapes: Shapes | None = None,
    quiet: bool = False,
) -> Learner:
    """Make the student's course as the recipe says.

    Args:
        recipe: its ``method``.
        student: its embeddings have ``dim`` dimensions.
        folder: the run folder; the table of nearest rows is kept there where the engine needs one.
        num_identities: size of the label space.
        dim: D.
        images: in the source.
        classifier: the inherited rows, on the CPU, where a method goes through them.
        teacher_dim: of the teacher's embeddings, where a method hears the teacher.
        student_shapes: of the student's maps, where a method looks at them.
        teacher_shapes: of the teacher's.
        quiet: draw no progress bar.

    Raises:
        UserError: the engine or the margin is unknown or cannot run here, or a method lacks what it needs.
    """
    summands, plan = summands_of(recipe), recipe.method
    engine, frozen = _engine(recipe, classifier, folder, quiet)
    resources = Resources(
        num_identities=num_identities,
        dim=dim,
        seed=recipe.seed,
        images=images,
        margin=partial(margin_of, recipe),
        scale=plan.scale,
        engine=engine,
        smoothing=plan.smoothing,
        gap_every=plan.gap_every,
        classifier=frozen,
        teacher_dim=teacher_dim,
        student_shapes=student_shapes,
        teacher_shapes=teacher_shapes,
    )
    return Learner(student, make_terms(summands, resources))


def _engine(
    recipe: Recipe, classifier: InheritedClassifier | None, folder: Path, quiet: bool
) -> tuple[str | Engine, InheritedClassifier | ClassifierShard | None]:
    """Make what the recipe's engine is by name, and the part of the classifier that this process holds for it."""
    if classifier is None or recipe.method.engine not in ("neighbours", "sharded"):
        return recipe.method.engine, classifier
    if recipe.method.engine == "neighbours":
        return _neighbours(recipe, classifier, folder, quiet), classifier
    return Sharded(len(classifier.identities)), ClassifierShard(classifier, *rank_and_world())


def _neighbours(recipe: Recipe, classifier: InheritedClassifier, folder: Path, quiet: bool) -> Neighbours:
    """Search the nearest rows once, or open the table of an earlier run; the first process does, the others open it."""
    plan = recipe.method
    # The classifier's own fingerprint is known by now: the rows need not be hashed again, by every process.
    find = partial(
        find_nearest, classifier.stored, plan.neighbours, folder / "nearest", fingerprint=classifier.fingerprint
    )
    first_alone(lambda: find(progress=not quiet) and None)
    return Neighbours(find(), sample=plan.sample, seed=recipe.seed)
