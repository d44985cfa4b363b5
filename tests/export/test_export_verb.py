"""The verb itself, on a run folder of a network that nobody trained and faces in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from proxylesskd.cli import main
from proxylesskd.data.decode import encode_png
from proxylesskd.export import deliver
from proxylesskd.export.agreement import LIMITS, Limits
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import create_model
from proxylesskd.models.weights import save_model
from tests.faces import face


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("verb")
    lines = ["first,second,same"]
    for person in range(24):
        folder = place / "faces" / f"p{person:02}"
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.png").write_bytes(encode_png(face(person, number).transpose(2, 0, 1)))
        lines.append(f"p{person:02}/0.png,p{person:02}/1.png,1")
        lines.append(f"p{person:02}/0.png,p{(person + 1) % 24:02}/1.png,0")
    (place / "pairs.csv").write_text("\n".join(lines) + "\n")
    return place


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = create_model("mobilefacenet", dim=16, width=0.125, image_size=56).eval()
    save_model(tmp_path / "student.safetensors", model, Preprocessing(size=56))
    return tmp_path


def _export(run: Path, place: Path, *options: str) -> int:
    source = ["--images", f"folder:{place / 'faces'}", "--pairs", str(place / "pairs.csv")]
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run), *source, "--root", str(place / "faces"), *options])
    return int(ended.value.code or 0)


def test_the_verb_writes_files_table_and_card(run: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-f", "onnx", "-f", "fp16", "--input", "uint8-nhwc-bgr", "--flip", "--licence", "MIT"]
    assert _export(run, place, *options) == 0
    out = capsys.readouterr().out
    assert "| fp16 |" in out
    assert "card.md" in out
    assert {entry.name for entry in run.iterdir()} == {
        "student.safetensors", "student.onnx", "student.fp16.onnx", "export.json", "export.md", "card.md"
    }  # fmt: skip
    told = json.loads((run / "export.json").read_text())
    assert told["provenance"]["licence"] == "MIT"
    assert (told["dtype"], told["flip_fusion"], told["preprocessing"]["order"]) == ("uint8", True, "bgr")


def test_what_the_gate_refuses_ends_with_2_unless_forced(
    run: Path, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(deliver.LIMITS, "float32", Limits(1.1, 1.1))  # type: ignore[arg-type]
    assert LIMITS["float32"].every == 1.1
    assert _export(run, place) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: refused, nothing was written: student.onnx: found a cosine of")
    assert error.count("\n") == 1
    assert [entry.name for entry in run.iterdir()] == ["student.safetensors"]
    assert _export(run, place, "--force") == 0
    assert "| onnx (refused) |" in capsys.readouterr().out
    assert "kept by force" in (run / "card.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "tflite"], "expected a format among"),
        (["--input", "nhwc"], "expected an input among"),
        (["--teacher", "nowhere.onnx"], "nothing at"),
    ],
)
def test_wrong_options_end_with_2(
    run: Path, place: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert _export(run, place, *options) == 2
    assert message in capsys.readouterr().err
