"""The verbs as a shell runs them; what is wrong is one clear line and exit 2, in two seconds and one GiB."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter

from proxylesskd.photos.detect import MODEL_VARIABLE
from proxylesskd.recognition.recognizer import Recognizer
from tests.photos.pictures import png_claiming, write
from tests.recognition.stand_in import aligned, write_model

BESIDE = Path(__file__).parents[3] / "shared" / "data" / "teachers" / "face_detection_yunet_2023mar_int8bq.onnx"
YUNET = Path(os.environ.get(MODEL_VARIABLE) or BESIDE)
needs_yunet = pytest.mark.skipif(not YUNET.is_file(), reason=f"no YuNet: {MODEL_VARIABLE} names none")
SECONDS, BYTES = 2, 1 << 30


def drawn_face() -> npt.NDArray[np.uint8]:
    """Return a [240, 240, 3] drawing that a detector takes for a face, and that is nobody's."""
    picture = Image.new("RGB", (240, 240), (90, 110, 130))
    draw, hair = ImageDraw.Draw(picture), (60, 40, 30)
    draw.ellipse((60, 30, 180, 200), fill=hair)
    draw.ellipse((70, 50, 170, 205), fill=(215, 165, 140))
    for x in (95, 145):
        draw.line((x - 14, 98, x + 14, 95), fill=hair, width=5)
        draw.ellipse((x - 12, 106, x + 12, 118), fill=(245, 245, 245))
        draw.ellipse((x - 6, 105, x + 6, 118), fill=hair)
    draw.polygon([(120, 115), (111, 150), (129, 150)], fill=(190, 140, 115))
    draw.ellipse((98, 166, 142, 184), fill=(170, 70, 70))
    draw.line((98, 175, 142, 175), fill=(110, 40, 40), width=2)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(2.5)))


def bounded() -> None:
    """Let the process end if it takes more than it may."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))


def run(*words: object) -> subprocess.CompletedProcess[str]:
    # one thread for each library: what they set aside by thread would count as memory on a machine of many cores
    quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "proxylesskd", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **quiet},
        preexec_fn=bounded,
    )


def refused(*words: object) -> str:
    """The one line that a wrong call leaves."""
    done = run(*words)
    assert done.returncode == 2, (done.returncode, done.stderr[-2000:])
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    write(made / "a.png", aligned(0))
    write(made / "b.png", aligned(0, 1))
    write(made / "grey.jpg", np.full((300, 400, 3), 128, np.uint8), form="JPEG")
    (made / "text.jpg").write_text("a text file\n" * 100, encoding="utf-8")
    (made / "huge.png").write_bytes(png_claiming(30_000, 30_000))
    return made


def test_photos_that_are_none(model: Path, folder: Path) -> None:
    good = folder / "a.png"
    asked = ("--model", model, "--aligned")
    assert "another or no image format" in refused("verify", good, folder / "text.jpg", *asked)
    assert "at most 120 megapixels, found more than 179; shrink it" in refused(
        "verify", folder / "huge.png", good, *asked
    )
    assert "No such file" in refused("verify", good, folder / "none.jpg", *asked)
    assert "found 400x300" in refused("verify", good, folder / "grey.jpg", *asked)


def test_models_that_are_none(model: Path, folder: Path) -> None:
    both = (folder / "a.png", folder / "b.png")
    assert "found nothing" in refused("verify", *both, "--model", folder / "none.onnx", "--aligned")
    text = folder / "text.onnx"
    text.write_text("no model", encoding="utf-8")
    assert "onnxruntime can run" in refused("verify", *both, "--model", text, "--aligned")
    assert "--calibration" in refused("verify", *both, "--model", model, "--aligned", "--far", "1e-6")
    assert "found none at" in refused("verify", *both, "--model", model, "--detector", folder / "none.onnx")


@needs_yunet
def test_photos_without_a_face(model: Path, folder: Path) -> None:
    asked = ("--model", model, "--detector", YUNET)
    assert "expected a face in" in refused("verify", folder / "grey.jpg", folder / "grey.jpg", *asked)


@needs_yunet
def test_photos_with_two_faces(model: Path, tmp_path: Path) -> None:
    face = drawn_face()
    one = write(tmp_path / "one.png", face)
    two = write(tmp_path / "two.png", np.concatenate([face, face], axis=1))
    asked = ("--model", model, "--detector", YUNET)
    said = refused("verify", one, two, *asked)
    assert f"expected one face in '{two}', found 2 faces" in said
    assert "--face largest" in said
    done = run("verify", one, two, *asked, "--face", "largest")
    assert done.stdout.startswith("same person"), done.stderr


def test_galleries_that_are_none(model: Path, folder: Path, tmp_path: Path) -> None:
    asked = ("--model", model, "--aligned", "--gallery")
    assert "proxylesskd enroll" in refused("identify", folder / "a.png", *asked, tmp_path / "none.pkd")
    assert "expected a gallery" in refused("identify", folder / "a.png", *asked, folder / "text.jpg")
    write(tmp_path / "people/Ann/1.png", aligned(0))
    other = write_model(tmp_path / "other.onnx", weights="o" * 64)
    Recognizer(model, aligned=True).enroll(tmp_path / "people", tmp_path / "g.pkd")
    wrong = ("--model", other, "--aligned", "--gallery", tmp_path / "g.pkd")
    assert "similarities would mean nothing" in refused("identify", folder / "a.png", *wrong)
    assert "only its own model enrolls" in refused("enroll", tmp_path / "people", *wrong, "-q")


def test_the_verbs_answer_within_these_bounds_too(model: Path, folder: Path) -> None:
    done = run("verify", folder / "a.png", folder / "b.png", "--model", model, "--aligned")
    assert done.stdout.startswith("same person: similarity 1.0000 >= threshold 0.7000"), done.stderr
