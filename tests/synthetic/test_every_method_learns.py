"""Each method, as its paper trains with it, on rendered faces: its own loss falls and the student learns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import proxylesskd as pk
from proxylesskd.data.decode import decode
from proxylesskd.methods.catalogue import CATALOGUE, expand, wants
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.recipe_fit import new_model
from proxylesskd.synthetic.faces import face_jpeg
from proxylesskd.synthetic.head import Head, head_path, load_head, save_head
from proxylesskd.teacher import load_teacher, teacher_of
from tests.synthetic.conftest import make_head

pytestmark = pytest.mark.slow  # a minute or two in all

IDENTITIES, IMAGES, SIZE, DIM = 12, 6, 32, 24
SMALL = ["model.name=mobilefacenet", "model.width=0.125", f"model.image_size={SIZE}", "train.batch=16", "seed=3"]
SMALL += ["method.scale=16", "method.m=0.2", "train.warmup=0.1", "train.log_every=1", "data.workers=1"]
# What rises into a loss in the course of the training hides that the loss falls.
WITHOUT_RISE = {"gkd": "gkd(warmup=0)"}


@dataclass(frozen=True)
class World:
    """Faces, a teacher that knows them, and its rows."""

    faces: Path
    teacher: Path
    classifier: pk.InheritedClassifier
    images: Tensor
    labels: Tensor


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    place = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        head: Head = make_head()
        save_head(head, head_path())
        load_head.cache_clear()
        for identity in range(IDENTITIES):
            folder = place / "faces" / f"id-{identity:02d}"
            folder.mkdir(parents=True)
            for image in range(IMAGES):
                (folder / f"{image}.jpg").write_bytes(face_jpeg(7, identity, image))
    load_head.cache_clear()
    settings = [*SMALL, f"data.train={place / 'faces'}", f"model.dim={DIM}", "model.width=0.25", "train.steps=80"]
    run = pk.train(pk.load_recipe(None, settings), place / "teacher", quiet=True)
    source = pk.open_source(str(place / "faces"))
    images = torch.stack([torch.from_numpy(decode(source.read(i)[0])) for i in range(len(source))])
    classifier = pk.inherit(load_teacher(run.folder), source)
    return World(place / "faces", run.folder, classifier, images, torch.from_numpy(source.labels.copy()))


def area(embedder: Embedder, world: World) -> float:
    """The share of (genuine, impostor) couples of pairs that are ranked rightly."""
    unit = F.normalize(embedder.embed(world.images), dim=1)
    row, column = torch.triu_indices(len(unit), len(unit), offset=1)
    scores, same = (unit @ unit.T)[row, column], (world.labels[:, None] == world.labels)[row, column]
    genuine, impostor = scores[same], scores[~same]
    return float((genuine[:, None] > impostor).float().mean())


@pytest.mark.parametrize("name", CATALOGUE)
def test_its_objective_falls_and_the_student_improves(name: str, world: World, tmp_path: Path) -> None:
    settings = [*SMALL, f"data.train={world.faces}", f"method.name={WITHOUT_RISE.get(name, name)}"]
    settings += ["train.steps=40"]
    settings += [f"method.teacher={world.teacher}", f"method.cache_folder={tmp_path / 'cache'}"]
    recipe = pk.load_recipe(None, settings)
    given = world.classifier if "classifier" in wants(expand(name)) else None
    run = pk.distill(recipe, tmp_path / "run", classifier=given, audit=False, quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    own = [row.get(f"{name}.loss", row["loss"]) for row in rows if "loss" in row]
    assert sum(own[-10:]) < sum(own[:10])
    untrained = teacher_of(new_model(recipe, DIM), Preprocessing(size=SIZE))
    assert area(load_teacher(run.folder), world) > area(untrained, world) + 0.02
