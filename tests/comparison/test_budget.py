import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proxylesskd.comparison import budget
from proxylesskd.comparison.budget import equal_steps, equal_time, steps_of, try_steps
from proxylesskd.comparison.cell import Task
from proxylesskd.comparison.plan import Cell, plan_cells, read_students
from proxylesskd.comparison.workers import Ended
from proxylesskd.errors import UserError
from proxylesskd.recipe import load_recipe

SECONDS = {"alone": 0.4, "proxyless": 0.1}


def cells(tmp_path: Path, *changes: str) -> list[Cell]:
    recipe = load_recipe(None, ["train.epochs=2", "train.batch=10", *changes])
    return plan_cells(tmp_path, ["alone", "proxyless"], read_students([], recipe), [0, 1], 4)


def test_steps_follow_from_epochs_unless_given(tmp_path: Path) -> None:
    assert {c.recipe.train.steps for c in equal_steps(cells(tmp_path), 300)} == {60}
    assert {c.recipe.train.steps for c in equal_steps(cells(tmp_path, "train.accumulate=2"), 300)} == {30}
    assert {c.recipe.train.steps for c in equal_steps(cells(tmp_path, "train.steps=17"), 300)} == {17}
    assert steps_of(load_recipe(None, ["train.epochs=0.001"]), 10) == 1


def test_equal_time_gives_slower_methods_fewer_steps_and_tries_each_once(tmp_path: Path) -> None:
    tried: list[str] = []

    def measure(cell: Cell) -> float:
        tried.append(cell.method)
        return SECONDS[cell.method]

    path = tmp_path / "budget.json"
    found = equal_time(cells(tmp_path), 300, "alone", path, measure)
    assert [(c.method, c.recipe.train.steps) for c in found] == [("alone", 60), ("proxyless", 240)] * 2
    other = equal_time(cells(tmp_path), 300, "proxyless", path, measure)
    assert [c.recipe.train.steps for c in other[:2]] == [15, 60]
    assert tried == ["alone", "proxyless"]
    assert sorted(one["seconds_per_step"] for one in json.loads(path.read_text()).values()) == [0.1, 0.4]
    equal_time(cells(tmp_path, "train.batch=20"), 300, "alone", path, measure)
    assert len(tried) == 4


def test_a_method_that_cannot_be_tried_fails_later_and_a_baseline_at_once(tmp_path: Path) -> None:
    rates = {"alone": 0.2, "proxyless": None}
    found = equal_time(cells(tmp_path), 300, "alone", tmp_path / "b.json", lambda cell: rates[cell.method])
    assert {c.recipe.train.steps for c in found} == {60}
    with pytest.raises(UserError, match="baseline"):
        equal_time(cells(tmp_path), 300, "proxyless", tmp_path / "b.json", lambda cell: rates[cell.method])


@pytest.mark.parametrize(("finished", "reason", "wanted"), [(True, None, 0.25), (False, "no", None)])
def test_a_trial_is_a_short_training(
    finished: bool, reason: str | None, wanted: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(tasks: Sequence[Task], *, threads: int, ended: Any) -> bool:
        (task,) = tasks
        assert (threads, task.pairs) == (3, "")
        assert task.recipe["train"]["steps"] < 100
        folder = Path(task.folder)
        folder.mkdir()
        rows = [{"step": 5, "seconds": 9.0, "images_per_second": 1}, {"step": 9, "seconds": 10, "images_per_second": 1}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        ended(Ended(task, 1.0, finished, reason))
        return True

    monkeypatch.setattr(budget, "run_tasks", run)
    assert try_steps(cells(tmp_path)[0], tmp_path / "trial", 3) == wanted
    assert not (tmp_path / "trial").exists()


def test_a_trial_that_was_stopped_is_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "run_tasks", lambda _tasks, **_: False)
    with pytest.raises(UserError, match="was stopped"):
        try_steps(cells(tmp_path)[0], tmp_path / "trial", 1)
