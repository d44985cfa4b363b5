"""Training on windows by any method: the loop, the methods, the classifier and the log are those of the faces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.activity.cost import cost_of
from proxylesskd.activity.echo import PatchEcho
from proxylesskd.activity.plan import Plan
from proxylesskd.activity.recogniser import Recogniser, load_recogniser, make_network, save_recogniser
from proxylesskd.activity.windows import Windows, open_windows
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.ridge import fit_layer
from proxylesskd.data.sampler import batch_indices
from proxylesskd.data.series import augment_series, quiet_levels
from proxylesskd.errors import UserError
from proxylesskd.evaluation.by_person import Score, logits_of, score
from proxylesskd.methods.formula import Summand, parse_formula
from proxylesskd.methods.learner import Learner, Term
from proxylesskd.methods.tokens import KINDS, TokenDistillation
from proxylesskd.models.standardised import Standardised
from proxylesskd.recipe import Recipe, as_toml, laid_over
from proxylesskd.recipe_method import learner_of
from proxylesskd.teaching.taught import Taught, Teach
from proxylesskd.training.log import MetricsLog
from proxylesskd.training.loop import fit
from proxylesskd.training.update import Loaded

_AS_PLANNED = ("momentum", "weight_decay", "schedule", "clip", "checkpoint_every", "log_every")
MODEL, CLASSIFIER, RECIPE = "model.safetensors", "classifier.safetensors", "recipe.toml"


@dataclass(frozen=True)
class _Job:
    """A plan, its first method, the windows, the run folder, and the teacher's network and rows where there is one."""

    plan: Plan
    first: Summand
    train: Windows
    out: Path
    heard: Recogniser | None
    rows: InheritedClassifier | None


