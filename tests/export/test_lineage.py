"""A student's file says whose gallery it may search."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.export import package
from proxylesskd.export.lineage import teacher_of_run, weights_file
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import create_model
from proxylesskd.models.weights import save_model
from proxylesskd.recipe import load_recipe
from proxylesskd.recognition.gallery import Enrolled, Gallery
from proxylesskd.recognition.model import open_model
from proxylesskd.runs import train
from proxylesskd.teacher import load_teacher
from tests.export.conftest import make_tiny
from tests.faces import write_faces

SMALL = Preprocessing(size=32)


def write_run(folder: Path, seed: int, file: str) -> Path:
    folder.mkdir()
    torch.manual_seed(seed)
    save_model(folder / file, create_model("mobilefacenet", dim=8, width=0.125, image_size=32), SMALL)
    return folder


def classifier(folder: Path, **provenance: str) -> None:
    (folder / "classifier.json").write_text(json.dumps({"provenance": provenance}), encoding="utf-8")


def recipe(folder: Path, teacher: str, method: str = "kd") -> None:
    (folder / "recipe.toml").write_text(f'[method]\nname = "{method}"\nteacher = "{teacher}"\n', encoding="utf-8")


def evaluated(folder: Path, auc: float) -> None:
    (folder / "evaluation.json").write_text(json.dumps({"cross": {"auc": {"value": auc}}}), encoding="utf-8")


def test_the_classifier_and_the_recipe_say_it(tmp_path: Path) -> None:
    assert teacher_of_run(tmp_path) == {}
    teacher = write_run(tmp_path / "big", 1, "model.safetensors")
    digest = hashlib.sha256((teacher / "model.safetensors").read_bytes()).hexdigest()
    assert weights_file(teacher) == weights_file(teacher / "model.safetensors") == teacher / "model.safetensors"
    recipe(tmp_path, f"{teacher}:mean=0")
    assert teacher_of_run(tmp_path) == {"name": "big", "sha256": digest}
    classifier(tmp_path, run="of a run", teacher_fingerprint="f" * 64)
    assert teacher_of_run(tmp_path) == {"name": "of a run", "fingerprint": "f" * 64, "sha256": digest}
    recipe(tmp_path, str(tmp_path / "gone.onnx"))
    assert teacher_of_run(tmp_path) == {"name": "of a run", "fingerprint": "f" * 64}


def test_trained_alone_it_has_none_and_unrelated_it_has_a_name(tmp_path: Path) -> None:
    teacher = write_run(tmp_path / "big", 1, "model.safetensors")
    recipe(tmp_path, str(teacher), method="alone")
    assert teacher_of_run(tmp_path) == {}
    recipe(tmp_path, str(teacher))
    evaluated(tmp_path, 0.55)
    assert teacher_of_run(tmp_path) == {"name": "big"}
    evaluated(tmp_path, 0.65)
    assert set(teacher_of_run(tmp_path)) == {"name", "sha256"}
    recipe(tmp_path, "x:nonsense=1")
    assert teacher_of_run(tmp_path) == {}


def test_rows_of_a_teachers_own_training_name_it(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces", identities=3, images=4)
    settings = [f"data.train=folder:{tmp_path / 'faces'}", "model.width=0.125", "model.image_size=32", "model.dim=8"]
    recipe = load_recipe(None, [*settings, "train.batch=4", "train.steps=2"])
    train(recipe, tmp_path / "teacher", quiet=True)
    rows = InheritedClassifier.load(tmp_path / "teacher" / "classifier.safetensors")
    assert rows.provenance["teacher_fingerprint"] == load_teacher(tmp_path / "teacher").fingerprint


def test_a_students_file_searches_its_teachers_gallery_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(package, "_rows", lambda *_: [])
    monkeypatch.setattr(package, "_measured", lambda *_: {})
    teacher = write_run(tmp_path / "teacher", 1, "model.safetensors")
    other = write_run(tmp_path / "other", 2, "model.safetensors")
    student = write_run(tmp_path / "student", 3, "student.safetensors")
    classifier(student, how="mean", teacher="teacher", teacher_fingerprint=load_teacher(teacher).fingerprint)
    faces = np.random.default_rng(0).integers(0, 256, (8, 3, 112, 112), dtype=np.uint8)
    package.deliver(student, make_tiny(32), SMALL, training=faces)  # of any network: what counts is what it says
    probe = open_model(student / "student.onnx")
    modes = []
    for name in (teacher, other):
        maker = open_model(name)
        gallery = Gallery.create(tmp_path / f"{name.name}.gallery", maker)
        gallery.add([Enrolled("she", "a.jpg", "0" * 64, maker.embed(faces[:1])[0])])
        try:
            modes.append(gallery.mode_of(probe))
        except UserError as error:
            modes.append(str(error))
    assert modes[0] == "cross"
    assert "found 'student'" in modes[1]
    assert "a student of 'teacher'" in modes[1]
