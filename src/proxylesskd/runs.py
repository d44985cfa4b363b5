"""A run is a folder: what turns a recipe into one.

This is the only place that reads a recipe's sections and hands their values on as plain arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.data.augment import augment
from proxylesskd.data.keys import sample_keys
from proxylesskd.data.loader import CorruptLog, load_batches
from proxylesskd.data.pairs import Pairs, read_pairs
from proxylesskd.data.source import Source, open_source
from proxylesskd.errors import UserError, nearest
from proxylesskd.export.ship import write_json
from proxylesskd.losses.margin import make_margin
from proxylesskd.methods.alone import Alone
from proxylesskd.methods.method import Method
from proxylesskd.methods.proxyless import Proxyless
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import create_model, memory_format_of
from proxylesskd.models.weights import save_model
from proxylesskd.recipe import Recipe
from proxylesskd.training.log import MetricsLog
from proxylesskd.training.loop import fit
from proxylesskd.training.result import FitResult

# One number per purpose, so that the order of samples and their augmentation do not share random numbers.
ORDER, AUGMENT = 1, 2

Check = Callable[[nn.Module, int], Mapping[str, float]]


@dataclass(frozen=True)
class Run:
    """What a finished run leaves in memory; everything else lies in its folder.

    Attributes:
        folder: the run folder.
        student: the trained network on the CPU, in evaluation mode.
        preprocessing: how it wants its images.
        classifier: the rows it was trained with, inherited or its own.
        result: how the training ended.
        data: one line on what was read and what of it was corrupt.
    """

    folder: Path
    student: nn.Module
    preprocessing: Preprocessing
    classifier: InheritedClassifier
    result: FitResult
    data: str


def train(recipe: Recipe, out: str | Path, *, resume: bool = False, quiet: bool = False) -> Run:
    """Train a backbone together with its own classifier: a teacher, or a student alone as a baseline.

    Args:
        recipe: what to do; its method is taken as ``alone``.
        out: the run folder; it must not hold a run unless ``resume``.
        resume: go on from the newest checkpoint.
        quiet: draw no progress bar.

    Raises:
        UserError: anything in the recipe or its files is wrong.
    """
    out = _open_folder(out, recipe, resume)
    source = open_source(_required(recipe.data.train, "data.train", "the training faces"))
    dim = recipe.model.dim or 512
    student = _new_model(recipe, dim)
    margin = make_margin(recipe.method.margin, recipe.method.m, recipe.method.gradient)
    method = Alone(
        student,
        num_identities=len(source.identities),
        dim=dim,
        margin=margin,
        scale=recipe.method.scale,
        seed=recipe.seed,
    )
    result, read = _fit(recipe, out, method, source, torch.arange(len(source.identities)), resume, quiet)
    provenance = {"how": "trained together with the backbone", "margin": recipe.method.margin, "run": out.name}
    rows = F.normalize(method.rows.detach().cpu(), dim=1)
    classifier = InheritedClassifier(rows, source.identities, provenance)
    if result.finished:
        classifier.save(out / "classifier.safetensors")
    return _finish(recipe, out, "model.safetensors", student, classifier, result, read)


def distill(
    recipe: Recipe,
    out: str | Path,
    *,
    classifier: InheritedClassifier | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a student through the inherited classifier (ProxylessKD, arXiv 2011.00265).

    Args:
        recipe: what to do; ``method.classifier`` names the file unless ``classifier`` is given.
        out: the run folder; it must not hold a run unless ``resume``.
        classifier: the inherited rows.
        resume: go on from the newest checkpoint.
        quiet: draw no progress bar.

    Raises:
        UserError: anything in the recipe or its files is wrong, the student's dimension is not the classifier's,
            or an identity of the data has no row.
    """
    if recipe.method.name != "proxyless":
        hint = nearest(recipe.method.name, ["proxyless"])
        raise UserError(f"expected method.name = proxyless, found '{recipe.method.name}'{hint}; 'train' trains alone")
    if classifier is None:
        file = _required(recipe.method.classifier, "method.classifier", "the inherited classifier")
        classifier = InheritedClassifier.load(file)
    if recipe.model.dim not in (0, classifier.dim):
        raise UserError(
            f"expected a student of the classifier's dimension {classifier.dim}, found model.dim={recipe.model.dim}; "
            "leave model.dim out"
        )
    source = open_source(_required(recipe.data.train, "data.train", "the training faces"))
    rows = classifier.rows_of(source.identities)
    out = _open_folder(out, recipe, resume)
    write_json(out / "classifier.json", classifier.describe())
    student = _new_model(recipe, classifier.dim)
    margin = make_margin(recipe.method.margin, recipe.method.m, recipe.method.gradient)
    method = Proxyless(student, classifier, margin=margin, scale=recipe.method.scale, engine=recipe.method.engine)
    result, read = _fit(recipe, out, method, source, rows, resume, quiet)
    return _finish(recipe, out, "student.safetensors", student, classifier, result, read)


