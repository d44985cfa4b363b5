"""Methods x students x seeds at equal budget: train and evaluate every cell, then set them side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from proxylesskd.atomic import write_atomically
from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.comparison.asked import GALLERY, Asked, open_comparison
from proxylesskd.comparison.cell import Task
from proxylesskd.comparison.estimates import allowed, headline_of, metrics_for
from proxylesskd.comparison.gallery import enrol, enrolled
from proxylesskd.comparison.gather import Measured, student_rows, teacher_row
from proxylesskd.comparison.page import write_page
from proxylesskd.comparison.plan import Cell
from proxylesskd.comparison.protocols import outcomes_of, sheets, take_all
from proxylesskd.comparison.result import TEACHER, Comparison, Missing, Row, Sheet
from proxylesskd.comparison.state import claim, failure_of
from proxylesskd.comparison.tables import to_csv, to_markdown
from proxylesskd.comparison.workers import Ended, run_tasks
from proxylesskd.errors import UserError
from proxylesskd.evaluation import evaluate
from proxylesskd.evaluation.resample import Resampling
from proxylesskd.evaluation.tables import FEW
from proxylesskd.export.ship import write_json
from proxylesskd.methods.catalogue import wants
from proxylesskd.methods.method import TEACHER_NEEDS
from proxylesskd.recipe import Recipe
from proxylesskd.recipe_method import summands_of
from proxylesskd.report.curves import read_rows
from proxylesskd.teaching.teach import how_to_teach, shared_folder

Say = Callable[[str], None]


def compare(
    recipe: Recipe,
    out: str | Path,
    *,
    methods: Sequence[str],
    pairs: str | Path,
    root: str | Path | None = None,
    students: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    baseline: str | None = None,
    budget: str = "steps",
    jobs: int = 1,
    train: bool = True,
    audit: bool = True,
    headline: str | None = None,
    replicates: int = 1000,
    protocols: Sequence[str] = (),
    say: Say | None = None,
) -> Comparison:
    """Compare methods at equal budget.

    Every cell (method, student, seed) is a run folder ``out/<student>/<method>/seed-<n>``, trained in a process of its
    own and evaluated once. Cells that are finished are left alone and those that were interrupted go on. One that fails
    is reported; the others go on. ``out`` then holds ``comparison.json``, ``table.md``, ``table.csv`` and
    ``report.html``.

    Args:
        recipe: what all cells share; ``method.classifier`` and ``method.teacher`` are for the methods that need them,
            and the teacher makes the gallery of the cross-model mode.
        out: folder of the comparison.
        methods: formulas, see :mod:`proxylesskd.methods.formula`.
        pairs: path of the verification set; of identities that no decision was made on.
        root: folder of its images, where they do not lie beside the list.
        students: such as ``"iresnet18:width=0.5,image_size=56"``; the recipe's own unless given.
        seeds: of the trainings; order of the images and augmentation are equal for all methods of one seed.
        baseline: the method that others are measured by; the first unless given.
        budget: ``"steps"``: the recipe's for all; ``"time"``: the seconds that the baseline takes for them.
        jobs: cells at a time; the cores are shared out among them.
        train: whether to train what is not finished; otherwise the tables are made of what there is.
        audit: stop before training where classifier, faces and teacher cannot belong together.
        headline: metric by which the best is named, see :func:`proxylesskd.comparison.estimates.headline_of`.
        replicates: of the bootstrap.
        protocols: that every cell and the teacher take beside the pairs, such as ``"ijbc:FOLDER"``; see
            :func:`proxylesskd.take_protocol`.
        say: gets a line for every cell; nothing is printed unless given.

    Returns:
        What was found; :attr:`Comparison.missing` names cells without numbers, failed or interrupted.

    Raises:
        UserError: something that is asked for does not exist or does not fit, or a cell was begun with other settings.
    """
    say = say or (lambda _: None)
    place, of = Path(out), Path(pairs)
    asked = open_comparison(recipe, place, methods, of, root, students, seeds, baseline, budget, jobs, protocols)
    by = headline_of(asked.material.pairs, headline)
    for cell in asked.cells:
        claim(cell, asked.material.fingerprints)
    todo = [cell for cell in asked.cells if not asked.finished(cell)]
    if train and todo:
        _prepare(asked, audit, say)
        _run(asked, todo, jobs, say)
    found = _gather(asked, by, replicates)
    _write(found)
    return found


def _prepare(asked: Asked, audit: bool, say: Say) -> None:
    """Audit the classifier and embed the teacher's gallery, once for all cells."""
    material, path = asked.material, asked.out / GALLERY
    if audit and material.classifier is not None and not path.exists():
        say("auditing the classifier")
        material.audit()
    if material.teacher is not None and any(_hears_cache(cell.recipe) for cell in asked.cells):
        say(f"embedding {len(material.source)} training faces with {material.teacher.name}, unless they are cached")
        folder = asked.recipe.method.cache_folder
        embed_source(
            material.teacher, material.source, folder=folder or None, shared=None if folder else shared_folder()
        )
    if material.teacher is not None:
        say(f"embedding the gallery of {len(material.pairs.images)} images with {material.teacher.name}")
        enrol(path, material.teacher, material.pairs, material.fingerprints["pairs"])
        own = evaluate(enrolled(path, material.pairs), material.pairs, replicates=0, name=TEACHER)
        own.save(asked.out / TEACHER, pictures=False)
        if asked.protocols:
            say(f"taking {', '.join(asked.protocols)} with {material.teacher.name}")
            take_all(asked.out / TEACHER, material.teacher, asked.protocols)


