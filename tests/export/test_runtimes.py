from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.export import mobile, runtimes
from proxylesskd.export.assemble import FLOAT, KINDS
from proxylesskd.export.contract import TEMPLATE, Contract
from proxylesskd.export.runtimes import embed_file, open_file, read_beside, write_beside
from proxylesskd.export.whole import Whole, example_of
from tests.export.conftest import Exported
from tests.export.material import WANTED, make_pairs_set, make_small


@pytest.fixture
def contract() -> Contract:
    return Contract(WANTED, 16, True, TEMPLATE, {"made_by": "a test"}, thresholds={"single": {"1e-2": 0.25}})


def test_a_contract_stands_beside_a_file_without_room(contract: Contract, tmp_path: Path) -> None:
    path = tmp_path / "student.pte"
    write_beside(path, contract)
    assert read_beside(path) == contract
    assert json.loads((tmp_path / "student.pte.json").read_text())["dim"] == 16


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": 99}'])
def test_a_contract_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "student.pte.json").write_text(text)
    with pytest.raises(UserError, match=r"expected the contract of 'student\.pte' in .*student\.pte\.json"):
        read_beside(tmp_path / "student.pte")


def test_endings_choose_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"expected an exported file \(\.onnx, \.tflite, \.pte, \.mlpackage\)"):
        open_file(tmp_path / "student.bin")
    for package in ("ai_edge_litert.interpreter", "executorch.runtime"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"'ai-edge-litert': pip install 'proxylesskd\[litert\]'"):
        open_file(tmp_path / "student.tflite")
    with pytest.raises(UserError, match=r"'executorch': pip install 'proxylesskd\[executorch\]'"):
        open_file(tmp_path / "student.pte")
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(UserError, match=r"expected macOS to run 'student\.mlpackage'"):
        open_file(tmp_path / "student.mlpackage")


def test_a_runtime_that_cannot_open_a_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, threads: int) -> None:
        raise RuntimeError("bad magic\nand pages more")

    monkeypatch.setitem(runtimes.RUNNERS, ".pte", fail)
    with pytest.raises(UserError, match=r"its runtime can open, found .*student\.pte: bad magic$"):
        open_file(tmp_path / "student.pte")


class _Sums:
    """A runtime of our own: sums of the pixels of each channel, at most three images at a time."""

    batch = None
    most = 3

    def __init__(self, contract: Contract) -> None:
        self.contract, self.seen = contract, list[int]()

    def run(self, inputs: np.ndarray) -> np.ndarray:
        self.seen.append(len(inputs))
        return inputs.sum((2, 3))


def test_batches_are_no_larger_than_a_runtime_takes(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = _Sums(contract)
    monkeypatch.setitem(runtimes.RUNNERS, ".pte", lambda *_: runner)
    faces = make_pairs_set().images[:7]
    found = embed_file(tmp_path / "student.pte", faces, batch=32)
    assert runner.seen == [3, 3, 3]
    expected = WANTED(torch.from_numpy(faces)).sum((2, 3)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_an_onnx_file_runs_as_elsewhere(exported: Exported) -> None:
    from proxylesskd.export.contract import embed_with

    found = embed_file(exported.path, exported.faces, batch=4, threads=64)
    np.testing.assert_allclose(found, embed_with(exported.path, exported.faces, batch=9), atol=1e-5)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("flip", [False, True])
def test_the_module_for_other_runtimes_computes_what_the_file_does(kind: str, flip: bool) -> None:
    """Against the preprocessing in PyTorch and the network alone."""
    network, faces = make_small(), torch.from_numpy(make_pairs_set().images[:3])
    whole = Whole(network, WANTED, KINDS[kind], flip_fusion=flip).eval()
    given = WANTED(faces) if kind == "float" else faces
    if kind == "pixels":
        given = faces.float()
    elif kind != "float":
        given = given.flip(1) if "bgr" in kind else given
        given = given.permute(0, 2, 3, 1) if "nhwc" in kind else given
    with torch.no_grad():
        views = [faces, faces.flip(3)] if flip else [faces]
        expected = sum(torch.nn.functional.normalize(network(WANTED(view))) for view in views)
        found = whole(given)
    assert given.shape[1:] == example_of(WANTED, KINDS[kind], 2).shape[1:]
    assert given.dtype == example_of(WANTED, KINDS[kind], 2).dtype
    np.testing.assert_allclose(found.numpy(), torch.nn.functional.normalize(expected).numpy(), atol=1e-4)


def _fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    for member, value in members.items():
        setattr(module, member, value)
    monkeypatch.setitem(sys.modules, name, module)


def test_a_converter_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def convert(module: Any, given: Any) -> None:
        print("pages of advice")
        raise ValueError("no such operator\nmore")

    _fake(monkeypatch, "litert_torch", convert=convert)
    whole = Whole(make_small(), WANTED, FLOAT).eval()
    with pytest.raises(UserError, match=r"cannot be converted to LiteRT: ValueError: no such operator$"):
        mobile.write_litert(whole, example_of(WANTED, FLOAT, 2), tmp_path / "x.tflite")
    assert capsys.readouterr().out == ""


def test_litert_gets_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Converted:
        def export(self, path: str) -> None:
            Path(path).write_bytes(b"tflite")

    shapes = []
    _fake(monkeypatch, "litert_torch", convert=lambda _, given: (shapes.append(tuple(given[0].shape)), Converted())[1])
    mobile.write_litert(Whole(make_small(), WANTED, FLOAT), example_of(WANTED, FLOAT, 2), tmp_path / "x.tflite")
    assert shapes == [(1, 3, 56, 56)]
    assert (tmp_path / "x.tflite").read_bytes() == b"tflite"


def test_executorch_for_real(contract: Contract, tmp_path: Path) -> None:
    pytest.importorskip("executorch.runtime", reason="executorch is not installed")
    whole = Whole(make_small(), WANTED, FLOAT).eval()
    path = tmp_path / "student.pte"
    mobile.write_executorch(whole, example_of(WANTED, FLOAT, 2), path)
    write_beside(path, contract)
    faces = make_pairs_set().images[:7]
    with torch.no_grad():
        expected = whole(WANTED(torch.from_numpy(faces))).numpy()
    np.testing.assert_allclose(embed_file(path, faces, batch=32), expected, atol=1e-4)


def test_core_ml_takes_no_uint8(tmp_path: Path) -> None:
    kind = KINDS["uint8-nhwc-rgb"]
    with pytest.raises(UserError, match="give --input pixels"):
        mobile.write_coreml(Whole(make_small(), WANTED, kind), example_of(WANTED, kind, 2), tmp_path / "x.mlpackage")
