from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.project import fit_projection
from proxylesskd.data.pairs import Pairs, make_pairs, write_pairs_csv
from proxylesskd.data.source import open_source
from tests.faces import ColourEmbedder, face, write_faces


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "projection.py"
    spec = importlib.util.spec_from_file_location("benchmark_projection", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces, their classifier, pairs of other faces, and the teacher's embeddings of those in two views."""
    place = tmp_path_factory.mktemp("projection")
    write_faces(place / "faces", 12, 2)
    images = torch.from_numpy(np.stack([face(identity, 0).transpose(2, 0, 1) for identity in range(12)]))
    names = [f"id-{identity:03d}" for identity in range(12)]
    InheritedClassifier(ColourEmbedder().embed(images), names, {"how": "drawn"}).save(place / "c.safetensors")
    others = open_source(f"folder:{write_faces(place / 'others', 12, 3, first=50)}")
    drawn = make_pairs(others, genuine=12, impostor=24, folds=3)
    write_pairs_csv(drawn, place / "pairs.csv")
    return place


def arguments(script: ModuleType, place: Path, *more: str) -> tuple[list[str], Pairs, np.ndarray]:
    pairs = script.pk.read_pairs(place / "pairs.csv", place / "others")
    whole = ColourEmbedder().embed(torch.from_numpy(pairs.images)).numpy()
    np.save(place / "pairs.npy", np.stack([whole, whole[:, ::-1]], axis=1))
    given = ["--classifier", place / "c.safetensors", "--pairs", place / "pairs.csv", "--root", place / "others"]
    given += ["--embeddings", place / "pairs.npy", "--metrics", "accuracy", "auc", "--dims", "4", *more]
    return ["projection.py", *map(str, given)], pairs, whole


def area(embeddings: np.ndarray, pairs: Pairs) -> str:
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = [float(unit[a] @ unit[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
    return f"{100 * roc_auc_score(pairs.same, scores):.2f}"


def test_the_table_of_the_teacher(
    script: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, pairs, whole = arguments(script, place)
    monkeypatch.setattr("sys.argv", argv)
    script.main()
    table, differences = capsys.readouterr().out.split("The teacher: cosines kept")
    rows = script.pk.InheritedClassifier.load(place / "c.safetensors").rows
    small = whole @ fit_projection(rows, 4).numpy()
    for name, embeddings in {"147, whole": whole, "4, truncation": whole[:, :4], "4, cosines kept": small}.items():
        (line,) = (line for line in table.splitlines() if line.startswith(f"| {name}"))
        assert re.split(r"[|\[]", line)[-3].strip() == area(embeddings, pairs)
    assert [line.split("|")[2].strip() for line in differences.splitlines()[4:]] == [
        "principal",
        "truncation",
        "random",
    ]


def test_students_of_every_kind(
    script: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"data.train=folder:{place / 'faces'}", "model.width=0.25", "model.image_size=56"]
    settings += ["train.batch=8", "train.steps=1", "data.workers=1"]
    more = ["--students", str(place / "runs"), "--kinds", "cosine", "random"]
    argv, _, _ = arguments(script, place, *more, "--", *settings)
    monkeypatch.setattr("sys.argv", argv)
    script.main()
    printed = capsys.readouterr().out
    assert printed.count("| 4, cosines kept |") == printed.count("| 4, random |") == 2  # single and cross
    assert sorted(folder.name for folder in (place / "runs").iterdir()) == ["4-cosine-0", "4-random-0"]
    assert '"gallery": "teacher (projected to 4)"' in (place / "runs" / "4-cosine-0" / "evaluation.json").read_text()
