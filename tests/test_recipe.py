from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.errors import UserError
from proxylesskd.recipe import Recipe, load_recipe


def test_file_then_overrides(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('seed = 3\n[train]\nbatch = 64\nepochs = 2\n[model]\nname = "iresnet18"\n')
    recipe = load_recipe(path, ["train.batch=32", "data.train=folder:faces/train", "train.milestones=[0.5, 1]"])
    assert (recipe.seed, recipe.train.batch, recipe.model.name) == (3, 32, "iresnet18")
    assert recipe.train.epochs == 2.0
    assert isinstance(recipe.train.epochs, float)
    assert recipe.data.train == "folder:faces/train"
    assert recipe.train.milestones == [0.5, 1.0]
    assert recipe.method == Recipe().method


def test_toml_reads_back_unchanged(tmp_path: Path) -> None:
    recipe = load_recipe(None, ['data.train=rec:C:/a "b"', "train.nesterov=false", "train.learning_rate=1e-3"])
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml())
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.bach=3", r"unknown key 'train\.bach'; did you mean 'train\.batch'"),
        ("trian.batch=3", r"unknown key 'trian'; did you mean 'train'"),
        ("batch=3", r"did you mean 'train\.batch'"),
        ("model.zzz=1", "known here: name, dim, width, image_size"),
        ("train.batch=many", r"type int for 'train\.batch', found 'many'"),
        ("train.batch=1.5", "type int"),
        ("train.nesterov=1", "type bool"),
        ("train.milestones=3", "list of numbers"),
        ("train=3", "expected a section"),
        ("train.batch", "section.key=value"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(None, [override])


def test_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a recipe"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 3")
    with pytest.raises(UserError, match="expected TOML"):
        load_recipe(tmp_path / "bad.toml")
