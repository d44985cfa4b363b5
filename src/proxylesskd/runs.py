"""A run is a folder: what turns a recipe into one.

What the recipe says about the training itself is handed on by :mod:`proxylesskd.recipe_fit`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from proxylesskd.audit.audit import audit_classifier
from proxylesskd.audit.finding import Audit
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.project import save_projection
from proxylesskd.data.listed import listed
from proxylesskd.data.source import Source, open_source
from proxylesskd.errors import UserError
from proxylesskd.export.ship import write_json
from proxylesskd.methods.catalogue import wants
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.weights import save_model
from proxylesskd.processes import ending_together, first_alone, rank_and_world, restarted, wait_for_all
from proxylesskd.recipe import Recipe
from proxylesskd.recipe_fit import AUGMENT, fit_recipe, new_model
from proxylesskd.recipe_method import learner_of, summands_of, with_method
from proxylesskd.recipe_teacher import Heard, hear, student_shapes
from proxylesskd.teacher import teacher_of
from proxylesskd.training.result import FitResult

DIM = 512  # of a student, where nothing says it


@dataclass(frozen=True)
class Run:
    """What a finished run leaves in memory; everything else lies in its folder.

    Attributes:
        folder: the run folder.
        student: the trained network on the CPU, in evaluation mode.
        preprocessing: how it wants its images.
        classifier: the rows it was trained with, inherited or its own; None where there were none.
        result: how the training ended.
        data: one line on what was read and what of it was corrupt.
        audit: what was found about an inherited classifier before the training, or None.
    """

    folder: Path
    student: nn.Module
    preprocessing: Preprocessing
    classifier: InheritedClassifier | None
    result: FitResult
    data: str
    audit: Audit | None = None


@ending_together()
def train(recipe: Recipe, out: str | Path, *, resume: bool = False, quiet: bool = False) -> Run:
    """Train a backbone together with its own classifier: a teacher, or a student alone as a baseline.

    Under `torchrun` all processes call it; the first one writes, and one that was started anew resumes by itself.

    Args:
        recipe: what to do; its method is taken as ``alone``.
        out: the run folder; it must not hold a run unless ``resume``.
        resume: go on from the newest checkpoint.
        quiet: draw no progress bar.

    Raises:
        UserError: anything in the recipe or its files is wrong.
    """
    recipe = replace(recipe, method=replace(recipe.method, name="alone", classifier="", teacher=""))
    resume = resume or restarted()
    out = first_alone(partial(_open_folder, out, recipe, resume))
    source = _open_faces(recipe)
    dim = recipe.model.dim or DIM
    student = new_model(recipe, dim)
    learner = learner_of(recipe, student, out, num_identities=len(source.identities), dim=dim)
    result, read = fit_recipe(recipe, out, learner, source, torch.arange(len(source.identities)), resume, quiet)
    provenance = {"how": "trained together with the backbone", "margin": recipe.method.margin, "run": out.name}
    own = teacher_of(student, Preprocessing(size=recipe.model.image_size), name=out.name)
    provenance["teacher_fingerprint"] = own.fingerprint  # by which an exported student is known as this one's
    rows = F.normalize(dict(learner.trainable())["alone.rows"].detach().cpu(), dim=1)
    classifier = InheritedClassifier(rows, source.identities, provenance)
    if result.finished and rank_and_world()[0] == 0:
        classifier.save(out / "classifier.safetensors")
    return _finish(recipe, out, "model.safetensors", student, classifier, result, read)


@ending_together()
def distill(
    recipe: Recipe,
    out: str | Path,
    *,
    classifier: InheritedClassifier | None = None,
    source: Source | None = None,
    audit: bool = True,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a student by the method that the recipe names: Homing, ProxylessKD (arXiv 2011.00265), a rival, or a sum.

    Under `torchrun` all processes call it; the first one writes, and one that was started anew resumes by itself.

    Args:
        recipe: what to do; ``method.name`` says by which method, see :mod:`proxylesskd.methods.catalogue`,
            ``method.classifier`` names the file of the inherited rows unless ``classifier`` is given.
        out: the run folder; it must not hold a run unless ``resume``.
        classifier: the inherited rows. Where no method goes through them they say the student's dimension, and how the
            teacher's embeddings are projected to it.
        source: the training faces instead of ``data.train``.
        audit: stop before training where the classifier cannot belong to the faces, and, with ``method.teacher``, to
            that teacher; see :func:`proxylesskd.audit.audit.audit_classifier`.
        resume: go on from the newest checkpoint.
        quiet: draw no progress bar.

    Raises:
        UserError: anything in the recipe or its files is wrong, the student's dimension is not the classifier's,
            an identity of the data has no row, a method lacks what it needs, or the audit failed.
    """
    recipe = with_method(recipe)
    wanted = wants(summands_of(recipe))
    if "projector" in wanted:
        recipe = replace(recipe, model=replace(recipe.model, projector=True))
    if classifier is None and ("classifier" in wanted or recipe.method.classifier):
        file = _required(recipe.method.classifier, "method.classifier", "the inherited classifier")
        classifier = InheritedClassifier.load(file)
    if "teacher" in wanted:
        _required(recipe.method.teacher, "method.teacher", f"the teacher that {recipe.method.name} hears")
    source = _open_faces(recipe) if source is None else source
    quiet = quiet or rank_and_world()[0] > 0
    through = classifier if "classifier" in wanted else None
    look = partial(_audited, through, source, recipe.method.teacher, quiet)
    findings = first_alone(look) if audit else None
    heard = hear(recipe, source, classifier, wanted, recipe.seed + AUGMENT, quiet)
    dim = _dim_of(recipe, classifier, heard)
    rows = torch.arange(len(source.identities)) if through is None else through.rows_of(source.identities)
    resume = resume or restarted()
    out = first_alone(partial(_open_folder, out, recipe, resume))
    if rank_and_world()[0] == 0 and classifier is not None:
        write_json(out / "classifier.json", classifier.describe() | {"audit": findings and findings.to_dict()})
        save_projection(out, classifier)
    student = new_model(recipe, dim)
    learner = learner_of(
        recipe,
        student,
        out,
        num_identities=len(source.identities) if through is None else len(through.identities),
        dim=dim,
        images=len(source),
        classifier=through,
        teacher_dim=None if heard is None else heard.dim,
        student_shapes=student_shapes(recipe, student, wanted),
        teacher_shapes=None if heard is None else heard.shapes,
        quiet=quiet,
    )
    result, read = fit_recipe(recipe, out, learner, source, rows, resume, quiet, None if heard is None else heard.teach)
    return _finish(recipe, out, "student.safetensors", student, classifier, result, read, findings)


