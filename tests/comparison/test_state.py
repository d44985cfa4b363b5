import json
from dataclasses import replace
from pathlib import Path

import pytest

from proxylesskd.comparison.plan import Cell, plan_cells, read_students
from proxylesskd.comparison.state import claim, failure_of, is_finished, settings_of
from proxylesskd.errors import UserError
from proxylesskd.recipe import load_recipe

PRINTS = {"data": "d1", "teacher": "t1", "pairs": "p1"}


def cell(tmp_path: Path, *changes: str) -> Cell:
    students = read_students([], load_recipe(None, list(changes)))
    return plan_cells(tmp_path, ["proxyless"], students, [0], 4)[0]


def test_a_cell_is_claimed_and_found_again(tmp_path: Path) -> None:
    claim(cell(tmp_path), PRINTS)
    told = json.loads((cell(tmp_path).folder / "cell.json").read_text())
    assert (told["method.name"], told["train.batch"], told["data (sha256)"]) == ('"proxyless"', "128", '"d1"')
    claim(cell(tmp_path, "data.workers=7", "train.checkpoint_every=3"), PRINTS | {"pairs": "p2"})
    assert json.loads((cell(tmp_path).folder / "cell.json").read_text()) == told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.batch=64", r"found train.batch = 128 in .* and 64 now"),
        ("method.m=0.25", r"found method.m = 0.5 in .* and 0.25 now"),
    ],
)
def test_other_settings_are_refused_by_name(change: str, said: str, tmp_path: Path) -> None:
    claim(cell(tmp_path), PRINTS)
    with pytest.raises(UserError, match=said):
        claim(cell(tmp_path, change), PRINTS)


def test_other_faces_and_another_teacher_are_refused(tmp_path: Path) -> None:
    claim(cell(tmp_path), PRINTS)
    for name in ("data", "teacher"):
        with pytest.raises(UserError, match=rf"found {name} \(sha256\) = "):
            claim(cell(tmp_path), PRINTS | {name: "another"})


def test_a_setting_that_is_new_had_its_default(tmp_path: Path) -> None:
    claim(cell(tmp_path), PRINTS)
    path = cell(tmp_path).folder / "cell.json"
    told = json.loads(path.read_text())
    del told["train.momentum"]
    path.write_text(json.dumps(told))
    claim(cell(tmp_path), PRINTS)
    with pytest.raises(UserError, match=r"train\.momentum = 0\.9"):
        claim(cell(tmp_path, "train.momentum=0.5"), PRINTS)


def test_a_run_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    one = cell(tmp_path)
    one.folder.mkdir(parents=True)
    (one.folder / "recipe.toml").write_text("seed = 0\n")
    with pytest.raises(UserError, match="found another"):
        claim(one, PRINTS)


def test_seed_and_method_are_settings(tmp_path: Path) -> None:
    one = cell(tmp_path)
    other = replace(one, recipe=replace(one.recipe, seed=1))
    assert settings_of(one, PRINTS) != settings_of(other, PRINTS)
    assert "p1" not in "".join(settings_of(one, PRINTS).values())


def test_finished_means_trained_and_evaluated_on_these_pairs_with_this_gallery(tmp_path: Path) -> None:
    one = cell(tmp_path)
    one.folder.mkdir(parents=True)
    assert not is_finished(one, "p", "g")
    (one.folder / "evaluated.json").write_text('{"pairs": "p", "gallery": "g"}')
    assert not is_finished(one, "p", "g")
    (one.folder / "measured.json").write_text("{}")
    assert is_finished(one, "p", "g")
    assert not is_finished(one, "q", "g")
    assert not is_finished(one, "p", "")


def test_why_a_cell_failed(tmp_path: Path) -> None:
    assert failure_of(tmp_path) is None
    (tmp_path / "failure.json").write_text('{"reason": "it diverged"}')
    assert failure_of(tmp_path) == "it diverged"
