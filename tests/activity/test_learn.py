"""Training end to end on a few synthetic people; seconds, not accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from proxylesskd.activity.export import OneStep, export
from proxylesskd.activity.gaits import make_gaits
from proxylesskd.activity.learn import evaluate, learn
from proxylesskd.activity.plan import Plan
from proxylesskd.activity.recogniser import load_recogniser
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.recipe import laid_over
from proxylesskd.training.log import read_metrics

TEACHER = ("model.name=mixer", "model.dim=16", "model.layers=1", "method.name=alone")


@pytest.fixture(scope="session")
def windows(tmp_path_factory: pytest.TempPathFactory) -> str:
    found, path = make_gaits(people=6, windows=4, seed=0), tmp_path_factory.mktemp("windows") / "gaits.npz"
    split = np.isin(found.subjects.numpy(), found.tested)
    names, x = np.array(found.activities), found.values.permute(0, 2, 1).numpy()
    np.savez(path, x=x, y=found.labels, subject=found.subjects, split=split, activity_names=names, rate_hz=50)
    return f"npz:{path}"


def plan(windows: str, *settings: str) -> Plan:
    small = ("model.size=40", "model.token=8", "train.steps=6", "train.batch=16", "train.log_every=2")
    return laid_over(Plan(), None, [f"data.windows={windows}", *small, *settings])


@pytest.fixture(scope="session")
def teacher(windows: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "teacher"
    learn(plan(windows, *TEACHER), out, quiet=True)
    return out


@pytest.mark.parametrize("method", ["labels", "kl(share=0.7)", "js", "proxyless", "alone", "alone + rkd", "kd", "l2"])
def test_every_kind_of_method_trains_a_reservoir(windows: str, teacher: Path, tmp_path: Path, method: str) -> None:
    found = learn(plan(windows, f"method.name={method}"), tmp_path / "run", teacher=teacher, quiet=True)
    assert sum(found.asked.values()) == 2 * 6 * 4
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 6]
    told = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert told["accuracy"] == found.accuracy
    again = evaluate(tmp_path / "run")
    assert np.array_equal(again.confusion, found.confusion)


def test_a_reservoir_is_frozen_and_its_rows_are_the_teachers(windows: str, teacher: Path, tmp_path: Path) -> None:
    learn(plan(windows, "method.name=proxyless"), tmp_path / "run", teacher=teacher, quiet=True)
    model, _ = load_recogniser(tmp_path / "run" / "model.safetensors")
    inherited = InheritedClassifier.load(teacher / "classifier.safetensors")
    assert torch.equal(model.rows, torch.as_tensor(inherited.stored))  # type: ignore[arg-type]
    assert model.rows.shape == (6, 16)  # type: ignore[union-attr]
    learn(plan(windows, "method.name=ridge"), tmp_path / "ridge", quiet=True)
    other, _ = load_recogniser(tmp_path / "ridge" / "model.safetensors")
    mine, theirs = (one.body.network.reservoir.recurrent for one in (model, other))  # type: ignore[union-attr]
    assert torch.equal(mine, theirs)


def test_ridge_reads_the_final_states(windows: str, tmp_path: Path) -> None:
    from proxylesskd.activity.windows import open_windows

    learn(plan(windows, "method.name=ridge(strength=3)"), tmp_path / "run", quiet=True)
    model, _ = load_recogniser(tmp_path / "run" / "model.safetensors")
    train, _ = open_windows(windows).split("official")
    echo = model.body.network
    with torch.no_grad():
        state = echo.reservoir(echo.tokens(model.body.standard(train.values)))  # type: ignore[union-attr,operator]
        read = echo.reservoir.step(state, torch.zeros(8))  # type: ignore[union-attr,operator]
    linear = pytest.importorskip("sklearn.linear_model")
    theirs = linear.Ridge(alpha=3.0).fit(read.double().numpy(), np.eye(6)[train.labels.numpy()])
    assert np.allclose(model(train.values).detach().numpy(), theirs.predict(read.double().numpy()), atol=1e-3)


def test_a_stopped_training_goes_on_bitwise(windows: str, tmp_path: Path) -> None:
    """Steps 1 to 6, against 1 to 4 and then the rest from the checkpoint."""
    learn(plan(windows, "train.checkpoint_every=4"), tmp_path / "whole", quiet=True)
    learn(plan(windows, "train.checkpoint_every=4"), tmp_path / "cut", quiet=True)
    (tmp_path / "cut" / "checkpoints" / "step-00000006.pt").unlink()
    (tmp_path / "cut" / "model.safetensors").unlink()
    learn(plan(windows, "train.checkpoint_every=4"), tmp_path / "cut", resume=True, quiet=True)
    one, other = (load_recogniser(tmp_path / name / "model.safetensors")[0].state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_live_and_cached_teaching_agree_where_nothing_is_augmented(windows: str, teacher: Path, tmp_path: Path) -> None:
    for how in ("live", "cached"):
        settings = ("method.name=kl", f"method.cache={how}", "data.jitter=0")
        learn(plan(windows, *settings), tmp_path / how, teacher=teacher, quiet=True)
    one, other = (load_recogniser(tmp_path / how / "model.safetensors")[0].state_dict() for how in ("live", "cached"))
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (("method.name=kl",), "teacher"),
        (("method.name=proxyless",), "classifier"),
        (("method.name=ridge", "model.name=mixer"), "model.name=echo"),
        (("method.name=prxyless",), "did you mean 'proxyless'"),
        (("model.name=ecko",), "did you mean 'echo'"),
        (("data.test=99",), "subjects"),
    ],
)
def test_what_cannot_be_is_refused(windows: str, tmp_path: Path, settings: tuple[str, ...], found: str) -> None:
    with pytest.raises(UserError, match=found):
        learn(plan(windows, *settings), tmp_path / "run", quiet=True)


def test_a_run_is_not_written_over_and_a_strange_teacher_is_refused(
    windows: str, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="found a run"):
        learn(plan(windows), teacher, quiet=True)
    with pytest.raises(UserError, match="expected a teacher of"):
        learn(plan(_renamed(windows, tmp_path)), tmp_path / "run", teacher=teacher, quiet=True)


def _renamed(windows: str, folder: Path) -> str:
    held = dict(np.load(windows.removeprefix("npz:")))
    np.savez(folder / "other.npz", **held | {"activity_names": np.array(list("abcdef"))})
    return f"npz:{folder / 'other.npz'}"


def test_streaming_a_patch_at_a_time_gives_the_windows_logits(windows: str, teacher: Path, tmp_path: Path) -> None:
    for method, stride in (("labels", 16), ("proxyless", 8)):
        run = tmp_path / method
        learn(plan(windows, f"method.name={method}", f"model.stride={stride}"), run, teacher=teacher, quiet=True)
        model, _ = load_recogniser(run / "model.safetensors")
        step, values = OneStep(model), make_gaits(people=1, windows=1, seed=3).values
        state = torch.zeros(len(values), 40)
        for start in range(0, 128 - 16 + 1, stride):
            logits, state = step(values[:, :, start : start + 16], state)
        assert torch.allclose(logits, model(values), atol=1e-4)


def test_exported_files_agree_with_the_model_and_with_each_other(windows: str, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    learn(plan(windows), tmp_path / "run", quiet=True)
    paths = export(tmp_path / "run")
    assert [path.name for path in paths] == ["model.onnx", "step.onnx"]
    whole, step = (ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in paths)
    values = make_gaits(people=1, windows=1, seed=3).values.numpy()
    model, _ = load_recogniser(tmp_path / "run" / "model.safetensors")
    (logits,) = whole.run(None, {"windows": values})
    assert np.allclose(logits, model(torch.from_numpy(values)).detach().numpy(), atol=1e-4)
    state = np.zeros((len(values), 40), np.float32)
    for start in range(0, 128 - 16 + 1, 8):
        said, state = step.run(["logits", "next"], {"patch": values[:, :, start : start + 16], "state": state})
    assert np.allclose(said, logits, atol=1e-4)


def test_only_a_reservoir_streams(teacher: Path) -> None:
    with pytest.raises(UserError, match="a reservoir to stream, found PatchMixer"):
        OneStep(load_recogniser(teacher / "model.safetensors")[0])