def _dim_of(recipe: Recipe, classifier: InheritedClassifier | None, heard: Heard | None) -> int:
    """Return the student's dimension: the recipe's, else that of the rows, else the teacher's.

    Raises:
        UserError: recipe and rows disagree.
    """
    if classifier is not None and recipe.model.dim not in (0, classifier.dim):
        raise UserError(
            f"expected a student of the classifier's dimension {classifier.dim}, found model.dim={recipe.model.dim}; "
            f"leave model.dim out, or inherit with --dim {recipe.model.dim}"
        )
    own = classifier.dim if classifier is not None else DIM if heard is None else heard.dim
    return recipe.model.dim or own


def _open_faces(recipe: Recipe) -> Source:
    """Open the training faces, only those of ``data.keep`` where that list is given."""
    source = open_source(_required(recipe.data.train, "data.train", "the training faces"))
    return listed(source, recipe.data.keep) if recipe.data.keep else source


def _audited(classifier: InheritedClassifier | None, source: Source, teacher: str, quiet: bool) -> Audit | None:
    """Audit, with a sample embedded by the teacher where one is named; stop if that fails."""
    from proxylesskd.teacher import load_teacher

    if classifier is None:
        return None
    model = load_teacher(teacher) if teacher else None
    findings = audit_classifier(classifier, source, teacher=model, progress=not quiet)
    findings.require()
    return findings


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
    if restarted() or (out / "recipe.toml").exists():  # one that was killed early has no checkpoints yet
        (out / "checkpoints").mkdir(exist_ok=True)
    if not resume or not (out / "recipe.toml").exists():
        _write_recipe(recipe, out / "recipe.toml")
    return out


def _write_recipe(recipe: Recipe, path: Path) -> None:
    """Write it whole or not at all: its presence says that the folder holds a run."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(recipe.to_toml(), encoding="utf-8")
    temporary.replace(path)


def _finish(
    recipe: Recipe,
    out: Path,
    file: str,
    student: nn.Module,
    classifier: InheritedClassifier | None,
    result: FitResult,
    read: str,
    audit: Audit | None = None,
) -> Run:
    preprocessing = Preprocessing(size=recipe.model.image_size)
    if result.finished and rank_and_world()[0] == 0:
        rows = "none" if classifier is None else classifier.fingerprint
        extra = {"method": recipe.method.name, "classifier": rows, "steps": result.steps}
        save_model(out / file, student, preprocessing, extra)
    wait_for_all()  # what is returned lies in the folder, whichever process looks
    return Run(out, student.cpu().eval(), preprocessing, classifier, result, read, audit)
