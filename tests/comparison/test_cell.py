import dataclasses
import io
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from proxylesskd.comparison import cell
from proxylesskd.comparison.cell import Task, main, perform
from proxylesskd.errors import UserError
from proxylesskd.recipe import override_recipe
from tests.comparison.conftest import House


def task_of(house: House, folder: Path, *changes: str, **options: str) -> Task:
    recipe = house.recipe
    for change in ("method.name=proxyless", "train.steps=2", *changes):
        recipe = override_recipe(recipe, change)
    return Task(str(folder), recipe.to_dict(), **options)


def test_a_cell_trains_once_and_is_evaluated_once_for_each_set(house: House, tmp_path: Path) -> None:
    pairs = str(house.place / "test" / "pairs.csv")
    task = task_of(house, tmp_path / "cell", pairs=pairs, gallery=str(house.out / "gallery.npz"))
    assert perform(task)
    told = json.loads((tmp_path / "cell" / "measured.json").read_text())
    assert told["steps"] == 2
    assert told["peak_memory"] > 50e6
    assert told["images_per_second"] > 0
    stamps = {name: (tmp_path / "cell" / name).stat().st_mtime_ns for name in ("measured.json", "scores.npz")}
    assert perform(task)
    assert stamps == {name: (tmp_path / "cell" / name).stat().st_mtime_ns for name in stamps}
    assert perform(dataclasses.replace(task, gallery=""))
    after = {name: (tmp_path / "cell" / name).stat().st_mtime_ns for name in stamps}
    assert after["measured.json"] == stamps["measured.json"]
    assert after["scores.npz"] > stamps["scores.npz"]


def test_one_that_was_killed_after_its_last_step_goes_on_and_measures_no_memory(house: House, tmp_path: Path) -> None:
    task = task_of(house, tmp_path / "cell")
    assert perform(task)
    before = (tmp_path / "cell" / "student.safetensors").read_bytes()
    for name in ("measured.json", "student.safetensors"):
        (tmp_path / "cell" / name).unlink()
    assert perform(task)
    assert (tmp_path / "cell" / "student.safetensors").read_bytes() == before
    assert json.loads((tmp_path / "cell" / "measured.json").read_text())["peak_memory"] is None


def test_an_interrupted_training_leaves_nothing_that_looks_finished(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = SimpleNamespace(result=SimpleNamespace(finished=False))
    monkeypatch.setattr(cell.runs, "distill", lambda *_, **__: stopped)
    assert not perform(task_of(house, tmp_path))
    assert not (tmp_path / "measured.json").exists()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's closed input ends the tests."""
    monkeypatch.setattr(cell, "_stop_with_parent", lambda: None)


@pytest.mark.usefixtures("alone")
def test_the_process_says_how_it_ended(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task_of(house, tmp_path / "bad", "model.dim=7").save(tmp_path / "task.json")
    assert main(str(tmp_path / "task.json")) == 2
    assert "dimension 24" in json.loads((tmp_path / "bad" / "failure.json").read_text())["reason"]
    task_of(house, tmp_path / "good").save(tmp_path / "task.json")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "failure.json").write_text('{"reason": "of yesterday"}')
    assert main(str(tmp_path / "task.json")) == 0
    assert not (tmp_path / "good" / "failure.json").exists()
    monkeypatch.setattr(cell, "perform", lambda _: False)
    assert main(str(tmp_path / "task.json")) == 3


def test_a_closed_input_asks_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    left = io.BytesIO(b"ab")
    monkeypatch.setattr(os, "read", lambda _, count: left.read(count))
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
    cell._stop_with_parent()
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_the_memory_of_a_gpu_counts_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 123)
    assert cell._peak() == ("a GPU", 123)


def test_a_gallery_of_other_pairs_is_refused(house: House, tmp_path: Path) -> None:
    (tmp_path / "gallery.npz").write_bytes(b"torn")
    pairs = str(house.place / "test" / "pairs.csv")
    with pytest.raises(UserError, match=r"gallery\.npz"):
        perform(task_of(house, tmp_path / "cell", pairs=pairs, gallery=str(tmp_path / "gallery.npz")))
