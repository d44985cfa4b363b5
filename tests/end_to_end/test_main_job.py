"""The main job by its verbs, on tiny faces: train, inherit, distill, evaluate, export, report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

import proxylesskd as pk
from proxylesskd.cli import app
from tests.faces import write_faces

SMALL = ["model.width=0.125", "model.image_size=48", "method.m=0.2", "method.scale=16", "train.batch=16"]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything the verbs leave behind, made once."""
    here: Path = tmp_path_factory.mktemp("house")
    write_faces(here / "train", identities=6, images=8)
    write_faces(here / "test", identities=24, images=4, first=100)
    run("pairs", here / "test", "-o", here / "test" / "pairs.csv", "--genuine", 40, "--impostor", 80)
    data = f"data.train=folder:{here / 'train'}"
    check = f"data.check={here / 'test' / 'pairs.csv'}"
    run(
        "train",
        "-q",
        "-o",
        here / "teacher",
        data,
        check,
        *SMALL,
        "model.dim=16",
        "train.steps=20",
        "train.log_every=5",
    )
    run("inherit", here / "teacher", "-o", here / "own.safetensors")
    run("inherit", "-q", here / "teacher" / "model.safetensors", "--data", here / "train", "-o", here / "c.safetensors")
    run("distill", "-q", "-o", here / "student", "-c", here / "own.safetensors", data, *SMALL, "train.steps=20")
    pairs = here / "test" / "pairs.csv"
    run("evaluate", here / "student", pairs, "--gallery", here / "teacher", "--replicates", 50)
    run("export", here / "student", "--images", here / "test", "--count", 9)
    run("report", here / "student")
    return here


def test_the_run_folder_explains_itself(house: Path) -> None:
    names = {path.name for path in (house / "student").iterdir()}
    expected = {"recipe.toml", "metrics.jsonl", "checkpoints", "student.safetensors", "classifier.json", "data.json"}
    assert names >= expected | {"evaluation.json", "roc.svg", "report.html", "student.onnx", "card.md"}


def test_the_inherited_rows_are_the_teachers(house: Path) -> None:
    own = pk.InheritedClassifier.load(house / "own.safetensors")
    trained = pk.InheritedClassifier.load(house / "teacher" / "classifier.safetensors")
    assert torch.equal(own.rows, trained.rows)
    centres = pk.InheritedClassifier.load(house / "c.safetensors")
    assert centres.identities == own.identities
    assert not torch.equal(centres.rows, own.rows)
    told = json.loads((house / "student" / "classifier.json").read_text())
    assert told["fingerprint"] == own.fingerprint
    assert told["audit"]["passed"] is True


def test_a_teacher_joins_the_audit_before_training(house: Path, tmp_path: Path) -> None:
    common = ["-q", "--teacher", house / "teacher", f"data.train=folder:{house / 'train'}", *SMALL, "train.steps=2"]
    run("distill", "-o", tmp_path / "run", "-c", house / "c.safetensors", *common)
    audit = json.loads((tmp_path / "run" / "classifier.json").read_text())["audit"]
    assert audit["passed"] is True
    assert {"agreement", "label order", "preprocessing"} <= {one["check"] for one in audit["findings"]}
    right = pk.InheritedClassifier.load(house / "c.safetensors")
    pk.InheritedClassifier(right.rows.roll(1, 0), right.identities, {}).save(tmp_path / "moved.safetensors")
    wrong = ["distill", "-o", tmp_path / "wrong", "-c", tmp_path / "moved.safetensors", *common]
    with pytest.raises(pk.UserError, match="the audit failed"):
        run(*wrong)
    assert not (tmp_path / "wrong").exists()
    run(*wrong, "--no-audit")
    assert json.loads((tmp_path / "wrong" / "classifier.json").read_text())["audit"] is None


