"""The folder in which the pages' commands are tried: all files that they name, made by the product itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import proxylesskd as pk
from proxylesskd.activity.windows import open_windows
from tests.documented.blocks import ROOT
from tests.documented.detector import photo_of, write_detector
from tests.faces import face, jpeg
from tests.recognition.stand_in import write_model

TRAINED, TESTED, IMAGES = 16, range(50, 80), 6
MADE = """
proxylesskd inherit teacher.onnx --data folder:faces --out classifier.safetensors --quiet
proxylesskd pairs folder:test-faces --genuine 60 --impostor 300 --out pairs.csv
proxylesskd pairs folder:test-faces --genuine 60 --impostor 300 --out lfw.bin
proxylesskd train --out runs/alone data.train=folder:faces model.dim=48 --quiet
proxylesskd distill --classifier classifier.safetensors --out runs/student data.train=folder:faces -q train.steps=60
proxylesskd evaluate runs/student pairs.csv --gallery teacher.onnx
proxylesskd evaluate runs/alone pairs.csv --gallery teacher.onnx
proxylesskd export runs/student --images folder:faces --pairs pairs.csv
proxylesskd enroll people --gallery people.pkd --model student.onnx
proxylesskd recipe > recipe.toml
proxylesskd convert folder:faces rec:ms1m
cp teacher.onnx sface.onnx
cp -r test-faces lfw-aligned
"""


def make_world(folder: Path) -> Path:
    """Make the folder; the teacher and the deployed student read colours, the runs are trained for four steps."""
    folder.mkdir()
    _write_faces(folder)
    _write_motion(folder)
    shutil.copytree(ROOT / "examples", folder / "examples")
    write_model(folder / "teacher.onnx")
    write_model(folder / "student.onnx")
    write_detector(folder / "detector.onnx")
    torch.manual_seed(0)
    torch.save(pk.create_model("iresnet18", dim=64, width=0.25).state_dict(), folder / "backbone.pth")
    (folder / "token").write_text("0123456789abcdef0123456789abcdef\n")
    (folder / "token").chmod(0o600)
    done = shell(MADE, folder)
    assert done.returncode == 0, done.stdout[-3000:]
    return folder


def _write_faces(folder: Path) -> None:
    for name, identities in (("faces", range(TRAINED)), ("test-faces", TESTED), ("people", TESTED), ("photos", TESTED)):
        for identity in identities:
            who = f"id-{identity:03d}"
            (folder / name / who).mkdir(parents=True)
            for number in range(IMAGES):
                picture = face(identity, number)
                picture = picture if name.endswith("faces") else photo_of(picture)
                (folder / name / who / f"{who}_{number + 1:04d}.jpg").write_bytes(jpeg(picture))
    for name, number in (("a.jpg", 0), ("b.jpg", 1)):
        Image.fromarray(photo_of(face(50, number))).save(folder / name, quality=95)
    lines = ["10\t2"]
    for fold in range(10):
        lines += [f"id-{fold:03d}\t{1 + n}\t{2 + n}" for n in range(2)]
        lines += [f"id-{fold:03d}\t1\tid-{fold + 1 + n:03d}\t3" for n in range(2)]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    for name, number in (("first.png", 0), ("second.png", 1)):
        Image.fromarray(face(50, number)).save(folder / name)


def _write_motion(folder: Path) -> None:
    """Write windows of synthetic gaits as UCI HAR's are published."""
    told = open_windows("gaits:0")
    people = np.unique(told.subjects)
    kept = np.isin(told.subjects, people[:6])
    subject = told.subjects.numpy()[kept]
    np.savez(
        folder / "uci-har.npz",
        x=told.values.numpy()[kept].transpose(0, 2, 1),
        y=told.labels.numpy()[kept],
        subject=subject,
        split=np.isin(subject, people[4:6]).astype(np.int64),
        activity_names=np.array(told.activities),
        rate_hz=told.rate,
    )


def shell(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block of shell in the folder, its ``proxylesskd`` and ``torchrun`` made small; both streams come back."""
    tools = folder / ".tools"
    _write_tools(tools)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PROXYLESSKD_YUNET": str(folder / "detector.onnx"),
        "COLUMNS": "200",
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )


def _write_tools(place: Path) -> None:
    """Write what stands before the real commands on the path."""
    if place.is_dir():
        return
    place.mkdir()
    small = f'exec "{sys.executable}" -m tests.documented.cheaply "$@"\n'
    swap = 'words=(); for word in "$@"; do [ "$word" = proxylesskd ] && word=tests.documented.cheaply; '
    swap += '[ "$word" = 4 ] && word=2; words+=("$word"); done\n'
    many = f'{swap}exec "{sys.executable}" -m torch.distributed.run "${{words[@]}}"\n'
    for name, body in (("proxylesskd", small), ("torchrun", many)):
        (place / name).write_text(f"#!/usr/bin/env bash\n{body}")
        (place / name).chmod(0o755)


def copy_of(world: Path, folder: Path) -> Path:
    """Return a copy of the folder that a page may change."""
    shutil.copytree(world, folder)
    return folder
