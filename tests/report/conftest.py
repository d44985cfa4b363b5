"""A run folder with everything in it, written by hand: the page must say what these files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faces import face, jpeg

HOSTILE = '<script>alert("x")</script>&'


def mode(tar: float, accuracy: float) -> dict[str, Any]:
    """One mode of an evaluation.json with two supported FARs, one that rests on few pairs, one unsupported."""
    return {
        "accuracy": {
            "value": accuracy,
            "lower": accuracy - 0.01,
            "upper": accuracy + 0.01,
            "std": 0.01,
            "threshold": 0.3,
        },
        "auc": {"value": 0.9712, "lower": None, "upper": None},
        "eer": {"value": 0.0834, "threshold": 0.3},
        "tar": [
            {"far": 0.1, "tar": _estimate(0.99), "threshold": 0.2, "impostor_pairs_allowed": 300},
            {"far": 0.01, "tar": _estimate(tar), "threshold": 0.31415, "impostor_pairs_allowed": 30},
            {"far": 0.001, "tar": _estimate(tar / 2), "threshold": 0.41, "impostor_pairs_allowed": 3},
            {"far": 0.0001, "tar": None, "threshold": None, "impostor_pairs_allowed": 0},
        ],
        "roc": {"far": [0.0, 0.001, 0.01, 1.0], "tar": [0.0, tar / 2, tar, 1.0]},
        "histogram": {"edges": [-0.5, 0.0, 0.5, 1.0], "genuine": [0, 1, 9], "impostor": [0, 8, 2]},
    }


def _estimate(value: float) -> dict[str, float]:
    return {"value": value, "lower": value - 0.0123, "upper": value + 0.0045}


def evaluation(single: float, cross: float | None = None) -> dict[str, Any]:
    """An evaluation.json whose TARs at FAR 1e-2 are the arguments."""
    told = {
        "model": "a model",
        "gallery": None if cross is None else "resnet teacher",
        "pairs": {"name": "held-out.csv", "genuine": 1234, "impostor": 3000},
        "bootstrap": {"unit": "identities", "replicates": 1000, "seed": 0},
        "single": mode(single, 0.9111),
    }
    return told if cross is None else {**told, "cross": mode(cross, 0.8222)}


EXPORT = {
    "file": "student.onnx",
    "bytes": 4_823_456,
    "sha256": "ab" * 32,
    "opset": 20,
    "dim": 128,
    "normalised": True,
    "preprocessing": {
        "size": 112,
        "mean": 127.5,
        "std": 127.5,
        "order": "rgb",
        "layout": "nchw",
        "alignment": [[1, 2]],
    },
    "provenance": {},
    "gate": {},
    "machine": "a quiet machine",
    "latencies": [
        {"batch": 1, "threads": 1, "milliseconds": 7.31, "images_per_second": 136.8},
        {"batch": 32, "threads": 1, "milliseconds": 201.4, "images_per_second": 158.9},
    ],
    "parameters": 1_204_288,
    "multiply_adds": 221_000_000,
}

RECIPE = """seed = 41
[data]
train = "folder:faces"
[model]
name = "mobilefacenet"
[method]
name = "proxyless"
nesterov = true
classifier = ""
milestones = [0.4, 0.65]
"""


def write(path: Path, value: Any) -> None:
    """Write JSON, or text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def write_metrics(folder: Path, loss: float) -> None:
    rows: list[dict[str, Any]] = [{"step": step, "loss": loss / step, "accuracy": 0.1 * step} for step in (1, 2, 3000)]
    rows.append({"step": 3000, "note": f"a warning & {loss}"})
    write(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """The folder of a ProxylessKD student with a teacher and a student alone beside it."""
    folder = tmp_path / "my run"
    write(folder / "recipe.toml", RECIPE)
    write(
        folder / "classifier.json",
        {"identities": 4233, "dim": 128, "provenance": {"teacher": "the-teacher", "images": 7}},
    )
    write(folder / "evaluation.json", evaluation(0.8765, 0.8543))
    write(folder / "export.json", EXPORT)
    write_metrics(folder, 20.0)
    write(folder / "baselines" / "student alone" / "evaluation.json", evaluation(0.7101, 0.0105))
    write_metrics(folder / "baselines" / "student alone", 30.0)
    write(folder / "baselines" / "teacher" / "evaluation.json", evaluation(0.9902))
    write(folder / "baselines" / "teacher" / "speed.json", {"bytes": 88_000_000, "machine": "a quiet machine"})
    for name, identity in (("00-a.jpg", 1), ("00-b.jpg", 2)):
        (folder / "wrong_pairs").mkdir(exist_ok=True)
        (folder / "wrong_pairs" / name).write_bytes(jpeg(face(identity, 0)))
    entry = {"files": ["00-a.jpg", "00-b.jpg"], "names": ["ann/0.jpg", "bob/0.jpg"], "score": 0.6789, "same": False}
    told = {"model": "ProxylessKD student", "threshold": 0.3456, "pairs": [entry]}
    write(folder / "wrong_pairs" / "wrong_pairs.json", told)
    return folder
