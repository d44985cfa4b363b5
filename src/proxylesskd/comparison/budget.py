"""The budget of every cell: the same steps, or the same seconds by the speed that each method has here."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxylesskd.comparison.cell import Task
from proxylesskd.comparison.plan import Cell
from proxylesskd.comparison.speed import read_speed
from proxylesskd.comparison.workers import Ended, run_tasks
from proxylesskd.errors import UserError
from proxylesskd.export.run_folder import read_json
from proxylesskd.export.ship import write_json
from proxylesskd.recipe import Recipe
from proxylesskd.recipe_fit import shaping
from proxylesskd.training.checkpoint import canonical_settings

BUDGETS = ("steps", "time")
FILE = "budget.json"
_TRIED, _EVERY = 30, 5  # steps of a trial, and from one row of its log to the next

Measure = Callable[[Cell], float | None]  # -> seconds of a step, None where it cannot be trained


def steps_of(recipe: Recipe, images: int) -> int:
    """Return the updates of a recipe on so many images."""
    plan = recipe.train
    return plan.steps or max(1, round(plan.epochs * images / (plan.batch * plan.accumulate)))


def with_steps(cell: Cell, steps: int) -> Cell:
    """Return a cell of so many updates."""
    return replace(cell, recipe=replace(cell.recipe, train=replace(cell.recipe.train, steps=steps)))


def equal_steps(cells: Sequence[Cell], images: int) -> list[Cell]:
    """Give every cell the recipe's steps."""
    return [with_steps(cell, steps_of(cell.recipe, images)) for cell in cells]


def equal_time(cells: Sequence[Cell], images: int, baseline: str, path: Path, measure: Measure) -> list[Cell]:
    """Give every cell the seconds that the baseline takes for the recipe's steps.

    What a step takes is tried once for each method and student and kept, so that all seeds have equal steps, and so
    has a comparison that goes on tomorrow.

    Args:
        cells: all of them.
        images: in the source.
        baseline: method whose seconds everybody gets.
        path: where the speeds are kept.
        measure: tries a cell.

    A method that cannot be tried keeps the recipe's steps: its cells will say why they fail.

    Raises:
        UserError: the baseline cannot be tried.
    """
    known: dict[str, Any] = read_json(path) or {}
    for cell in cells:
        key = _key(cell)
        if known.get(key, {}).get("seconds_per_step") is None:
            seconds = measure(cell)
            if seconds is None and cell.method == baseline:
                raise UserError(
                    f"expected to try a few steps of the baseline, '{cell}', found that it cannot be trained"
                )
            known[key] = {"student": cell.student, "method": cell.method, "seconds_per_step": seconds}
            write_json(path, known)
    rates = {(cell.student, cell.method): known[_key(cell)]["seconds_per_step"] for cell in cells}
    return [
        with_steps(
            cell,
            steps_in_time(
                steps_of(cell.recipe, images), rates[cell.student, baseline], rates[cell.student, cell.method]
            ),
        )
        for cell in cells
    ]


def steps_in_time(steps: int, baseline: float, own: float | None) -> int:
    """Return how many steps of ``own`` seconds fit into ``steps`` steps of ``baseline`` seconds."""
    if own is None:
        return steps
    return max(1, round(steps * baseline / own))


def _key(cell: Cell) -> str:
    """Return what a trial depends on: all settings but the seed and the number of steps."""
    settings = canonical_settings(shaping(with_steps(replace(cell, recipe=replace(cell.recipe, seed=0)), 0).recipe))
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def try_steps(cell: Cell, folder: Path, threads: int) -> float | None:
    """Train a few steps in a process of its own, as a cell will be; return the seconds of one, or None if it fails.

    Raises:
        UserError: it was stopped.
    """
    shutil.rmtree(folder, ignore_errors=True)
    plan = replace(cell.recipe.train, steps=_TRIED, log_every=_EVERY, checkpoint_every=0)
    outcomes = list[Ended]()
    task = Task(str(folder), replace(cell.recipe, train=plan).to_dict())
    run_tasks([task], threads=threads, ended=outcomes.append)
    if not outcomes or (not outcomes[0].finished and outcomes[0].reason is None):
        raise UserError(f"expected to try a few steps of '{cell}', found that this was stopped; start anew")
    speed = read_speed(folder) if outcomes[0].finished else None
    shutil.rmtree(folder, ignore_errors=True)
    return None if speed is None else speed.seconds_per_step