def learn(plan: Plan, out: Path, *, teacher: Path | None = None, resume: bool = False, quiet: bool = False) -> Score:
    """Train a network as a plan says, into a run folder, and score it on the test subjects.

    ``method.name`` is ``labels``, ``kl`` or ``js``, see :mod:`proxylesskd.methods.tokens`; ``ridge``, which trains
    nothing but the heads of a reservoir; or any sum of :mod:`proxylesskd.methods.catalogue`. ``teacher`` is the run
    folder of one that was trained by ``alone``. The folder gets ``recipe.toml``, ``metrics.jsonl``, checkpoints,
    ``model.safetensors``, ``evaluation.json`` and, where an embedding was learned, ``classifier.safetensors``.
    """
    train, test = open_windows(plan.data.windows).resampled(plan.data.samples).split(plan.data.test)
    heard = None if teacher is None else load_recogniser(teacher / MODEL)[0]
    rows = None if teacher is None else InheritedClassifier.load(teacher / CLASSIFIER)
    if rows is not None and tuple(rows.identities) != train.activities:
        raise UserError(
            f"expected a teacher of {', '.join(train.activities)}, found one of {', '.join(rows.identities)}"
        )
    if (out / RECIPE).exists() and not resume:
        raise UserError(f"expected a new folder, found a run in '{out}'; give --resume or another folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(as_toml(asdict(plan)), encoding="utf-8")
    model, told = _trained(_Job(plan, parse_formula(plan.method.name)[0], train, out, heard, rows), resume, quiet)
    save_recogniser(out / MODEL, model, plan.model, told)
    return evaluate(out, test)


def evaluate(run: Path, test: Windows | None = None) -> Score:
    """Score a run on the test subjects of its recipe, unless windows are given, and write ``evaluation.json``."""
    if test is None:
        plan = laid_over(Plan(), run / RECIPE).data
        test = open_windows(plan.windows).resampled(plan.samples).split(plan.test)[1]
    model, told = load_recogniser(run / MODEL)
    found = score(logits_of(model, test.values), test.labels, test.subjects)
    cost = cost_of(model, told["channels"], told["samples"], (run / MODEL).stat().st_size)
    said = found.to_dict() | {"classes": told["activities"], "cost": cost}
    (run / "evaluation.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    return found


def _trained(job: _Job, resume: bool, quiet: bool) -> tuple[Recogniser, dict[str, Any]]:
    """Return the trained recogniser, and what its file tells of it."""
    plan, classes, (channels, samples) = job.plan, len(job.train.activities), job.train.values.shape[1:]
    apart, rows = job.first.name in (*KINDS, "ridge"), None
    width = classes if apart else plan.model.dim if job.rows is None else job.rows.dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = make_network(plan.model, channels, samples, width, apart=apart, seed=plan.seed)
        deviation, mean = torch.std_mean(job.train.values, dim=(0, 2))
        levels = quiet_levels(job.train.values) if plan.model.compand else None
        student = Standardised(network, mean, deviation, levels)
        if job.first.name == "ridge":
            _read_out(student, job)
        else:
            learner = _learner(job, student, width)
            _fit(job, learner, resume, quiet)
            rows = None if apart else _kept_rows(job, learner)
    told = {"channels": channels, "samples": samples, "out": width, "apart": apart, "rate": job.train.rate}
    return Recogniser(student, classes, rows, plan.method.scale), told | {"activities": job.train.activities}


def _read_out(student: Standardised, job: _Job) -> None:
    """Fit the heads of a reservoir by ridge regression, each on the states that it reads."""
    network, strength = student.network, float(job.first.options.get("strength", 1.0))
    if not isinstance(network, PatchEcho):
        raise UserError(f"expected model.name=echo for ridge, found '{job.plan.model.name}'")
    with torch.no_grad():
        reads = network.asked(network.state(student.standard(job.train.values)))
    for head, read in zip(network.heads, reads, strict=True):
        fit_layer(head, read, job.train.labels, strength)  # type: ignore[arg-type]


def _learner(job: _Job, student: nn.Module, width: int) -> Learner:
    method, classes = job.plan.method, len(job.train.activities)
    if job.first.name in KINDS:
        how: dict[str, Any] = {"classifier": job.rows, "scale": method.scale, "smoothing": method.smoothing}
        tokens = TokenDistillation(classes=classes, kind=job.first.name, **how | dict(job.first.options))
        return Learner(student, [Term(job.first.name, tokens)])
    sizes: dict[str, Any] = {"num_identities": classes, "dim": width, "images": len(job.train.values)}
    teacher = None if job.rows is None else job.rows.dim
    recipe = Recipe(job.plan.seed, method=method)
    return learner_of(recipe, student, job.out, **sizes, classifier=job.rows, teacher_dim=teacher)


def _fit(job: _Job, learner: Learner, resume: bool, quiet: bool) -> None:
    plan, train, student = job.plan.train, job.train, learner.student
    assert isinstance(student, Standardised)
    data, seed = job.plan.data, job.plan.seed
    noise: dict[str, Any] = {name: getattr(data, name) for name in ("jitter", "flip", "stretch")}
    steps = plan.steps or max(1, round(plan.epochs * len(train.values) / plan.batch))
    with MetricsLog(job.out / "metrics.jsonl") as log:
        result = fit(
            learner,
            partial(_batches, train, plan.batch, seed + 1),
            steps=steps,
            steps_per_epoch=max(1, len(train.values) // plan.batch),
            prepare=lambda values, _indices, _step: values,
            augment=lambda values, _indices, step: augment_series(
                values, seed + 2, step, deviation=student.deviation, **noise
            ),
            teach=None if job.heard is None else _teach(job),
            optimiser="adamw",
            lr=plan.learning_rate,
            warmup=round(plan.warmup * steps),
            channels_last=False,
            checkpoints=job.out / "checkpoints",
            resume=resume,
            settings=asdict(job.plan),
            log=log,
            quiet=quiet,
            **{name: getattr(plan, name) for name in _AS_PLANNED},
        )
    if not result.finished:
        raise UserError(f"expected {steps} steps, stopped by {result.stopped_by} at {result.step}; go on with --resume")


def _batches(train: Windows, batch: int, seed: int, start: int, stop: int) -> Iterator[Loaded]:
    for step in range(start, stop):
        chosen = torch.from_numpy(batch_indices(step, length=len(train.values), batch=batch, seed=seed))
        yield step, train.values[chosen], train.labels[chosen], chosen


def _teach(job: _Job) -> Teach:
    """Ask the teacher about each batch, or, where ``method.cache`` is ``cached``, once about windows as they are."""
    body, kept = job.heard.body, job.plan.method.cache == "cached"  # type: ignore[union-attr]
    once = logits_of(body, job.train.values) if kept else torch.empty(0)  # [N, D]

    def teach(values: Tensor, indices: Tensor, _step: int) -> Taught:
        said = once[indices] if kept else logits_of(body, values)  # [B, D]
        return Taught(F.normalize(said, dim=1), said.norm(dim=1))

    return teach


def _kept_rows(job: _Job, learner: Learner) -> Tensor | None:
    """Return and save the rows that an embedding is compared with: those it was trained with, or the teacher's."""
    rows, own = job.rows, dict(learner.trainable()).get("alone.rows")
    if own is not None:
        rows = InheritedClassifier(F.normalize(own.detach(), dim=1), job.train.activities, {"run": job.out.name})
    if rows is None:
        raise UserError(f"expected a teacher for {job.plan.method.name}, found none; give --teacher")
    rows.save(job.out / CLASSIFIER)
    return torch.as_tensor(rows.stored).float()
