"""Wheel and sdist are the same bytes whenever they are built, and the bare wheel recognises people."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
MOST_MIB = 600  # of a bare environment; PyTorch alone takes more


def _build(out: Path) -> dict[str, str]:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    _build(out)
    return out


@pytest.mark.slow
def test_two_builds_are_the_same_bytes(built: Path, tmp_path: Path) -> None:
    time.sleep(2)  # times in archives count in steps of two seconds
    first = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in built.iterdir()}
    assert _build(tmp_path) == first
    assert len(first) == 2


@pytest.mark.slow
def test_archives_hold_what_they_should(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"proxylesskd"}
    assert "proxylesskd/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    with tarfile.open(next(built.glob("*.tar.gz"))) as source:
        held = {member.name.split("/", 1)[1] for member in source.getmembers()}
    assert {"pyproject.toml", "README.md", "LICENSE", "SECURITY.md", "constraints.txt"} <= held
    assert not any("__pycache__" in name or name.startswith((".venv", "demo/")) for name in held)


@pytest.mark.slow
def test_the_bare_wheel_recognises_people(built: Path, tmp_path: Path) -> None:
    """Install the wheel into an empty environment: what pip brings is small, and enough for an exported file."""
    pytest.importorskip("onnx")
    from tests.recognition.stand_in import aligned, write_model

    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    run = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    wheel = str(next(built.glob("*.whl")))
    install = [str(run / "pip"), "install", "--quiet", "-c", str(ROOT / "constraints.txt"), wheel]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if "Failed to establish a new connection" in done.stderr or "Could not find a version" in done.stderr:
        pytest.skip(f"no package index is reached: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    size = sum(path.stat().st_size for path in (tmp_path / "env").rglob("*") if path.is_file()) >> 20
    assert size < MOST_MIB
    write_model(tmp_path / "student.onnx")
    for number in range(2):
        Image.fromarray(np.asarray(aligned(0, number))).save(tmp_path / f"{number}.png")

    def command(*words: str) -> str:
        told = subprocess.run(
            [str(run / "proxylesskd"), *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return told.stdout

    assert command("--version").startswith("proxylesskd ")
    assert command("verify", "0.png", "1.png", "--model", "student.onnx", "--aligned").startswith("same person")
    told = command("doctor", "--no-speed")
    assert "\nhealthy" in told
    assert "pip install 'proxylesskd[train]'" in told
    absent = subprocess.run([str(run / "python"), "-c", "import torch"], capture_output=True, check=False)
    assert absent.returncode != 0
    shutil.rmtree(tmp_path / "env")
