"""An evaluation says of which model it is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.evaluation.evaluation import evaluate
from proxylesskd.evaluation.maker import maker_of
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import create_model
from proxylesskd.models.weights import save_model
from proxylesskd.recognition.model import open_model
from proxylesskd.recognition.thresholds import read_scales
from proxylesskd.teacher import as_embedder, load_teacher
from tests.export.material import make_pairs_set


def write_run(folder: Path, seed: int) -> Path:
    folder.mkdir()
    torch.manual_seed(seed)
    network = create_model("mobilefacenet", dim=8, width=0.125, image_size=32)
    save_model(folder / "student.safetensors", network, Preprocessing(size=32))
    return folder


def test_a_run_is_known_by_its_weights_and_with_options_by_its_fingerprint(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1)
    digest = hashlib.sha256((run / "student.safetensors").read_bytes()).hexdigest()
    plain, other = load_teacher(run), load_teacher(f"{run}:order=bgr")
    told = maker_of(run, plain)
    assert told == {
        "fingerprint": plain.fingerprint,
        "preprocessing": plain.preprocessing.to_dict(),
        "file": digest,
        "weights": digest,
    }
    changed = maker_of(f"{run}:order=bgr", other)
    assert (changed["fingerprint"], changed["file"]) == (other.fingerprint, digest)
    assert "weights" not in changed
    assert maker_of(plain, plain) == {key: told[key] for key in ("fingerprint", "preprocessing")}
    assert maker_of(torch.nn.Identity(), as_embedder(plain))["fingerprint"] == plain.fingerprint


def test_an_exported_file_is_known_by_the_weights_in_its_contract(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tests.recognition.stand_in import WEIGHTS, write_model

    told = maker_of(file := write_model(tmp_path / "a.onnx"), load_teacher(file))
    assert (told["weights"], told["file"]) == (WEIGHTS, hashlib.sha256(file.read_bytes()).hexdigest())
    told = maker_of(file := write_model(tmp_path / "b.onnx", weights=None), load_teacher(file))
    assert told["weights"] == told["file"]


def test_another_models_evaluation_is_no_calibration(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tests.recognition.stand_in import write_model

    pairs = make_pairs_set()
    run, other = write_run(tmp_path / "run", 1), write_run(tmp_path / "other", 2)
    for name, model in (("own", run), ("bgr", f"{run}:order=bgr"), ("other", other), ("module", load_teacher(other))):
        evaluate(model, pairs, replicates=0).save(tmp_path / name, pictures=False)
    own, asked = open_model(run), tmp_path / "own"
    assert open_model(run, calibration=asked).scales == read_scales(asked)
    with pytest.raises(UserError, match=r"expected an evaluation of 'run' in .*found one of 'other'"):
        open_model(run, calibration=tmp_path / "other")
    with pytest.raises(UserError, match=r"of 'run' in .*found one of 'other'"):
        open_model(run, calibration=tmp_path / "module")
    with pytest.raises(UserError, match=r"the same weights with other preprocessing \(size=32, .*order=bgr"):
        open_model(run, calibration=tmp_path / "bgr")
    with pytest.raises(UserError, match=r"the same weights with other preprocessing \(size=32, .*order=rgb"):
        open_model(f"{run}:order=bgr", calibration=asked)
    assert open_model(f"{run}:order=bgr", calibration=tmp_path / "bgr").scales == read_scales(tmp_path / "bgr")
    # files exported from the run share its weights; any other file does not
    mine = write_model(tmp_path / "mine.onnx", weights=own.identity)
    assert open_model(mine, calibration=asked).scales == read_scales(asked)
    with pytest.raises(UserError, match=r"of 'mine' in .*found one of 'other'"):
        open_model(mine, calibration=tmp_path / "other")
    # an evaluation of something in memory says nothing that an exported file could be held against
    assert open_model(mine, calibration=tmp_path / "module").scales == read_scales(tmp_path / "module")
