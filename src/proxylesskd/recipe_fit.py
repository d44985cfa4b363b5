"""From a recipe to the training loop: the only place that hands a recipe's values on as plain arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.data.augment import augment
from proxylesskd.data.balanced import balanced_plan
from proxylesskd.data.keys import sample_keys
from proxylesskd.data.loader import CorruptLog, load_batches
from proxylesskd.data.pairs import Pairs, read_pairs
from proxylesskd.data.source import Source
from proxylesskd.errors import UserError
from proxylesskd.export.ship import write_json
from proxylesskd.methods.catalogue import expand, wants
from proxylesskd.methods.learner import Course
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import create_model, memory_format_of
from proxylesskd.processes import gather, rank_and_world
from proxylesskd.recipe import Recipe
from proxylesskd.teaching.taught import Teach
from proxylesskd.training.log import MetricsLog
from proxylesskd.training.loop import fit
from proxylesskd.training.result import FitResult
from proxylesskd.training.update import Loaded, Transform

# One number per purpose, so that the order of samples and their augmentation do not share random numbers.
ORDER, AUGMENT = 1, 2
HALF = 0.5

Check = Callable[[nn.Module, int], Mapping[str, float]]


def new_model(recipe: Recipe, dim: int) -> nn.Module:
    """Make the recipe's network with first values that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return create_model(
            recipe.model.name,
            dim=dim,
            width=recipe.model.width,
            image_size=recipe.model.image_size,
            projector=recipe.model.projector,
        )


