"""Training on windows by any method: the loop, the methods, the classifier and the log are those of the faces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.activity.cost import cost_of
from proxylesskd.activity.echo import PatchEcho
from proxylesskd.activity.plan import DataPlan, Plan
from proxylesskd.activity.recogniser import Recogniser, Standardised, load_recogniser, make_network, save_recogniser
from proxylesskd.activity.windows import Windows, open_windows
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.ridge import fit_layer
from proxylesskd.data.keys import sample_keys
from proxylesskd.data.sampler import batch_indices
from proxylesskd.errors import UserError
from proxylesskd.evaluation.by_person import Score, logits_of, score
from proxylesskd.methods.formula import parse_formula
from proxylesskd.methods.learner import Learner, Term
from proxylesskd.methods.tokens import KINDS, TokenDistillation
from proxylesskd.recipe import Recipe, as_toml, laid_over
from proxylesskd.recipe_method import learner_of
from proxylesskd.teaching.taught import Taught, Teach
from proxylesskd.training.log import MetricsLog
from proxylesskd.training.loop import fit
from proxylesskd.training.update import Loaded, Transform

ORDER, AUGMENT = 1, 2  # one number per purpose, added to the seed
MODEL, CLASSIFIER, RECIPE = "model.safetensors", "classifier.safetensors", "recipe.toml"


def learn(plan: Plan, out: Path, *, teacher: Path | None = None, resume: bool = False, quiet: bool = False) -> Score:
    """Train a network as a plan says, into a run folder, and score it on the test subjects.

    ``method.name`` is ``labels``, ``kl`` or ``js``, see :mod:`proxylesskd.methods.tokens`; ``ridge``, which trains
    nothing but the heads of a reservoir; or any sum of :mod:`proxylesskd.methods.catalogue`. A teacher of others is
    one that was trained by ``alone``.

    Args:
        plan: what to do.
        out: folder for ``recipe.toml``, ``metrics.jsonl``, checkpoints, ``model.safetensors``, ``evaluation.json``
            and, where an embedding was learned, ``classifier.safetensors``.
        teacher: run folder of the teacher.
        resume: go on from the newest checkpoint.
        quiet: draw no progress bar.

    Raises:
        UserError: anything in the plan or its files is wrong, or the training was stopped.
    """
    windows = open_windows(plan.data.windows).resampled(plan.data.samples)
    train, test = windows.split(plan.data.test)
    if (out / RECIPE).exists() and not resume:
        raise UserError(f"expected a new folder, found a run in '{out}'; give --resume or another folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(as_toml(plan.to_dict()), encoding="utf-8")
    heard = None if teacher is None else load_recogniser(teacher / MODEL)[0]
    rows = None if teacher is None else InheritedClassifier.load(teacher / CLASSIFIER)
    if rows is not None and tuple(rows.identities) != train.activities:
        raise UserError(
            f"expected a teacher of {', '.join(train.activities)}, found one of {', '.join(rows.identities)}"
        )
    model, told = _trained(plan, train, out, heard, rows, resume, quiet)
    save_recogniser(out / MODEL, model, plan.model, told)
    return evaluate(out, test)


def evaluate(run: Path, test: Windows | None = None) -> Score:
    """Score the model of a run folder on the test subjects of its recipe, unless other windows are given.

    Writes ``evaluation.json``: the score, and what a window costs.
    """
    if test is None:
        plan = laid_over(Plan(), run / RECIPE).data
        test = open_windows(plan.windows).resampled(plan.samples).split(plan.test)[1]
    model, told = load_recogniser(run / MODEL)
    found = score(logits_of(model, test.values), test.labels, test.subjects)
    cost = cost_of(model, told["channels"], told["samples"], (run / MODEL).stat().st_size)
    said = found.to_dict() | {"activities": told["activities"], "cost": cost}
    (run / "evaluation.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    return found


def _trained(
    plan: Plan,
    train: Windows,
    out: Path,
    heard: Recogniser | None,
    rows: InheritedClassifier | None,
    resume: bool,
    quiet: bool,
) -> tuple[Recogniser, dict[str, Any]]:
    classes, (channels, samples) = len(train.activities), train.values.shape[1:]
    kind = parse_formula(plan.method.name)[0].name
    apart = kind in (*KINDS, "ridge")
    width = classes if apart else plan.model.dim if rows is None else rows.dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = make_network(plan.model, channels, samples, width, apart=apart, seed=plan.seed)
        deviation, mean = torch.std_mean(train.values, dim=(0, 2))
        student = Standardised(network, mean, deviation)
        if kind == "ridge":
            _read_out(student, train, plan)
        else:
            rows = _fitted(plan, student, train, out, width, heard, rows, resume, quiet)
    inherited = None if apart or rows is None else rows.stored.float()  # type: ignore[union-attr]
    told = {"channels": channels, "samples": samples, "out": width, "apart": apart, "rate": train.rate}
    return Recogniser(student, classes, inherited, plan.method.scale), told | {"activities": train.activities}


def _read_out(student: Standardised, train: Windows, plan: Plan) -> None:
    """Fit the heads of a reservoir by ridge regression, each on the states that it reads."""
    if not isinstance(student.network, PatchEcho):
        raise UserError(f"expected model.name=echo for ridge, found '{plan.model.name}'")
    options = parse_formula(plan.method.name)[0].options
    network, values = student.network, (train.values - student.mean) / student.deviation
    with torch.no_grad():
        state = torch.cat([network.reservoir(network.tokens(part).transpose(1, 2)) for part in values.split(512)])
        for head, read in zip(network.heads, network.asked(state), strict=True):
            assert isinstance(head, nn.Linear)
            fit_layer(head, read, train.labels, float(options.get("strength", 1.0)))


def _fitted(
    plan: Plan,
    student: Standardised,
    train: Windows,
    out: Path,
    width: int,
    heard: Recogniser | None,
    rows: InheritedClassifier | None,
    resume: bool,
    quiet: bool,
) -> InheritedClassifier | None:
    """Run the loop; return the rows that the student's embedding is compared with, and save them."""
    learner = _learner(plan, student, train, out, width, rows)
    todo, per_epoch = plan.train, max(1, len(train.values) // plan.train.batch)
    steps = todo.steps or max(1, round(todo.epochs * len(train.values) / todo.batch))
    with MetricsLog(out / "metrics.jsonl") as log:
        result = fit(
            learner,
            lambda start, stop: _batches(train, todo.batch, plan.seed + ORDER, start, stop),
            steps=steps,
            steps_per_epoch=per_epoch,
            prepare=lambda values, _indices, _step: values,
            augment=_augmenter(plan.data, student.deviation, plan.seed + AUGMENT),
            teach=None if heard is None else _taught_by(heard),
            optimiser="adamw",
            lr=todo.learning_rate,
            momentum=todo.momentum,
            weight_decay=todo.weight_decay,
            schedule=todo.schedule,
            warmup=round(todo.warmup * steps),
            clip=todo.clip,
            autocast=todo.autocast,
            channels_last=False,
            checkpoints=out / "checkpoints",
            checkpoint_every=todo.checkpoint_every,
            resume=resume,
            settings=plan.to_dict(),
            log=log,
            log_every=todo.log_every,
            quiet=quiet,
        )
    if not result.finished:
        raise UserError(f"expected {steps} steps, stopped by {result.stopped_by} at {result.step}; go on with --resume")
    own = dict(learner.trainable()).get("alone.rows")
    if own is not None:
        told = {"how": "trained together with the network", "run": out.name}
        rows = InheritedClassifier(F.normalize(own.detach().cpu(), dim=1), train.activities, told)
    if rows is not None:
        rows.save(out / CLASSIFIER)
    return rows


def _learner(
    plan: Plan, student: nn.Module, train: Windows, out: Path, width: int, rows: InheritedClassifier | None
) -> Learner:
    first, method = parse_formula(plan.method.name)[0], plan.method
    if first.name in KINDS:
        how: dict[str, Any] = {"classifier": rows, "scale": method.scale, "smoothing": method.smoothing}
        tokens = TokenDistillation(classes=len(train.activities), kind=first.name, **how, **first.options)
        return Learner(student, [Term(first.name, tokens)])
    return learner_of(
        Recipe(plan.seed, method=method),
        student,
        out,
        num_identities=len(train.activities),
        dim=width,
        images=len(train.values),
        classifier=rows,
        teacher_dim=None if rows is None else rows.dim,
    )


def _batches(train: Windows, batch: int, seed: int, start: int, stop: int) -> Iterator[Loaded]:
    for step in range(start, stop):
        chosen = torch.from_numpy(batch_indices(step, length=len(train.values), batch=batch, seed=seed))
        yield step, train.values[chosen], train.labels[chosen], chosen


def _taught_by(teacher: Recogniser) -> Teach:
    def teach(values: Tensor, _indices: Tensor, _step: int) -> Taught:
        said = logits_of(teacher.body, values)  # [B, D]
        return Taught(F.normalize(said, dim=1), said.norm(dim=1))

    return teach


def _augmenter(plan: DataPlan, deviation: Tensor, seed: int) -> Transform:
    """Return the paper's augmentation, a function of (seed, step): resampling, backward time, Gaussian jitter."""

    def change(values: Tensor, _indices: Tensor, step: int) -> Tensor:
        key = int(sample_keys(seed, step, torch.zeros(1, dtype=torch.int64)))
        random, samples = torch.Generator().manual_seed(key & (2**62 - 1)), values.shape[2]
        kept = samples - int(plan.stretch * samples * float(torch.rand((), generator=random)))
        first = int((samples - kept + 1) * float(torch.rand((), generator=random)))
        if kept < samples:
            part = values[:, :, first : first + kept]
            values = F.interpolate(part, size=samples, mode="linear", align_corners=True)
        backwards = torch.rand(len(values), generator=random) < plan.flip
        values = torch.where(backwards[:, None, None], values.flip(2), values)
        return values + plan.jitter * deviation * torch.randn(values.shape, generator=random)

    return change
