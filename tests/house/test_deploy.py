"""The installation without extras uses exported files: it has no PyTorch and never asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")

from tests.recognition.stand_in import aligned, write_model

ROOT = Path(__file__).resolve().parents[2]
# As if nothing but the core dependencies were installed.
BARE = """
import importlib.abc, sys
ABSENT = {"torch", "jinja2", "matplotlib", "onnx", "onnxscript", "anny", "numba", "h5py", "webdataset",
          "pyarrow", "lmdb", "faiss", "tensorboard",
          "fastapi", "starlette", "uvicorn", "scipy", "sklearn"}
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Absent())
"""


def _bare(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BARE + code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _command(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return _bare(f"from proxylesskd.cli import main\nmain({list(words)!r})", folder)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed")
    write_model(folder / "student.onnx")
    for identity in range(3):
        for number in range(2):
            path = folder / "people" / f"p{identity}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(aligned(identity, number))).save(path)
    return folder


def test_photos_are_verified_enrolled_and_identified(deployed: Path) -> None:
    asked = ("--model", "student.onnx", "--aligned")
    done = _command("verify", "people/p0/0.png", "people/p0/1.png", *asked, folder=deployed)
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "same person"), done.stderr
    done = _command("enroll", "people", "--gallery", "g.pkd", "--quiet", *asked, folder=deployed)
    assert done.returncode == 0, done.stderr
    assert "6 of 6 photos" in done.stdout
    done = _command("identify", "people/p2/1.png", "--gallery", "g.pkd", "--threshold", "0.5", *asked, folder=deployed)
    assert done.stdout.startswith("p2:"), done.stderr


def test_recognizer_and_convert_need_no_torch(deployed: Path) -> None:
    done = _bare(
        "import proxylesskd as pk\nr = pk.Recognizer('student.onnx', aligned=True)\n"
        "print(r.verify('people/p0/0.png', 'people/p1/0.png').same)\n"
        "print(pk.Gallery.__name__, len(r.embed(['people/p0/0.png'])))",
        deployed,
    )
    assert done.stdout.split() == ["False", "Gallery", "1"], done.stderr
    done = _command("convert", "folder:people", "rec:packed", folder=deployed)
    assert "6 images written" in done.stdout, done.stderr
    done = _command("convert", "rec:packed", "wds:shards", folder=deployed)
    assert "6 images written" in done.stdout, done.stderr
    done = _command("convert", "wds:shards", "folder:again", folder=deployed)
    assert "6 images written" in done.stdout, done.stderr


def test_the_service_needs_no_torch(deployed: Path) -> None:
    pytest.importorskip("fastapi")
    command = (
        BARE.replace('"fastapi", "starlette", "uvicorn", ', "") + "import proxylesskd.serving.service\nprint('here')"
    )
    done = subprocess.run([sys.executable, "-c", command], cwd=deployed, capture_output=True, text=True, check=False)
    assert done.stdout == "here\n", done.stderr


@pytest.mark.parametrize(
    "words",
    [["list-models"], ["recipe"], ["evaluate", "a", "b"], ["compatible", "a", "b", "c"], ["report", "."]],
    ids=lambda words: words[0],
)
def test_a_verb_that_trains_names_the_extra(deployed: Path, words: list[str]) -> None:
    done = _command(*words, folder=deployed)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1
    assert "pip install 'proxylesskd[train]'" in done.stderr


def test_a_name_that_trains_names_the_extra(deployed: Path) -> None:
    done = _bare(
        "import proxylesskd as pk\ntry:\n  pk.distill\nexcept pk.UserError as error:\n  print(error)", deployed
    )
    assert done.stdout == "proxylesskd.distill needs the package 'torch': pip install 'proxylesskd[train]'\n"
    done = _command("verify", "people/p0/0.png", "people/p0/1.png", "--model", "people", "--aligned", folder=deployed)
    assert "proxylesskd[train]" in done.stderr, done.stderr


def test_other_missing_modules_are_no_advice() -> None:
    from proxylesskd.errors import needing_training

    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needing_training("this"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401


def test_the_core_is_small() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {line.split(">=")[0] for line in project["dependencies"]}
    assert core == {
        "numpy",
        "onnxruntime",
        "opencv-python-headless",
        "pillow",
        "rich",
        "safetensors",
        "simplejpeg",
        "typer",
    }
    assert any(line.startswith("torch>=2.9") for line in project["optional-dependencies"]["train"])
    assert "train" in project["optional-dependencies"]["all"][0]
    assert "proxylesskd[all]" in project["optional-dependencies"]["dev"]