def fit_recipe(
    recipe: Recipe,
    out: Path,
    course: Course,
    source: Source,
    rows: Tensor,
    resume: bool,
    quiet: bool,
    teach: Teach | None = None,
) -> tuple[FitResult, str]:
    """Train a student by its course as the recipe says.

    Args:
        recipe: what to do; its batch is that of all processes together.
        out: the run folder; the first process puts there ``metrics.jsonl``, ``checkpoints/`` and ``data.json``.
        course: on the CPU; moved to the device.
        source: the training faces.
        rows: ``[identities] int64``, which row of the classifier each label of the source means.
        resume: go on from the newest checkpoint.
        quiet: draw no progress bar.
        teach: what the teacher says of a batch, where a method hears it.

    Returns:
        How the training ended, and one line on what was corrupt.

    Raises:
        UserError: anything in the recipe or its files is wrong.
    """
    plan, corrupt, (rank, world) = recipe.train, CorruptLog(), rank_and_world()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    course.to(device)
    per_epoch = max(1, len(source) // (plan.batch * plan.accumulate))
    steps = plan.steps or max(1, round(plan.epochs * len(source) / (plan.batch * plan.accumulate)))
    balanced = _balanced_share(course.needs)
    check = _checker(recipe) if recipe.data.check and rank == 0 else None
    with _open_log(out, rank) as log:
        result = fit(
            course,
            _batches(recipe, source, rows, corrupt, share_of_batch(plan.batch, world), balanced),
            steps=steps,
            steps_per_epoch=per_epoch,
            prepare=_preparer(recipe),
            augment=_augmenter(recipe),
            teach=teach,
            general=share_of_batch(plan.batch, world) // 2 if balanced == HALF else None,
            lr=plan.learning_rate,
            momentum=plan.momentum,
            nesterov=plan.nesterov,
            weight_decay=plan.weight_decay,
            schedule=plan.schedule,
            warmup=round(plan.warmup * steps),
            milestones=[round(fraction * steps) for fraction in plan.milestones],
            clip=plan.clip,
            accumulate=plan.accumulate,
            autocast=plan.autocast,
            compile=plan.compile,
            sync_norm=plan.sync_norm,
            device=device,
            channels_last=memory_format_of(course.student) == torch.channels_last,
            checkpoints=out / "checkpoints",
            checkpoint_every=plan.checkpoint_every,
            resume=resume,
            settings=shaping(recipe),
            log=log,
            log_every=plan.log_every,
            check=check,
            check_every=plan.check_every or per_epoch,
            quiet=quiet,
        )
    read = _all_corrupt(corrupt).summary()
    if rank == 0:
        write_json(out / "data.json", {"source": recipe.data.train, "images": len(source), "corrupt": read})
    return result, read


def share_of_batch(batch: int, world: int) -> int:
    """Return how many images of every batch each of ``world`` processes takes.

    Raises:
        UserError: they cannot be shared out evenly.
    """
    if batch % world:
        near = max(1, round(batch / world)) * world
        raise UserError(
            f"expected train.batch to be a multiple of the {world} processes that share it, found {batch}; "
            f"give train.batch={near}, or start another number of processes"
        )
    return batch // world


def _open_log(out: Path, rank: int) -> AbstractContextManager[MetricsLog | None]:
    return MetricsLog(out / "metrics.jsonl") if rank == 0 else nullcontext()


def _batches(
    recipe: Recipe, source: Source, rows: Tensor, corrupt: CorruptLog, share: int, balanced: float
) -> Callable[[int, int], Iterator[Loaded]]:
    """Return this process's share of the recipe's batches, labelled by rows of the classifier."""
    (rank, world), seed = rank_and_world(), recipe.seed + ORDER
    plan = None
    if balanced:
        plan = balanced_plan(source.labels, batch=share, seed=seed, rank=rank, world=world, share=balanced)

    def batches(start: int, stop: int) -> Iterator[Loaded]:
        loaded = load_batches(
            source,
            batch=share,
            seed=seed,
            start=start,
            stop=stop,
            workers=recipe.data.workers,
            corrupt=corrupt,
            rank=rank,
            world=world,
            plan=plan,
        )
        for step, images, labels, indices in loaded:
            yield step, images, rows[labels], indices

    return batches


def _balanced_share(needs: AbstractSet[str]) -> float:
    """Return how much of each batch holds several images of each of a few identities."""
    if "balanced_half" in needs:
        return HALF
    return 1.0 if "balanced" in needs else 0.0


def _all_corrupt(own: CorruptLog) -> CorruptLog:
    """Return what all processes together found corrupt."""
    seen, entries = 0, dict[int, str]()
    for asked, found in gather((own.seen, own.entries)):
        seen += asked
        entries |= found
    return CorruptLog(seen, entries)


def shaping(recipe: Recipe) -> dict[str, Any]:
    """Return what must be equal when a run is resumed: all but the things that leave its result as it is."""
    settings = recipe.to_dict()
    heard = "teacher" in wants(expand(recipe.method.name))
    for section, key in (
        *(() if heard else (("method", "teacher"), ("method", "cache"))),
        ("data", "workers"),
        ("data", "check"),
        ("data", "check_root"),
        ("method", "gap_every"),
        ("method", "cache_folder"),
    ):
        settings[section].pop(key)
    if recipe.method.engine != "neighbours":  # all others give the same loss
        for key in ("engine", "neighbours", "sample"):
            settings["method"].pop(key)
    for key in ("log_every", "check_every", "checkpoint_every"):
        settings["train"].pop(key)
    return settings


def _augmenter(recipe: Recipe) -> Transform:
    """Return the augmentation of one batch: a function of (seed, step, indices)."""

    def change(images: Tensor, indices: Tensor, step: int) -> Tensor:
        return augment(images, sample_keys(recipe.seed + AUGMENT, step, indices), recipe.augment)

    return change


def _preparer(recipe: Recipe) -> Transform:
    """Return the normalisation of one batch for the student."""
    preprocessing = Preprocessing(size=recipe.model.image_size)

    def prepare(images: Tensor, _indices: Tensor, _step: int) -> Tensor:
        return preprocessing(images)

    return prepare


def _checker(recipe: Recipe) -> Check:
    """Return what is measured while training: single-model accuracy and TAR@FAR=1e-2 on the verification set."""
    pairs: Pairs = read_pairs(recipe.data.check, recipe.data.check_root or None)
    preprocessing = Preprocessing(size=recipe.model.image_size)

    def check(student: nn.Module, _step: int) -> Mapping[str, float]:
        from proxylesskd.evaluation import evaluate
        from proxylesskd.teacher import teacher_of

        result = evaluate(teacher_of(student, preprocessing), pairs, replicates=0).single
        rate = result.tar[1e-2]
        return {"accuracy": result.accuracy.value} | ({} if rate.tar is None else {"tar@far=1e-2": rate.value})

    return check