def _hears_cache(recipe: Recipe) -> bool:
    """Say whether a cell looks up what the teacher said; what it would refuse, it refuses itself."""
    needs = wants(summands_of(recipe)) & TEACHER_NEEDS
    try:
        return bool(needs) and how_to_teach(recipe.method.cache, recipe.augment, needs) == "cached"
    except UserError:
        return False


def _run(asked: Asked, todo: Sequence[Cell], jobs: int, say: Say) -> None:
    """Perform the cells that are not finished."""
    names = {str(cell.folder.resolve()): str(cell) for cell in todo}
    done, begun = len(asked.cells) - len(todo), time.monotonic()
    if done:
        say(f"{done} of {len(asked.cells)} cells are finished")
    count = done

    def ended(one: Ended) -> None:
        nonlocal count
        count += 1
        how = "done" if one.finished else "stopped, goes on with the same command" if one.reason is None else "failed"
        reason = "" if one.reason is None else f": {one.reason}"
        left = (time.monotonic() - begun) / (count - done) * (len(asked.cells) - count)
        say(
            f"[{count}/{len(asked.cells)}] {names[one.task.folder]}: {how} in {one.seconds:.0f} s{reason}"
            + (f"; about {left / 60:.0f} min left" if left > 60 else "")
        )

    def beat(tasks: Sequence[Task]) -> None:
        for task in tasks:
            say(f"  {names[task.folder]}: {_progress(Path(task.folder))}")

    run_tasks([asked.task(cell) for cell in todo], jobs=jobs, ended=ended, beat=beat)


def _progress(folder: Path) -> str:
    """Say how far a training is, from the last row of its log."""
    rows = [row for row in read_rows(folder) if row.get("loss") is not None]
    return f"step {rows[-1]['step']}, loss {rows[-1]['loss']:.3f}" if rows else "begun"


def _gather(asked: Asked, headline: str, replicates: int) -> Comparison:
    """Set what is finished side by side."""
    pairs, metrics = asked.material.pairs, metrics_for(asked.material.pairs)
    finished = [cell for cell in asked.cells if asked.finished(cell)]
    rows = [row for student in _students(finished) for row in _rows(asked, finished, student, metrics, replicates)]
    scored = (asked.out / TEACHER / "scores.npz").is_file() and asked.material.teacher is not None
    genuine = int(pairs.same.sum())
    return Comparison(
        asked.out,
        asked.baseline,
        tuple(metrics),
        headline,
        frozenset(m for m in metrics if (most := allowed(m, pairs)) is not None and most < FEW),
        tuple(rows),
        teacher_row(asked.out / TEACHER, pairs, metrics, replicates, 0) if scored else None,
        tuple(_missing(cell) for cell in asked.cells if cell not in finished),
        _equal(asked),
        asked.recipe.to_dict(),
        (pairs.name, genuine, len(pairs.same) - genuine),
        {"unit": Resampling.of(pairs).unit, "replicates": replicates, "seed": 0},
        tuple(_sheets(asked, finished)),
    )


def _sheets(asked: Asked, finished: Sequence[Cell]) -> list[Sheet]:
    """Set what protocols found side by side."""
    taken = [(cell, outcomes_of(cell.folder, asked.protocols, asked.gallery_print(cell))) for cell in finished]
    own = None if asked.material.teacher is None else outcomes_of(asked.out / TEACHER, asked.protocols, "")
    return sheets(taken, None if own is None else (TEACHER, own))


def _students(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.student for cell in cells))


def _rows(asked: Asked, finished: Sequence[Cell], student: str, metrics: Sequence[str], replicates: int) -> list[Row]:
    pairs = asked.material.pairs
    order = dict.fromkeys(cell.method for cell in asked.cells)  # as asked for, whichever finished first
    groups = {
        method: [cell for cell in finished if (cell.student, cell.method) == (student, method)] for method in order
    }
    measured = {method: Measured.read(cells, pairs) for method, cells in groups.items() if cells}
    return student_rows(measured, pairs, metrics, asked.baseline, replicates, 0)


def _missing(cell: Cell) -> Missing:
    return Missing(cell.student, cell.method, cell.seed, failure_of(cell.folder))


def _equal(asked: Asked) -> Mapping[str, str]:
    """Return what was the same for all cells, as a person reads it."""
    recipe, source = asked.recipe, asked.material.source
    steps = sorted({cell.recipe.train.steps for cell in asked.cells})
    told = {
        "budget": f"{steps[0]} steps" if asked.budget == "steps" else f"equal time: {steps[0]} to {steps[-1]} steps",
        "batch": f"{recipe.train.batch}" + (f" x {recipe.train.accumulate}" if recipe.train.accumulate > 1 else ""),
        "seeds": ", ".join(str(seed) for seed in dict.fromkeys(cell.seed for cell in asked.cells)),
        "training faces": f"{recipe.data.train}: {len(source)} images of {len(source.identities)} identities",
    }
    if asked.material.teacher is not None:
        told["teacher"] = f"{asked.material.teacher.name}, {asked.material.teacher.dim}-d"
    return told | {f"{name}, sha256": value for name, value in asked.material.fingerprints.items()}


def _write(found: Comparison) -> None:
    """Write JSON, tables and page."""
    found.folder.mkdir(parents=True, exist_ok=True)
    write_json(found.folder / "comparison.json", found.to_dict())
    write_atomically(found.folder / "table.csv", to_csv(found).encode())
    write_atomically(found.folder / "table.md", to_markdown(found).encode())
    if found.rows:
        write_page(found)
