"""What a user gets wrong: one clear line on standard error, exit code 2, no traceback."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.cli import main
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import create_model
from proxylesskd.models.weights import save_model
from tests.faces import write_faces

SMALL = ["model.width=0.125", "model.image_size=48", "train.batch=4", "train.steps=2"]


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the command line, demand exit code 2 and one line, and return it."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


def main_ok(*arguments: object) -> None:
    """Run the command line and demand exit code 0."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert stop.value.code in (0, None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here: Path = tmp_path_factory.mktemp("bad")
    write_faces(here / "faces", identities=3, images=4)
    InheritedClassifier(torch.eye(3, 8), ["x", "y", "z"], {}).save(here / "other.safetensors")
    InheritedClassifier(torch.eye(3, 8), ["id-000", "id-001", "id-002"], {}).save(here / "c.safetensors")
    for dim in (8, 16):
        model = create_model("mobilefacenet", dim=dim, width=0.125, image_size=48)
        save_model(here / f"dim{dim}.safetensors", model, Preprocessing(size=48))
    return here


def no_face_model(path: Path) -> Path:
    """A valid ONNX graph that adds two vectors."""
    vector = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("a", "b", "c")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "sum", vector[:2], vector[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_missing_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = fails(capsys, "train", "-o", tmp_path / "run", f"data.train=folder:{tmp_path / 'nowhere'}", *SMALL)
    assert "nowhere" in line


@pytest.mark.parametrize(
    "verb",
    [
        lambda p: ["inherit", p / "no.onnx", "-o", p / "out.safetensors", "--data", p / "faces"],
        lambda p: ["evaluate", p / "dim8.safetensors", p / "no.csv"],
        lambda p: ["distill", "-o", p / "run0", "-c", p / "no.safetensors", f"data.train={p / 'faces'}"],
        lambda p: ["report", p / "no-run"],
        lambda p: ["export", p / "no-run", "--images", p / "faces"],
        lambda p: ["inspect", p / "no-faces"],
    ],
)
def test_a_missing_file_of_every_verb(
    capsys: pytest.CaptureFixture[str], place: Path, verb: Callable[[Path], list[object]]
) -> None:
    assert "no" in fails(capsys, *verb(place))


def test_labels_that_do_not_match_the_classifier(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    line = fails(
        capsys, "distill", "-o", out, "-c", place / "other.safetensors", f"data.train={place / 'faces'}", *SMALL
    )
    assert "found none for 3: 'id-000'" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "robusst"], "did you mean 'robust'"),
        (["--names", "nowhere.txt"], "nowhere.txt"),
        (["--keep", "nowhere.csv"], "nowhere.csv"),
        (["--extend", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--dim", "99", "--no-audit"], "99"),
    ],
)
def test_options_of_inherit(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    out = tmp_path / "c.safetensors"
    model, faces = place / "dim8.safetensors", place / "faces"
    assert message in fails(capsys, "inherit", model, "-q", "-o", out, "--data", faces, *options)
    assert not out.exists()


def test_the_teachers_own_dimension_is_no_projection(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    options = ["--dim", 8, "--no-audit", "--rows", "mean"]
    main_ok("inherit", place / "dim8.safetensors", "-q", "-o", out, "--data", place / "faces", *options)
    assert InheritedClassifier.load(out).projection is None


def test_a_checkpoint_with_the_rows_of_other_data(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    torch.save({"state_dict_softmax_fc": {"weight": torch.randn(7, 8)}}, tmp_path / "checkpoint_gpu_0.pt")
    line = fails(capsys, "inherit", tmp_path, "-q", "-o", tmp_path / "c.safetensors", "--data", place / "faces")
    assert "3" in line
    assert "7" in line


def test_an_onnx_that_is_no_face_model(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    model = no_face_model(tmp_path / "sum.onnx")
    line = fails(capsys, "inherit", model, "-o", tmp_path / "c.safetensors", "--data", place / "faces")
    assert "face" in line


def test_an_empty_identity_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_faces(tmp_path / "faces", identities=2, images=2)
    (tmp_path / "faces" / "nobody").mkdir()
    assert "nobody" in fails(capsys, "train", "-o", tmp_path / "run", f"data.train={tmp_path / 'faces'}", *SMALL)


def test_a_truncated_jpeg_is_counted_reported_and_survived(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_faces(tmp_path / "faces", identities=3, images=4)
    broken = tmp_path / "faces" / "id-001" / "002.jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    with pytest.raises(SystemExit) as stop:
        main(["train", "-q", "-o", str(tmp_path / "run"), f"data.train={tmp_path / 'faces'}", *SMALL, "train.steps=3"])
    assert stop.value.code in (0, None)
    assert "002.jpg" in (tmp_path / "run" / "data.json").read_text()
    assert "1 corrupt" in capsys.readouterr().out


def test_a_malicious_bin_is_refused_and_not_run(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    (tmp_path / "evil.bin").write_bytes(pickle.dumps(([Evil()], [True])))
    line = fails(capsys, "evaluate", place / "dim8.safetensors", tmp_path / "evil.bin")
    assert "system" in line
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("override", "nearest"), [("train.bach=3", "train.batch"), ("modle.name=x", "model"), ("batch=3", "train.batch")]
)
def test_an_unknown_key_names_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, override: str, nearest: str
) -> None:
    assert f"did you mean '{nearest}'" in fails(capsys, "train", "-o", tmp_path / "run", override)


def test_dimensions_that_do_not_fit(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    data = f"data.train={place / 'faces'}"
    line = fails(capsys, "distill", "-o", tmp_path / "r", "-c", place / "c.safetensors", data, "model.dim=16", *SMALL)
    assert "dimension 8, found model.dim=16" in line
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(
        "first,second,same,fold\n"
        "id-000/000.jpg,id-000/001.jpg,1,0\nid-000/000.jpg,id-001/001.jpg,0,0\n"
        "id-001/000.jpg,id-001/001.jpg,1,1\nid-002/000.jpg,id-001/001.jpg,0,1\n"
    )
    probe, gallery = place / "dim8.safetensors", place / "dim16.safetensors"
    line = fails(
        capsys, "evaluate", probe, pairs, "--root", place / "faces", "--gallery", gallery, "-o", tmp_path / "e"
    )
    assert "16" in line
    assert "8" in line


def test_a_run_is_never_written_over(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("seed = 1\n")
    assert "--resume" in fails(capsys, "train", "-o", tmp_path, f"data.train={place / 'faces'}", *SMALL)


def test_what_is_required_is_asked_for(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    assert "data.train=" in fails(capsys, "train", "-o", tmp_path / "a")
    assert "method.classifier=" in fails(capsys, "distill", "-o", tmp_path / "b", f"data.train={place / 'faces'}")


@pytest.mark.parametrize(
    ("setting", "hint"), [("method.engine=chunkd", "'chunked'"), ("method.margin=arcfase", "'arcface'")]
)
def test_a_method_that_there_is_none_of_leaves_no_run_behind(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, setting: str, hint: str
) -> None:
    faces = f"data.train=folder:{place / 'faces'}"
    line = fails(capsys, "distill", "-o", tmp_path / "run", "-c", place / "c.safetensors", faces, *SMALL, setting)
    assert f"did you mean {hint}" in line
    assert not (tmp_path / "run").exists()
