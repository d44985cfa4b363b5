"""A comparison as it was asked for: checked, opened and with a budget, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from proxylesskd.comparison.budget import BUDGETS, FILE, equal_steps, equal_time, try_steps
from proxylesskd.comparison.cell import Task
from proxylesskd.comparison.material import Material
from proxylesskd.comparison.plan import Cell, plan_cells, read_students
from proxylesskd.comparison.protocols import checked, is_taken
from proxylesskd.comparison.state import is_finished
from proxylesskd.comparison.workers import threads_for
from proxylesskd.errors import UserError, nearest
from proxylesskd.recipe import Recipe

GALLERY = "gallery.npz"


@dataclass(frozen=True)
class Asked:
    """A comparison as it was asked for, with everything opened.

    Attributes:
        out: its folder.
        recipe: what all cells share.
        cells: all of them, with their budget.
        material: faces, pairs, classifier, teacher.
        baseline: method.
        pairs: path of the verification set.
        root: folder of its images, or None.
        budget: ``steps`` or ``time``.
        protocols: that every cell takes beside the pairs.
    """

    out: Path
    recipe: Recipe
    cells: Sequence[Cell]
    material: Material
    baseline: str
    pairs: Path
    root: Path | None
    budget: str
    protocols: Sequence[str] = ()

    def gallery_of(self, cell: Cell) -> str:
        """Return the path of the gallery for a cell, or nothing where its student has another dimension."""
        return str(self.out / GALLERY) if self.material.gallery_dim == cell.recipe.model.dim else ""

    def finished(self, cell: Cell) -> bool:
        """Say whether a cell needs nothing more."""
        told = self.gallery_print(cell)
        whole = is_finished(cell, self.material.fingerprints["pairs"], told)
        return whole and is_taken(cell.folder, self.protocols, told)

    def gallery_print(self, cell: Cell) -> str:
        """Return the fingerprint of the gallery's teacher for a cell, or nothing where there is no gallery."""
        return self.material.fingerprints["teacher"] if self.gallery_of(cell) else ""

    def task(self, cell: Cell) -> Task:
        """Return what a cell's process is asked to do."""
        return Task(
            str(cell.folder.resolve()),
            cell.recipe.to_dict(),
            str(self.pairs),
            "" if self.root is None else str(self.root),
            self.gallery_of(cell),
            self.recipe.method.classifier if self.gallery_of(cell) and self.material.projected else "",
            cell.method,
            self.protocols,
            self.recipe.method.teacher if self.gallery_of(cell) else "",
            self.gallery_print(cell),
        )


def open_comparison(
    recipe: Recipe,
    out: Path,
    methods: Sequence[str],
    pairs: Path,
    root: str | Path | None,
    students: Sequence[str],
    seeds: Sequence[int],
    baseline: str | None,
    budget: str,
    jobs: int,
    protocols: Sequence[str] = (),
) -> Asked:
    """Check everything that can be checked before an hour is spent, and open what is shared.

    Args:
        recipe, out, methods, pairs, root, students, seeds, baseline, budget, jobs, protocols: see
            :func:`proxylesskd.comparison.compare.compare`.

    Raises:
        UserError: something that is asked for does not exist or does not fit.
    """
    if budget not in BUDGETS:
        raise UserError(f"expected a budget of {' or '.join(BUDGETS)}, found '{budget}'{nearest(budget, BUDGETS)}")
    if jobs < 1:
        raise UserError(f"expected at least one job, found {jobs}")
    protocols = checked(protocols)
    networks = read_students(students, recipe)
    plan_cells(out, methods, networks, seeds, 1)  # misspelled methods are named before anything is opened
    material = Material.open(recipe, pairs, root)
    cells = plan_cells(out, methods, networks, seeds, material.dim)
    names = list(dict.fromkeys(cell.method for cell in cells))
    base = names[0] if baseline is None else " ".join(baseline.split())
    if base not in names:
        raise UserError(f"expected a baseline among the methods, found '{base}'{nearest(base, names)}")
    cells = _budgeted(cells, len(material.source), base, budget, out, jobs)
    where = None if root is None else Path(root)
    return Asked(out, recipe, cells, material, base, pairs.resolve(), where, budget, protocols)


def _budgeted(cells: Sequence[Cell], images: int, base: str, budget: str, out: Path, jobs: int) -> list[Cell]:
    if budget == "steps":
        return equal_steps(cells, images)
    measure = partial(_try, out / ".trial", threads_for(jobs))
    return equal_time(cells, images, base, out / FILE, measure)


def _try(folder: Path, threads: int, cell: Cell) -> float | None:
    return try_steps(cell, folder, threads)
