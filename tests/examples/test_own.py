"""The examples of extending train a student, each named on the command line as its first lines say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from proxylesskd.cli import main
from proxylesskd.errors import UserError
from proxylesskd.losses.make_margin import make_margin
from proxylesskd.methods.catalogue import entry_of, expand
from proxylesskd.own import import_own
from tests.faces import write_faces
from tests.recognition.stand_in import DIM, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = ("train.steps=4", "train.batch=8", "model.image_size=32", "model.name=own_backbone:three_convolutions")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    for file in EXAMPLES.glob("own_*.py"):
        shutil.copy(file, tmp_path)
        monkeypatch.delitem(sys.modules, file.stem, raising=False)
    write_faces(tmp_path / "faces", identities=30, images=3)
    write_model(tmp_path / "teacher.onnx")
    _run("inherit", "teacher.onnx", "--data", "folder:faces", "--out", "classifier.safetensors", "--no-audit")
    return tmp_path


def _run(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--quiet"])
    assert not ended.value.code


def _distil(*words: str) -> list[dict[str, float]]:
    _run("distill", "--classifier", "classifier.safetensors", "--no-audit", "--out", "run", *SMALL, *words)
    return [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]


def test_every_example_is_short() -> None:
    for file in EXAMPLES.glob("own_*.py"):
        assert len(file.read_text().splitlines()) < 40, file.name


def test_backbone_margin_method_and_source_train_together(place: Path) -> None:
    (place / "flat").mkdir()
    for file in (place / "faces").rglob("*.jpg"):
        shutil.copy(file, place / "flat" / f"{file.parent.name}_{file.stem}.jpg")
    formula = "method.name=proxyless + 0.5*own_method:Angle(power=2)"
    source, margin = "data.train=python:own_source:Flat:flat", "method.margin=own_margin:Sure"
    told = _distil("--teacher", "teacher.onnx", formula, source, margin, "method.m=0.4")
    parts = told[-1]["parts"]
    whole = parts["proxyless.loss"] + 0.5 * parts["Angle.loss"]
    assert whole == pytest.approx(told[-1]["loss"])


def test_its_code_is_run_only_where_it_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _distil("data.train=folder:faces")
    _run_plain("pairs", "folder:faces", "--genuine", "10", "--impostor", "20", "--out", "pairs.csv")
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "run", "pairs.csv"])
    assert ended.value.code == 2
    assert "architecture=own_backbone:three_convolutions' to run that code" in capsys.readouterr().err


def test_a_run_with_a_backbone_of_ones_own_is_evaluated_where_its_module_is(place: Path) -> None:
    _distil("data.train=folder:faces")
    _run_plain("pairs", "folder:faces", "--genuine", "10", "--impostor", "20", "--out", "pairs.csv")
    student, told = "run:architecture=own_backbone:three_convolutions", "out/evaluation.json"
    _run_plain("evaluate", student, "pairs.csv", "--gallery", "teacher.onnx", "--out", "out")
    assert (place / told).is_file()


def _run_plain(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert not ended.value.code


def test_the_margin_takes_from_the_target_alone() -> None:
    sys.path.insert(0, str(EXAMPLES))
    try:
        margin = make_margin("own_margin:Sure", 0.4)
    finally:
        sys.path.remove(str(EXAMPLES))
    target = margin(torch.tensor([-1.0, 0.0, 1.0]), torch.ones(3)).target
    assert target.tolist() == pytest.approx([-1.0, -0.2, 0.6])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:Thing", "expected an importable module"),
        ("json:Dumps", "expected a callable 'Dumps' in module 'json', found none; did you mean 'dumps'"),
        ("json:__name__", "expected a callable '__name__'"),
        (":Thing", "expected package.module:name"),
    ],
)
def test_what_is_not_there_is_named(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        import_own(name)


def test_a_class_without_needs_is_no_method() -> None:
    with pytest.raises(UserError, match=r"expected json:JSONDecoder.needs, a frozenset of balanced"):
        _ = entry_of("json:JSONDecoder").needs
    with pytest.raises(UserError, match="expected an option of json:JSONDecoder, found 'power'"):
        expand("0.5*json:JSONDecoder(power=2)")


@pytest.mark.slow
def test_the_command_finds_modules_in_the_working_folder(place: Path) -> None:
    words = ["distill", "--classifier", "classifier.safetensors", "--no-audit", "--out", "run", *SMALL]
    command = [sys.executable, "-m", "proxylesskd", *words, "data.train=folder:faces", "method.margin=own_margin:Sure"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert DIM == 48
