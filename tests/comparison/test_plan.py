from pathlib import Path

import pytest

from proxylesskd.comparison.plan import Student, plan_cells, read_students, slug
from proxylesskd.errors import UserError
from proxylesskd.recipe import Recipe, load_recipe


def test_folders_are_plain_and_differ_where_the_formulas_do() -> None:
    assert slug("proxyless") == "proxyless"
    formulas = ["alone + rkd", "alone + 0.5*rkd", "alone + 5*rkd", "alone+0.5*rkd(angle=2)", "alone/../x"]
    names = [slug(text) for text in formulas]
    assert len(set(names)) == len(names)
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=-")
    assert slug("alone +  rkd") == slug("alone + rkd")


def test_students_override_the_recipes_network() -> None:
    recipe = load_recipe(None, ["model.width=0.5", "train.batch=7"])
    plain, wide = read_students(["mobilefacenet", "iresnet18:width=0.25, image_size=40"], recipe)
    assert (plain.recipe.model.name, plain.recipe.model.width) == ("mobilefacenet", 0.5)
    assert (wide.recipe.model.name, wide.recipe.model.width, wide.recipe.model.image_size) == ("iresnet18", 0.25, 40)
    assert wide.recipe.train.batch == 7
    (own,) = read_students([], recipe)
    assert own == Student("mobilefacenet", recipe)
    (foreign,) = read_students(["a.b:make:width=2"], recipe)
    assert (foreign.recipe.model.name, foreign.recipe.model.width) == ("a.b:make", 2.0)


@pytest.mark.parametrize(
    ("students", "said"),
    [
        (["iresnet18:widht=1"], "did you mean 'model.width'"),
        (["iresnet18:width=broad"], "model.width"),
        (["a", "a"], "'a' 2 times"),
    ],
)
def test_wrong_students_are_named(students: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_students(students, Recipe())


def test_cells_hold_everything_equal_but_what_is_compared(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["data.check=test.csv", "method.classifier=c", "method.teacher=t", "train.batch=9"])
    students = read_students(["mobilefacenet", "iresnet18:dim=8"], recipe)
    cells = plan_cells(tmp_path, ["alone", " proxyless "], students, [3, 1], 16)
    assert [(c.seed, c.student, c.method) for c in cells[:4]] == [
        (3, "mobilefacenet", "alone"),
        (3, "mobilefacenet", "proxyless"),
        (3, "iresnet18:dim=8", "alone"),
        (3, "iresnet18:dim=8", "proxyless"),
    ]
    assert [c.seed for c in cells] == [3] * 4 + [1] * 4
    assert len({c.folder for c in cells}) == 8
    assert cells[0].folder == tmp_path / "mobilefacenet" / "alone" / "seed-3"
    assert [c.recipe.model.dim for c in cells[:4]] == [16, 16, 8, 8]
    assert [c.recipe.method.name for c in cells[:2]] == ["alone", "proxyless"]
    assert [c.recipe.method.classifier for c in cells[:2]] == ["", "c"]
    assert {(c.recipe.seed, c.recipe.train.batch, c.recipe.data.check) for c in cells} == {(3, 9, ""), (1, 9, "")}


@pytest.mark.parametrize(
    ("methods", "seeds", "said"),
    [
        ([], [0], "at least one method"),
        (["alone"], [], "at least one seed"),
        (["alone", "alone "], [0], "'alone' 2 times"),
        (["alone"], [0, 0], "'0' 2 times"),
        (["proxles"], [0], "did you mean 'proxyless'"),
        (["alone +"], [0], "a method's name"),
    ],
)
def test_wrong_plans_are_refused(methods: list[str], seeds: list[int], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        plan_cells(tmp_path, methods, read_students([], Recipe()), seeds, 4)
