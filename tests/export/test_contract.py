from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.export.contract import TEMPLATE, embed_with, open_session, prepare, read_contract
from proxylesskd.models.preprocess import Preprocessing
from tests.export.conftest import PREPROCESSING, Exported, make_faces


@pytest.mark.parametrize("size", [112, 56, 96, 128, 50])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_numpy_and_torch_prepare_alike(size: int, order: str, layout: str) -> None:
    fields = {"size": size, "mean": 100.0, "std": 50.0, "order": order, "layout": layout}
    images = np.random.default_rng(size).integers(0, 256, (2, 3, 112, 112), dtype=np.uint8)
    found = prepare(images, Preprocessing.from_dict(fields))
    pixels = F.adaptive_avg_pool2d(torch.from_numpy(images).double(), size).numpy()
    expected = (pixels[:, ::-1] if order == "bgr" else pixels) / 50 - 2
    expected = expected.transpose(0, 2, 3, 1) if layout == "nhwc" else expected
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_contract_comes_back_as_it_was_written(exported: Exported) -> None:
    contract = read_contract(exported.path)
    assert contract == exported.report.contract
    assert contract.preprocessing == PREPROCESSING
    assert contract.alignment == TEMPLATE
    assert contract.dim == 6


def test_batches_wrap_around_and_keep_the_order(exported: Exported) -> None:
    one_by_one = np.concatenate([embed_with(exported.path, exported.faces[i : i + 1], batch=1) for i in range(9)])
    for batch in (4, 9, 20):
        found = embed_with(exported.path, exported.faces, batch=batch)
        assert found.shape == (9, 6)
        np.testing.assert_allclose(found, one_by_one, atol=1e-6)


def _with_metadata(exported: Exported, path: Path, **properties: str) -> Path:
    proto = onnx.load(exported.path)
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, properties)
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"proxylesskd": "{"},
        {"proxylesskd": "[]"},
        {"proxylesskd": json.dumps({"format": 2})},
        {"proxylesskd": json.dumps({"format": 1, "dtype": "float32", "alignment": 3})},
    ],
)
def test_a_file_without_a_contract_is_refused(exported: Exported, tmp_path: Path, properties: dict[str, str]) -> None:
    with pytest.raises(UserError, match="expected ONNX metadata 'proxylesskd' as JSON"):
        read_contract(_with_metadata(exported, tmp_path / "x.onnx", **properties))


def test_no_onnx_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_text("hello")
    with pytest.raises(UserError, match="expected an ONNX file that onnxruntime can run"):
        open_session(path)
    with pytest.raises(UserError, match="expected an ONNX file"):
        open_session(tmp_path / "absent.onnx")


def test_a_missing_onnxruntime_is_told_of(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="'onnxruntime': pip install onnxruntime"):
        embed_with(exported.path, make_faces(1), batch=1)
