from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from proxylesskd.export import deliver as making
from proxylesskd.export import package
from proxylesskd.export.agreement import LIMITS, Limits
from proxylesskd.export.assemble import KINDS, input_kind
from proxylesskd.export.contract import read_contract
from proxylesskd.export.package import Delivery, TeacherFile, deliver
from proxylesskd.export.thresholds import far_key
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import create_model
from proxylesskd.models.weights import save_model
from proxylesskd.teacher import load_teacher
from tests.export.material import make_pairs_set

SMALL = Preprocessing(size=56, mean=100.0, std=50.0, order="bgr")


def _student(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("mobilefacenet", dim=16, width=0.125, image_size=56).eval()


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return make_pairs_set()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.toml").write_text('[model]\nname = "mobilefacenet"\nwidth = 0.125\n[data]\ntrain = "folder:x"\n')
    teacher = folder / "teacher"
    teacher.mkdir()
    save_model(teacher / "model.safetensors", _student(1), SMALL)
    return folder


@pytest.fixture(scope="module")
def delivery(folder: Path, pairs: Pairs) -> Delivery:
    teacher = TeacherFile(load_teacher(folder / "teacher"), folder / "teacher")
    with pytest.MonkeyPatch.context() as patch:
        # a network that was never trained has nearly equal embeddings of everybody: eight bits decide at random
        patch.setitem(LIMITS, "int8", Limits(-1.0, 0.5, accuracy=1.0))  # type: ignore[arg-type]
        return deliver(
            folder,
            _student(0),
            SMALL,
            training=pairs.images,
            pairs=pairs,
            formats=("onnx", "int8"),
            kind=KINDS["uint8-nhwc-rgb"],
            teacher=teacher,
            weights="ab" * 32,
            metadata={"licence": "Apache-2.0"},
            force=True,
            repeats=1,
        )


def test_a_delivery_is_files_numbers_table_and_card(delivery: Delivery, folder: Path) -> None:
    names = {"student.onnx", "student.int8.onnx", "export.json", "export.md", "card.md", "recipe.toml", "teacher"}
    assert {entry.name for entry in folder.iterdir()} == names
    told = json.loads((folder / "export.json").read_text())
    assert [row["name"] for row in told["artefacts"]] == ["teacher", "onnx", "int8"]
    for row in told["artefacts"][1:]:
        assert row["sha256"] == hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest()
        assert {(one["threads"], one["batch"]) for one in row["latencies"]} == {(1, 1), (1, 32), (8, 1), (8, 32)}
        assert 0 <= row["accuracy"] <= 1
    assert told["sha256"] == told["artefacts"][1]["sha256"]
    assert delivery.table == (folder / "export.md").read_text() == told["table"]
    assert delivery.table.splitlines()[2].startswith("| teacher |")


def test_the_card_holds_what_somebody_needs(delivery: Delivery, folder: Path) -> None:
    text = delivery.card.read_text()
    for words in (
        "student.int8.onnx", "uint8", "Apache-2.0", "folder:x", "38.2946", hashlib.sha256(
            (folder / "student.onnx").read_bytes()
        ).hexdigest(), "| teacher |", "np.asarray(face)",
    ):  # fmt: skip
        assert words in text
    inside = {e.key: e.value for e in onnx.load(folder / "student.onnx").metadata_props}["card"]
    assert "ab" * 32 in inside
    assert "38.2946" in inside


def test_the_contract_holds_thresholds_of_both_modes(delivery: Delivery, folder: Path, pairs: Pairs) -> None:
    contract = read_contract(delivery.artefacts[0].path)
    assert contract.weights == "ab" * 32
    file = folder / "teacher" / "model.safetensors"
    fingerprint = load_teacher(folder / "teacher").fingerprint
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert contract.teacher == {"name": "teacher", "fingerprint": fingerprint, "sha256": digest}
    assert set(contract.thresholds) == {"single", "cross"}
    student = torch.nn.functional.normalize(_student(0)(SMALL(torch.from_numpy(pairs.images)))).detach().numpy()
    scores = (student[pairs.first] * student[pairs.second]).sum(1)[~pairs.same]
    threshold = contract.thresholds["single"]["1e-2"]
    assert (scores >= threshold).sum() <= 0.01 * len(scores)


def test_refused_files_end_with_an_error_and_passing_ones_stand(
    tmp_path: Path, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(making.LIMITS, "float16", Limits(1.1, 1.1))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"refused: student\.fp16\.onnx: found .* written were student\.onnx; --force"):
        deliver(tmp_path, _student(0), SMALL, training=pairs.images, pairs=pairs, formats=("onnx", "fp16"), repeats=1)
    assert (tmp_path / "student.onnx").is_file()
    assert (tmp_path / "card.md").is_file()
    assert not (tmp_path / "student.fp16.onnx").exists()


def test_nothing_is_written_when_nothing_passes(tmp_path: Path, pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(making.LIMITS, "float32", Limits(1.1, 1.1))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="refused, nothing was written"):
        deliver(tmp_path, _student(0), SMALL, training=pairs.images)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"formats": ("onx",)}, "expected a format among onnx, fp16, int8, .* found 'onx'; did you mean 'onnx'"),
        ({"formats": ()}, "expected a format among .*, found none"),
        ({"formats": ("int8",)}, "expected a verification set for the gate of int8, found none; give --pairs"),
        ({"formats": ("executorch",)}, r"ExecuTorch needs the package 'executorch': pip install"),
        ({"formats": ("litert",)}, r"LiteRT needs the package 'litert-torch': pip install 'proxylesskd\[litert\]'"),
        ({"formats": ("coreml",)}, r"Core ML needs the package 'coremltools': pip install 'proxylesskd\[coreml\]'"),
    ],
)
def test_what_cannot_be_made_is_refused(
    tmp_path: Path, pairs: Pairs, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], message: str
) -> None:
    for name in ("executorch.backends.xnnpack.partition.xnnpack_partitioner", "litert_torch", "coremltools"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    monkeypatch.setattr(package, "network_graph", lambda *_: None)
    with pytest.raises(UserError, match=message):
        deliver(tmp_path, _student(0), SMALL, training=pairs.images, **asked)
    assert not list(tmp_path.iterdir())


def test_kinds_and_rates_have_names() -> None:
    assert input_kind("uint8-nhwc-bgr").order == "bgr"
    with pytest.raises(UserError, match="did you mean 'uint8-nhwc-rgb'"):
        input_kind("uint8-nhwc-rbg")
    assert [far_key(far) for far in (1e-2, 1e-3, 1e-6)] == ["1e-2", "1e-3", "1e-6"]


def test_an_evaluation_of_the_run_gives_the_thresholds(tmp_path: Path, pairs: Pairs) -> None:
    from proxylesskd.evaluation.evaluation import measure

    random = np.random.default_rng(0)
    result = measure(random.normal(0.5 * pairs.same, 0.2), pairs, replicates=0)
    told = {
        "model": "s",
        "gallery": None,
        "pairs": {"name": "p", "genuine": 1, "impostor": 2},
        "single": result.to_dict(),
    }
    told["bootstrap"] = {"unit": "pairs", "replicates": 0, "seed": 0}
    (tmp_path / "evaluation.json").write_text(json.dumps(told))
    modes, curves = package.thresholds_of(tmp_path, None, np.ones((2, 2), np.float32), None, flip=False)
    assert modes == {"single": {"1e-2": result.tar[1e-2].threshold}}
    assert set(curves) <= {"single"}
    assert package.thresholds_of(tmp_path, None, np.ones((2, 2), np.float32), None, flip=True) == ({}, {})
