"""One small comparison for all tests: two methods, two seeds, a network that learns in no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import proxylesskd as pk
from proxylesskd.comparison import cell, compare
from proxylesskd.comparison.cell import Task
from proxylesskd.comparison.result import Comparison
from proxylesskd.comparison.workers import Ended
from proxylesskd.recipe import override_recipe
from tests.faces import write_faces

NETWORK = "tests.faces:colour_network"
SETTINGS = [
    f"model.name={NETWORK}",
    "model.dim=24",
    "model.image_size=48",
    "method.m=0.2",
    "method.scale=16",
    "train.batch=16",
    "train.steps=6",
    "train.log_every=2",
    "train.learning_rate=0.05",
]


@dataclass(frozen=True)
class House:
    """Faces, a teacher, its classifier, and what the comparisons of them said."""

    place: Path
    recipe: pk.Recipe
    said: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.place / "out"

    def compare(self, *changes: str, **options: Any) -> Comparison:
        """Compare, with some settings of the recipe and some options changed."""
        asked: dict[str, Any] = {"out": self.out, "methods": ["alone", "proxyless"], "seeds": [0, 1], "audit": False}
        asked |= {"pairs": self.place / "test" / "pairs.csv", "replicates": 40, "say": self.said.append} | options
        recipe = self.recipe
        for change in changes:
            recipe = override_recipe(recipe, change)
        return pk.compare(recipe, **asked)


def perform_here(tasks: Sequence[Task], *, ended: Any = lambda _: None, **_: Any) -> bool:
    """Perform tasks in this process, which has imported everything already."""
    for task in tasks:
        try:
            ended(Ended(task, 0.0, cell.perform(task)))
        except pk.UserError as error:
            cell.write_json(Path(task.folder) / cell.FAILURE, {"reason": str(error)})
            ended(Ended(task, 0.0, False, str(error)))
    return True


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are performed in this process."""
    monkeypatch.setattr(compare, "run_tasks", perform_here)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Faces, teacher, classifier; three of four cells finished here, the last one by a process as it ought to be."""
    place = tmp_path_factory.mktemp("comparison")
    write_faces(place / "train", identities=6, images=6)
    write_faces(place / "test", identities=40, images=3, first=100)
    drawn = pk.make_pairs(pk.open_source(str(place / "test")), genuine=60, impostor=300)
    pk.write_pairs_csv(drawn, place / "test" / "pairs.csv", root=place / "test")
    recipe = pk.load_recipe(None, [*SETTINGS, f"data.train=folder:{place / 'train'}"])
    pk.train(override_recipe(recipe, "seed=1000"), place / "teacher", quiet=True)
    location = f"{place / 'teacher'}:architecture={NETWORK}"
    pk.inherit(pk.load_teacher(location), pk.open_source(str(place / "train"))).save(place / "c.safetensors")
    recipe = override_recipe(recipe, f"method.classifier={place / 'c.safetensors'}")
    house = House(place, override_recipe(recipe, f"method.teacher={location}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "run_tasks", perform_here)
        house.compare(seeds=[0])
        house.compare(methods=["alone"])
    house.said.clear()
    house.compare(jobs=2)
    return house


@pytest.fixture(scope="session")
def found(house: House) -> Comparison:
    """The finished comparison, from its files alone."""
    return house.compare(train=False)