def _required(value: str, key: str, what: str) -> str:
    if not value:
        raise UserError(f"expected {what}, found none; give {key}=…")
    return value


def _open_folder(out: str | Path, recipe: Recipe, resume: bool) -> Path:
    """Make the run folder; refuse to write over another run."""
    out = Path(out)
    if out.is_file():
        raise UserError(f"expected a folder for the run, found the file '{out}'")
    if (out / "recipe.toml").exists() and not resume:
        raise UserError(f"expected a new folder, found a run in '{out}'; give --resume or another folder")
    out.mkdir(parents=True, exist_ok=True)
    if not resume or not (out / "recipe.toml").exists():
        (out / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    return out


def _new_model(recipe: Recipe, dim: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return create_model(recipe.model.name, dim=dim, width=recipe.model.width, image_size=recipe.model.image_size)


def _fit(
    recipe: Recipe, out: Path, method: Method, source: Source, rows: Tensor, resume: bool, quiet: bool
) -> tuple[FitResult, str]:
    """Hand the recipe's values to the loop; ``rows [identities]`` maps the source's labels to classifier rows."""
    plan, corrupt = recipe.train, CorruptLog()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _to_device(method, device)
    per_epoch = max(1, len(source) // (plan.batch * plan.accumulate))
    steps = plan.steps or max(1, round(plan.epochs * len(source) / (plan.batch * plan.accumulate)))

    def batches(start: int, stop: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        loaded = load_batches(
            source,
            batch=plan.batch,
            seed=recipe.seed + ORDER,
            start=start,
            stop=stop,
            workers=recipe.data.workers,
            corrupt=corrupt,
        )
        for step, images, labels, indices in loaded:
            yield step, images, rows[labels], indices

    check = _checker(recipe) if recipe.data.check else None
    with MetricsLog(out / "metrics.jsonl") as log:
        result = fit(
            method,
            batches,
            steps=steps,
            steps_per_epoch=per_epoch,
            prepare=_preparer(recipe),
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
            device=device,
            channels_last=memory_format_of(method.student) == torch.channels_last,
            checkpoints=out / "checkpoints",
            checkpoint_every=plan.checkpoint_every,
            resume=resume,
            settings=_shaping(recipe),
            log=log,
            log_every=plan.log_every,
            check=check,
            check_every=plan.check_every or per_epoch,
            quiet=quiet,
        )
    write_json(out / "data.json", {"source": recipe.data.train, "images": len(source), "corrupt": corrupt.summary()})
    return result, corrupt.summary()


def _to_device(method: Method, device: torch.device) -> None:
    """Move what the loop does not: a frozen classifier or trained rows follow the student."""
    for part in vars(method).values():
        if isinstance(part, nn.Module):
            part.to(device)
        elif isinstance(part, nn.Parameter):
            part.data = part.data.to(device)


def _shaping(recipe: Recipe) -> dict[str, Any]:
    """Return what must be equal when a run is resumed: all but the things that leave its result as it is."""
    settings = recipe.to_dict()
    for section, key in (("data", "workers"), ("data", "check"), ("data", "check_root"), ("method", "engine")):
        settings[section].pop(key)
    for key in ("log_every", "check_every", "checkpoint_every"):
        settings["train"].pop(key)
    return settings


def _preparer(recipe: Recipe) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Return the augmentation and normalisation of one batch: a function of (seed, step, indices)."""
    preprocessing = Preprocessing(size=recipe.model.image_size)

    def prepare(images: Tensor, indices: Tensor, step: int) -> Tensor:
        return preprocessing(augment(images, sample_keys(recipe.seed + AUGMENT, step, indices), recipe.augment))

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


def _finish(
    recipe: Recipe,
    out: Path,
    file: str,
    student: nn.Module,
    classifier: InheritedClassifier,
    result: FitResult,
    read: str,
) -> Run:
    preprocessing = Preprocessing(size=recipe.model.image_size)
    if result.finished:
        extra = {"method": recipe.method.name, "classifier": classifier.fingerprint, "steps": result.steps}
        save_model(out / file, student, preprocessing, extra)
    return Run(out, student.cpu().eval(), preprocessing, classifier, result, read)
