"""Opening models: an exported file against plain numpy, foreign ones, and files that lie."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from proxylesskd.errors import UserError
from proxylesskd.evaluation.calibration import Calibration
from proxylesskd.recognition.model import check_model, open_model
from proxylesskd.recognition.thresholds import Scale
from tests.recognition.stand_in import CURVE, DIM, WEIGHTS, aligned, colours, write_model

FACES = np.stack([aligned(number).transpose(2, 0, 1) for number in range(37)])


def test_an_exported_file_says_all_that_is_needed(model: Path) -> None:
    found = open_model(model)
    file = hashlib.sha256(model.read_bytes()).hexdigest()
    assert (found.name, found.dim, found.identity) == ("colours", DIM, WEIGHTS)
    assert found.hashes == {WEIGHTS, file}
    assert found.scale("single") == Scale({1e-2: 0.5, 1e-3: 0.7}, Calibration(**CURVE))
    assert found.scale("cross") == Scale({1e-2: 0.45, 1e-3: 0.65})
    assert found.scale("other") == Scale()
    embedded = found.embed(FACES)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(embedded, colours(FACES), atol=1e-5)
    assert found.embed(FACES[:0]).shape == (0, DIM)


def test_a_file_that_names_no_weights_is_known_by_itself(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", weights=None)
    assert open_model(path).identity == hashlib.sha256(path.read_bytes()).hexdigest()


def test_whose_student_it_is(tmp_path: Path) -> None:
    found = open_model(write_model(tmp_path / "m.onnx", teacher={"name": "big", "sha256": "t" * 64}))
    assert found.taught_by({"t" * 64})
    assert not found.taught_by({"big"})
    assert not open_model(write_model(tmp_path / "n.onnx")).taught_by({"t" * 64})


def test_runs_without_pytorch(model: Path, tmp_path: Path) -> None:
    from tests.photos.pictures import write

    photos = [str(write(tmp_path / f"{n}.png", aligned(n))) for n in range(2)]
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from proxylesskd.cli import main\n"
        f"main(['verify', *{photos!r}, '--model', {str(model)!r}, '--aligned'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("different people: similarity"), done.stderr


def test_a_foreign_model_is_known_by_weights_and_preprocessing(model: Path, tmp_path: Path) -> None:
    bare = onnx.load(str(model))
    del bare.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    onnx.save(bare, str(path))
    found, other = open_model(f"{path}:mean=127.5,std=127.5"), open_model(f"{path}:mean=0,std=1")
    assert hashlib.sha256(path.read_bytes()).hexdigest() in found.hashes & other.hashes
    assert found.identity != other.identity
    assert found.scales == {}
    np.testing.assert_allclose(found.embed(FACES), colours(FACES), atol=1e-5)


def test_a_run_folder_gives_thresholds_and_teacher(tmp_path: Path) -> None:
    from proxylesskd.models import create_model
    from proxylesskd.models.preprocess import Preprocessing
    from proxylesskd.models.weights import save_model

    network = create_model("mobilefacenet", dim=16, width=0.25)
    save_model(tmp_path / "student.safetensors", network, Preprocessing())
    said = {"provenance": {"teacher": "big", "teacher_fingerprint": "t" * 64}}
    (tmp_path / "classifier.json").write_text(json.dumps(said), encoding="utf-8")
    told = {"single": {"tar": [{"far": 0.01, "threshold": 0.3}], "calibration": None}}
    (tmp_path / "evaluation.json").write_text(json.dumps(told), encoding="utf-8")
    found = open_model(tmp_path)
    assert found.taught_by({"t" * 64})
    assert found.identity == hashlib.sha256((tmp_path / "student.safetensors").read_bytes()).hexdigest()
    assert open_model(f"{tmp_path}:mean=0,std=1").identity != found.identity
    assert found.scale("single").at(0.01) == 0.3
    assert np.linalg.norm(found.embed(FACES[:2]), axis=1) == pytest.approx(1, abs=1e-5)


def test_a_calibration_stands_in_place_of_the_models(model: Path, tmp_path: Path) -> None:
    told = {"single": {"tar": [{"far": 0.01, "threshold": 0.3}], "calibration": None}}
    (tmp_path / "evaluation.json").write_text(json.dumps(told), encoding="utf-8")
    assert open_model(model, calibration=tmp_path).scales == {"single": Scale({0.01: 0.3})}


def test_pairs_are_evaluated_for_it(model: Path, tmp_path: Path) -> None:
    from tests.photos.pictures import write

    rows = ["first,second,same,fold"]
    for k in range(12):
        same = k % 2 == 0
        one = write(tmp_path / f"{k}/a.png", aligned(2 * k))
        two = write(tmp_path / f"{k}/b.png", aligned(2 * k if same else 2 * k + 1, 1))
        rows.append(f"{one.relative_to(tmp_path)},{two.relative_to(tmp_path)},{int(same)},{k // 2}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
    found = open_model(model, calibration=tmp_path / "pairs.csv").scale("single")
    assert found.calibration is not None
    assert found.at(0.1) is None  # six impostor pairs do not support it
    assert found.calibration.probability(1.0) > 0.8 > 0.2 > found.calibration.probability(0.0)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nothing"):
        check_model(tmp_path / "none.onnx")
    text = tmp_path / "text.onnx"
    text.write_text("# not a model", encoding="utf-8")
    with pytest.raises(UserError, match="onnxruntime can run"):
        open_model(text)
    moved = [(x + 3, y) for x, y in [(38, 51), (73, 51), (56, 71), (41, 92), (70, 92)]]
    with pytest.raises(UserError, match="five points"):
        open_model(write_model(tmp_path / "moved.onnx", alignment=moved))
    with pytest.raises(UserError, match="thresholds by FAR"):
        open_model(write_model(tmp_path / "rates.onnx", thresholds={"single": {"7": 0.5}}))
    with pytest.raises(UserError, match="thresholds by FAR"):
        open_model(write_model(tmp_path / "curve.onnx", calibration={"single": {"slope": 1.0}}))


def test_embeddings_must_be_some(model: Path) -> None:
    grey = np.full((1, 3, 112, 112), 90, np.uint8)  # centred, nothing is left of it
    with pytest.raises(UserError, match="zero or non-finite"):
        open_model(model).embed(grey)