def test_the_log_shows_loss_falling_and_checks(house: Path) -> None:
    rows = [json.loads(line) for line in (house / "teacher" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    assert any("check" in row and 0 <= row["check"]["accuracy"] <= 1 for row in rows)


def test_both_modes_are_evaluated(house: Path) -> None:
    found = json.loads((house / "student" / "evaluation.json").read_text())
    assert set(found) >= {"single", "cross", "pairs", "bootstrap"}
    assert found["bootstrap"]["unit"] == "identities"
    assert (found["pairs"]["genuine"], found["pairs"]["impostor"]) == (40, 80)


def test_the_exported_file_agrees_with_the_weights(house: Path) -> None:
    images = torch.from_numpy(pk.read_pairs(house / "test" / "pairs.csv").images)
    exported, weights = pk.load_teacher(house / "student" / "student.onnx"), pk.load_teacher(house / "student")
    cosine = (exported.embed(images) * weights.embed(images)).sum(dim=1)
    assert float(cosine.min()) > 0.9999
    session = onnxruntime.InferenceSession(house / "student" / "student.onnx")
    batch = np.zeros((3, 3, 48, 48), dtype=np.float32)
    assert session.run(None, {session.get_inputs()[0].name: batch})[0].shape == (3, 16)


def test_the_report_stands_alone(house: Path) -> None:
    page = (house / "student" / "report.html").read_text(encoding="utf-8")
    assert "ProxylessKD" in page
    assert 'src="http' not in page
    assert len(page) > 10_000


def test_small_verbs(house: Path, tmp_path: Path) -> None:
    printed = run("recipe", "train.batch=7")
    (tmp_path / "my.toml").write_text(printed)
    assert pk.load_recipe(tmp_path / "my.toml").train.batch == 7
    assert "mobilefacenet" in run("list-models").split()
    assert run("--version").strip() == f"proxylesskd {pk.__version__}"
    said = run("inspect", house / "train", "--out", tmp_path / "seen", "--identities", 3, "--images", 2)
    assert "6 identities" in said
    assert (tmp_path / "seen" / "contact-sheet.png").stat().st_size > 1000
    run("convert", house / "train", tmp_path / "rec")
    record, folder = pk.open_source(f"rec:{tmp_path / 'rec'}"), pk.open_source(f"folder:{house / 'train'}")
    assert [record.read(i) for i in range(len(record))] == [folder.read(i) for i in range(len(folder))]
    run("pairs", house / "test", "-o", tmp_path / "pairs.bin", "--genuine", 40, "--impostor", 80)
    assert len(pk.read_pairs(tmp_path / "pairs.bin").same) == 120


def test_the_library_reads_like_the_readme(house: Path) -> None:
    source = pk.open_source(f"folder:{house / 'train'}")
    teacher = pk.load_teacher(house / "teacher")
    classifier = pk.inherit(teacher, source)
    student = pk.create_model("mobilefacenet", dim=classifier.dim, width=0.125, image_size=48)
    images, labels = torch.randn(4, 3, 48, 48), torch.tensor([0, 1, 2, 3])
    loss = pk.frozen_softmax(student(images), classifier.rows, labels, margin=pk.ArcFace(0.5), scale=64.0)
    loss.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    result = pk.evaluate(student, house / "test" / "pairs.csv", gallery=teacher, replicates=20)
    assert result.cross is not None


def test_a_run_resumes_to_the_same_weights(house: Path, tmp_path: Path) -> None:
    data = f"data.train=folder:{house / 'train'}"
    settings = [data, *SMALL, "train.steps=6", "train.checkpoint_every=3"]
    run("distill", "-q", "-o", tmp_path / "whole", "-c", house / "own.safetensors", *settings)
    run("distill", "-q", "-o", tmp_path / "cut", "-c", house / "own.safetensors", *settings)
    newest = max((tmp_path / "cut" / "checkpoints").glob("step-*.pt"))
    newest.unlink()
    run("distill", "-q", "--resume", "-o", tmp_path / "cut", "-c", house / "own.safetensors", *settings)
    for name in ("student.safetensors",):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
