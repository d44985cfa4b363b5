"""What is compared: the cells of methods, students and seeds, each with its recipe and its run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxylesskd.errors import UserError
from proxylesskd.methods.catalogue import expand, wants
from proxylesskd.recipe import Recipe, override_recipe


@dataclass(frozen=True)
class Student:
    """A network that is taught by every method.

    Attributes:
        name: as it was asked for; for tables.
        recipe: the comparison's recipe with this network in it.
    """

    name: str
    recipe: Recipe

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return slug(self.name)


@dataclass(frozen=True)
class Cell:
    """One training: a method, a student and a seed.

    Attributes:
        method: formula.
        student: name.
        seed: of this training.
        folder: its run folder.
        recipe: what it does.
    """

    method: str
    student: str
    seed: int
    folder: Path
    recipe: Recipe

    def __str__(self) -> str:
        return f"{self.student}, {self.method}, seed {self.seed}"


def slug(text: str) -> str:
    """Return a folder name: the text itself where it is plain, else what is plain of it and a few digits of its hash.

    It depends on the text alone, so that a comparison may grow by methods and students.
    """
    text = re.sub(r"\s+", "", text)
    plain = re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-.")
    return plain if plain == text else f"{plain[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def read_students(names: Sequence[str], recipe: Recipe) -> list[Student]:
    """Read ``NAME`` or ``NAME:width=0.5,image_size=56`` into the recipe; without names the recipe's own student.

    Raises:
        UserError: a setting is unknown or of another type, or a student stands twice.
    """
    students = [_student(name, recipe) for name in names] or [Student(recipe.model.name, recipe)]
    _refuse_twice([student.name for student in students], "student")
    return students


def _student(text: str, recipe: Recipe) -> Student:
    name, *tail = re.split(r":(?=[a-z_]+=)", text.strip(), maxsplit=1)
    for part in [f"name={name}", *(tail[0].split(",") if tail else [])]:
        recipe = override_recipe(recipe, f"model.{part.strip()}")
    return Student(text.strip(), recipe)


def plan_cells(
    out: Path, methods: Sequence[str], students: Sequence[Student], seeds: Sequence[int], dim: int
) -> list[Cell]:
    """Return all cells, those of the first seed before those of the second.

    Args:
        out: of the comparison.
        methods: formulas; the first one is the baseline unless told.
        students: networks.
        seeds: of the trainings.
        dim: of the students whose recipe leaves it open: the classifier's.

    Raises:
        UserError: there are no methods or seeds, one stands twice, or a method is unknown.
    """
    names = [" ".join(method.split()) for method in methods]
    _refuse_twice(names, "method")
    _refuse_twice([str(seed) for seed in seeds], "seed")
    return [
        Cell(name, student.name, seed, _folder(out, student, name, seed), _recipe(student.recipe, name, seed, dim))
        for seed in seeds
        for student in students
        for name in names
    ]


def _folder(out: Path, student: Student, method: str, seed: int) -> Path:
    return out / student.folder / slug(method) / f"seed-{seed}"


def _recipe(recipe: Recipe, method: str, seed: int, dim: int) -> Recipe:
    wanted = wants(expand(method))
    # one that asks for neither rows nor teacher shall not hold the rows in its memory
    rows = recipe.method.classifier if wanted & {"classifier", "teacher"} else ""
    return dataclasses.replace(
        recipe,
        seed=seed,
        data=dataclasses.replace(recipe.data, check="", check_root=""),  # nobody looks at a test set while training
        model=dataclasses.replace(recipe.model, dim=recipe.model.dim or dim),
        method=dataclasses.replace(recipe.method, name=method, classifier=rows),
    )


def _refuse_twice(names: Sequence[str], what: str) -> None:
    if not names:
        raise UserError(f"expected at least one {what} to compare, found none; give --{what}s")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"expected every {what} once, found '{name}' {names.count(name)} times; leave one out")
