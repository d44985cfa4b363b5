"""From a recipe to its method: the margin, the engine and what they need."""

from __future__ import annotations

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
from proxylesskd.methods.proxyless import Frozen, Proxyless
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


def proxyless_of(
    recipe: Recipe, student: nn.Module, classifier: InheritedClassifier, folder: Path, quiet: bool = False
) -> Proxyless:
    """Make ProxylessKD as the recipe says.

    Args:
        recipe: its ``method``.
        student: of the classifier's dimension.
        classifier: the inherited rows, on the CPU.
        folder: the run folder; the table of nearest rows is kept there where the engine needs one.
        quiet: draw no progress bar.

    Raises:
        UserError: the engine or the margin is unknown or cannot run here.
    """
    check_method(recipe)
    plan = recipe.method
    engine: str | Engine = plan.engine
    frozen: Frozen = classifier
    if plan.engine == "neighbours":
        engine = _neighbours(recipe, classifier, folder, quiet)
    elif plan.engine == "sharded":
        engine, frozen = Sharded(len(classifier.identities)), ClassifierShard(classifier, *rank_and_world())
    return Proxyless(
        student,
        frozen,
        margin=margin_of(recipe),
        scale=plan.scale,
        engine=engine,
        smoothing=plan.smoothing,
        gap_every=plan.gap_every,
    )


def _neighbours(recipe: Recipe, classifier: InheritedClassifier, folder: Path, quiet: bool) -> Neighbours:
    """Search the nearest rows once, or open the table of an earlier run; the first process does, the others open it."""
    plan = recipe.method
    # The classifier's own fingerprint is known by now: the rows need not be hashed again, by every process.
    find = partial(
        find_nearest, classifier.stored, plan.neighbours, folder / "nearest", fingerprint=classifier.fingerprint
    )
    first_alone(lambda: find(progress=not quiet) and None)
    return Neighbours(find(), sample=plan.sample, seed=recipe.seed)
