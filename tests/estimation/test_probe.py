from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import proxylesskd as pk
from proxylesskd.classifier import classifier as home
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.cli import app
from proxylesskd.errors import UserError
from proxylesskd.estimation import probe as room
from proxylesskd.estimation.asked import Asked, Probed
from proxylesskd.estimation.estimate import estimate
from proxylesskd.estimation.probe import main, probe, trained_bytes
from proxylesskd.recipe import Recipe, load_recipe
from tests.faces import write_faces

DIM = 16


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_STEPS", 3)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    write_faces(tmp_path / "faces", 3, 2)
    small = [f"data.train={tmp_path / 'faces'}", "model.width=0.1", f"model.dim={DIM}", "train.batch=4"]
    return load_recipe(None, [*small, "data.workers=1"])


def classifier_file(folder: Path, store: str = "float32") -> Path:
    rows = torch.randn(50, DIM, generator=torch.Generator().manual_seed(0))
    names = [f"id-{row:03d}" for row in reversed(range(50))]
    InheritedClassifier(rows, names, {}).save(folder / "c.safetensors", store)
    return folder / "c.safetensors"


def asked(recipe: Recipe, file: Path | None, **other: object) -> Asked:
    found = Asked(
        recipe=recipe.to_dict(), classifier="" if file is None else str(file), count=50, dim=DIM, store="int8", share=4,
        batch=4, world=1, processes=1, device="cpu", seconds=1e6,
    )  # fmt: skip
    return replace(found, **other)  # type: ignore[arg-type]


def test_a_trial_tells_every_part(recipe: Recipe, tmp_path: Path) -> None:
    found = probe(asked(recipe, classifier_file(tmp_path)))
    network = pk.create_model("mobilefacenet", dim=DIM, width=0.1)
    assert found.images == 6
    assert found.trained == 3 * 4 * sum(p.numel() for p in network.parameters()) + sum(
        b.nbytes for b in network.buffers()
    )
    assert found.loaded == 5 * 4 * 3 * 112 * 112
    assert found.base > 50 << 20
    assert min(found.student_seconds, found.head_seconds, found.data_seconds) > 0
    assert found.rows_mapped == found.gpu == found.smaller == 0


def test_rows_in_a_large_file_are_mapped(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MAPPED_FROM", 0)
    monkeypatch.setattr(room, "MAPPED_FROM", 0)
    file = classifier_file(tmp_path, "int8")
    assert probe(asked(recipe, file)).rows_mapped == file.stat().st_size


@pytest.mark.parametrize("engine", ["auto", "chunked", "neighbours"])
def test_rows_that_do_not_exist_yet_are_drawn(recipe: Recipe, engine: str) -> None:
    recipe = replace(recipe, method=replace(recipe.method, engine=engine))
    small = probe(asked(recipe, None, share=8, batch=4))
    assert (small.rows_private, small.rows_mapped) == (50 * DIM * 2 + 50 * 4, 0)
    large = probe(asked(recipe, None, share=8, batch=4, count=10**9, store="float32"))
    assert (large.rows_private, large.rows_mapped) == (0, 10**9 * DIM * 4)
    assert large.head_seconds > 1000 * small.head_seconds or engine == "neighbours"


def test_a_student_that_takes_too_long_is_tried_with_fewer_images(recipe: Recipe) -> None:
    assert probe(asked(recipe, None, share=64, batch=64, seconds=0.0)) == Probed(smaller=8)


def test_what_is_trained_by_hand() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert trained_bytes(network) == 3 * 4 * (6 + 2 + 2 + 2) + 4 * (2 + 2) + 8


def test_answers_and_errors_go_into_the_file(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(room, "probe", lambda _asked: Probed(images=7))
    (tmp_path / "asked.json").write_text(json.dumps(asdict(asked(recipe, None))))
    main(str(tmp_path / "asked.json"), str(tmp_path / "answer.json"))
    assert Probed(**json.loads((tmp_path / "answer.json").read_text())).images == 7

    def refuse(_asked: Asked) -> Probed:
        raise UserError("expected this, found that")

    monkeypatch.setattr(room, "probe", refuse)
    main(str(tmp_path / "asked.json"), str(tmp_path / "answer.json"))
    assert json.loads((tmp_path / "answer.json").read_text()) == {"error": "expected this, found that"}


def test_the_verb_tries_it_in_a_process_of_its_own(recipe: Recipe, tmp_path: Path) -> None:
    file = classifier_file(tmp_path, "int8")
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    arguments = ["estimate", "--recipe", str(tmp_path / "recipe.toml"), "--classifier", str(file), "--json"]
    found = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).output)
    assert (found["engine"], found["identities"], found["store"], found["world"]) == ("reference", 50, "int8", 1)
    assert found["private"] == sum(part["bytes"] for part in found["memory"] if part["kind"] == "private")
    assert 50 << 20 < found["private"] < 4 << 30
    assert found["step_seconds"] >= found["student_seconds"] > 0
    assert found["steps"] == round(26 * 6 / 4)


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        (["data.train="], {"identities": 9}, "training faces"),
        ([], {}, "inherited classifier"),
        ([], {"identities": 1}, "at least 2 identities"),
        ([], {"identities": 9, "store": "int7"}, "did you mean 'int8'"),
        ([], {"identities": 9, "device": "cudo"}, "did you mean 'cuda'"),
        ([], {"identities": 9, "world": 3}, "multiple of the 3 processes"),
        (["method.engine=sharded"], {"identities": 9}, "--world"),
        (["method.engine=chunky"], {"identities": 9}, "method.engine"),
        (["method.name=alone"], {"identities": 9}, "method.name=proxyless"),
        ([], {"classifier": "nowhere.safetensors"}, "found nothing"),
    ],
)
def test_wrong_questions_are_refused_at_once(
    recipe: Recipe, overrides: list[str], options: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxylesskd.estimation import estimate as front
    from proxylesskd.recipe import override_recipe

    monkeypatch.setattr(front, "ask", lambda _asked: pytest.fail("asked"))
    for override in overrides:
        recipe = override_recipe(recipe, override)
    with pytest.raises(UserError, match=message):
        estimate(recipe, **options)  # type: ignore[arg-type]


def test_rows_of_another_dimension_are_refused_at_once(recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, model=replace(recipe.model, dim=DIM + 1))
    with pytest.raises(UserError, match=f"dimension {DIM}, found 'auto' and model.dim={DIM + 1}"):
        estimate(recipe, classifier=classifier_file(tmp_path))


def test_a_gpu_that_is_not_there(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="CUDA"):
        estimate(recipe, identities=9, device="cuda")
