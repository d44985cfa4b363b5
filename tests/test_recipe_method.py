from __future__ import annotations

from pathlib import Path

import pytest
import torch

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.losses.adaptive_margin import AdaFace
from proxylesskd.losses.margin import Combined
from proxylesskd.methods.learner import Learner
from proxylesskd.methods.method import Batch
from proxylesskd.recipe import Recipe, load_recipe
from proxylesskd.recipe_fit import shaping
from proxylesskd.recipe_method import learner_of, margin_of, with_method
from tests.faces import tiny_student


def classifier() -> InheritedClassifier:
    torch.manual_seed(0)
    return InheritedClassifier(torch.randn(40, 6), [str(i) for i in range(40)], {})


def proxyless_of(recipe: Recipe, folder: Path) -> Learner:
    return learner_of(recipe, tiny_student(6), folder, num_identities=40, dim=6, classifier=classifier(), quiet=True)


def batch(step: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.randn(5, 3, 14, 14, generator=generator), torch.tensor([0, 3, 3, 8, 1]), torch.arange(5), step)


def margin_state(learner: Learner) -> dict[str, torch.Tensor]:
    own = learner.state_dict()["proxyless"]
    return {name.removeprefix("margin."): value for name, value in own.items() if name.startswith("margin.")}


def loss_of(overrides: list[str], folder: Path, step: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    recipe = load_recipe(None, ["method.name=proxyless", "method.m=0.3", "method.scale=16", *overrides])
    return proxyless_of(recipe, folder).step(batch(step))


def test_margins_get_their_settings() -> None:
    found = margin_of(load_recipe(None, ["method.margin=combined", "method.m=0.2", "method.m1=1.2", "method.m3=0.1"]))
    assert found == Combined(1.2, 0.2, 0.1)
    adaface = margin_of(load_recipe(None, ["method.margin=adaface", "method.m=0.4", "method.concentration=0.5"]))
    assert isinstance(adaface, AdaFace)
    assert adaface.concentration == 0.5


@pytest.mark.parametrize("engine", ["auto", "reference", "chunked", "sharded"])
def test_exact_engines_give_one_loss(engine: str, tmp_path: Path) -> None:
    expected = loss_of(["method.engine=reference", "method.smoothing=0.1"], tmp_path)
    found = loss_of([f"method.engine={engine}", "method.smoothing=0.1"], tmp_path)
    torch.testing.assert_close(found, expected)
    assert set(found) == {"loss", "accuracy"}


def test_neighbours_tell_their_gap_now_and_then(tmp_path: Path) -> None:
    settings = ["method.engine=neighbours", "method.neighbours=10", "method.sample=0.1", "method.gap_every=3"]
    told = loss_of(settings, tmp_path, step=3)
    assert 0.5 < float(told["neighbours_gradient_cosine"]) <= 1.0
    expected = loss_of(["method.engine=reference"], tmp_path)["loss"].item()
    assert (told["loss"] - told["neighbours_loss_gap"]).item() == pytest.approx(expected, rel=1e-5)
    assert (tmp_path / "nearest").is_dir()
    assert "neighbours_loss_gap" not in loss_of(settings, tmp_path, step=4)


def test_a_look_at_the_gap_leaves_the_margin_as_it_was(tmp_path: Path) -> None:
    settings = ["method.name=proxyless", "method.engine=neighbours", "method.neighbours=10", "method.margin=adaface"]
    torch.manual_seed(0)
    states = []
    for gap_every in (0, 1):
        recipe = load_recipe(None, [*settings, f"method.gap_every={gap_every}"])
        torch.manual_seed(0)
        method = proxyless_of(recipe, tmp_path)
        method.step(batch())
        states.append(margin_state(method))
    assert states[0]["mean"] != 20.0
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_margins_state_comes_back(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["method.name=proxyless", "method.margin=curricularface"])
    first = proxyless_of(recipe, tmp_path)
    first.step(batch())
    second = proxyless_of(recipe, tmp_path)
    second.load_state_dict(first.state_dict())
    assert torch.equal(margin_state(second)["t"], margin_state(first)["t"])
    assert float(margin_state(first)["t"]) != 0.0


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'chunked'"):
        loss_of(["method.engine=chunkd"], tmp_path)


def test_a_run_may_go_on_through_another_exact_engine_but_not_through_other_neighbours() -> None:
    def settings_of(*overrides: str) -> dict[str, object]:
        return shaping(load_recipe(None, ["method.name=proxyless", *overrides]))

    assert settings_of("method.engine=chunked", "method.neighbours=9") == settings_of("method.engine=sharded")
    assert settings_of("method.engine=neighbours") != settings_of("method.engine=auto")
    near = settings_of("method.engine=neighbours", "method.sample=0.1")
    assert near != settings_of("method.engine=neighbours", "method.sample=0.2")
    assert near == settings_of("method.engine=neighbours", "method.sample=0.1", "method.gap_every=5")


@pytest.mark.parametrize(("given", "name"), [([], "proxyless"), (["method.teacher=t.onnx"], "homing")])
def test_the_default_method_is_the_best_for_what_there_is(given: list[str], name: str) -> None:
    assert with_method(load_recipe(None, given)).method.name == name
    assert with_method(load_recipe(None, [*given, "method.name=alone"])).method.name == "alone"
