from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from proxylesskd.errors import UserError
from proxylesskd.export import onnx as exporter
from proxylesskd.export.onnx import export_onnx
from proxylesskd.models.preprocess import Preprocessing
from tests.export.conftest import PREPROCESSING, Exported, make_faces, make_tiny


def _inputs(faces: np.ndarray) -> np.ndarray:
    """The preprocessing once more, by Pillow: resize by area, swap colours, normalise."""
    small = [np.asarray(Image.fromarray(f.transpose(1, 2, 0)).resize((56, 56), Image.BOX)) for f in faces]
    bgr = np.stack(small)[:, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float64)
    return ((bgr - 120) / 64).astype(np.float32)


def _by_torch(model: nn.Module, inputs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        answer = copy.deepcopy(model).eval()(torch.from_numpy(inputs)).double().numpy()
    return answer / np.linalg.norm(answer, axis=1, keepdims=True)


@pytest.mark.parametrize("batch", [1, 3, 9])
def test_the_file_gives_unit_embeddings_of_the_network_at_any_batch_size(exported: Exported, batch: int) -> None:
    session = onnxruntime.InferenceSession(str(exported.path))
    inputs = _inputs(exported.faces[:batch])
    found = session.run(["embedding"], {"image": inputs})[0]
    np.testing.assert_allclose(found, _by_torch(exported.model, inputs), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_the_batch_dimension_has_a_name_and_no_size(exported: Exported) -> None:
    graph = onnx.load(exported.path).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "embedding"]
    image, embedding = ([d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in
                        (graph.input[0], graph.output[0]))  # fmt: skip
    assert image == ["batch", 3, 56, 56]
    assert embedding == ["batch", 6]
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)


def test_the_preprocessing_travels_inside_the_file(exported: Exported) -> None:
    told = next(json.loads(e.value) for e in onnx.load(exported.path).metadata_props if e.key == "proxylesskd")
    assert told["provenance"] == {"licence": "none at all", "data": "ü"}
    assert told["preprocessing"] == {"size": 56, "mean": 120.0, "std": 64.0, "order": "bgr", "layout": "nchw"}
    assert {key: told[key] for key in ("dim", "normalised", "dtype")} == {
        "dim": 6, "normalised": True, "dtype": "float32"
    }  # fmt: skip
    assert told["alignment"][0] == [38.2946, 51.6963]
    assert len(told["alignment"]) == 5


def test_the_file_tells_nothing_of_the_machine_that_made_it(exported: Exported) -> None:
    data = exported.path.read_bytes()
    for word in (b"site-packages", str(Path(__file__).parent).encode(), b"conftest", b"fx_node"):
        assert word not in data


def test_the_report_says_what_was_written(exported: Exported) -> None:
    report, data = exported.report, exported.path.read_bytes()
    assert report.size == len(data)
    assert report.sha256 == hashlib.sha256(data).hexdigest()
    assert report.opset == onnx.load(exported.path).opset_import[0].version
    assert sorted(report.gate) == [1, 7, 9]
    assert all(one.worst_cosine > 0.99999 and one.images == 9 for one in report.gate.values())
    told = json.loads(json.dumps(report.to_dict()))
    assert told["bytes"] == len(data)
    assert told["gate"]["7"]["failed"] == 0
    assert told["preprocessing"]["order"] == "bgr"


def test_the_model_is_left_as_it_was(exported: Exported) -> None:
    fresh = make_tiny(56)
    assert exported.model.training
    for (name, found), expected in zip(exported.model.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert torch.equal(found, expected), name


def test_plain_embeddings_channels_last_and_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One more export with every other option: NHWC, no normalisation, an opset, tensors for images."""

    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_tiny(112)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.inner(image.permute(0, 3, 1, 2))
            return answer

    model, faces = ChannelsLast(), make_faces(2)
    preprocessing = Preprocessing(layout="nhwc", mean=0, std=255)
    path = tmp_path / "nhwc.onnx"
    report = export_onnx(
        model, preprocessing, path, images=torch.from_numpy(faces), normalise=False, opset=18
    )  # fmt: skip
    out = capfd.readouterr()
    assert out.out == ""
    assert out.err == ""
    assert report.opset == 18
    assert sorted(report.gate) == [1, 2, 7]
    pixels = faces.transpose(0, 2, 3, 1).astype(np.float32) / 255
    found = onnxruntime.InferenceSession(str(path)).run(["embedding"], {"image": pixels})[0]
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


Fault = Callable[[onnx.ModelProto], None]


def _retell(**changes: Any) -> Fault:
    def plant(proto: onnx.ModelProto) -> None:
        entry = next(entry for entry in proto.metadata_props if entry.key == "proxylesskd")
        told = json.loads(entry.value)
        entry.value = json.dumps({**told, "preprocessing": {**told["preprocessing"], **changes}})

    return plant


def _fix_batch(proto: onnx.ModelProto) -> None:
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2


def _fix_batch_inside(proto: onnx.ModelProto) -> None:
    """A reshape to one image: the input says any batch, the graph mixes the images up."""
    shape = onnx.numpy_helper.from_array(np.array([1, -1], dtype=np.int64), "one_image")
    proto.graph.initializer.append(shape)
    names = [node.output[0] for node in proto.graph.node]
    last = proto.graph.node[names.index("embedding")]
    last.output[0] = "before"
    proto.graph.node.append(onnx.helper.make_node("Reshape", ["before", "one_image"], ["embedding"]))
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "batch"
    proto.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "length"


def _perturb(proto: onnx.ModelProto) -> None:
    """Break the scale of one channel of the convolution, as a bad quantisation would."""
    kernel = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4)
    values = onnx.numpy_helper.to_array(kernel).copy()
    values[3] *= 1.5
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))


def _scale_output(proto: onnx.ModelProto) -> None:
    """Embeddings of length 1.01: every cosine stays 1."""
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1.01, dtype=np.float32), "factor"))
    names = [node.output[0] for node in proto.graph.node]
    proto.graph.node[names.index("embedding")].output[0] = "before"
    proto.graph.node.append(onnx.helper.make_node("Mul", ["before", "factor"], ["embedding"]))


def _break_form(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "nobody"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_retell(mean=127.5), r"does not agree .* at batch size 1"),
        (_retell(std=127.5), r"does not agree"),
        (_retell(order="rgb"), r"does not agree"),
        (_fix_batch, r"refuses a batch of 1"),
        (_fix_batch_inside, r"expected .* to answer a batch of 7 with \[7, D\], found \(1, 42\)"),
        (_perturb, r"does not agree"),
        (_scale_output, r"unit length from the exported file, found length 1\.01"),
        (_break_form, r"malformed, onnx\.checker says"),
    ],
)
def test_planted_faults_are_caught_and_nothing_is_written(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, message: str
) -> None:
    path = tmp_path / "student.onnx"
    path.write_bytes(b"the file of an earlier export")
    proto = onnx.load(exported.path)

    def describe_wrongly(target: onnx.ModelProto, contract: object) -> None:
        fault(target)

    monkeypatch.setattr(exporter, "float_file", lambda *_, **__: proto)
    monkeypatch.setattr(exporter, "network_graph", lambda *_: None)
    monkeypatch.setattr(exporter, "describe", describe_wrongly)
    with pytest.raises(UserError, match=message):
        export_onnx(exported.model, PREPROCESSING, path, images=exported.faces)
    assert path.read_bytes() == b"the file of an earlier export"
    assert [entry.name for entry in tmp_path.iterdir()] == ["student.onnx"]


def test_without_a_fault_the_same_path_is_replaced(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counterpart of the faults above: the harness alone does not fail."""
    path = tmp_path / "student.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(exporter, "network_graph", lambda *_: None)
    monkeypatch.setattr(exporter, "float_file", lambda *_, **__: onnx.load(exported.path))
    export_onnx(exported.model, PREPROCESSING, path, images=exported.faces)
    assert onnx.load(path).graph.input[0].name == "image"
    assert [entry.name for entry in tmp_path.iterdir()] == ["student.onnx"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 3, 112, 112), np.uint8), r"M >= 1.*\(0, 3, 112, 112\)"),
        (np.zeros((2, 112, 112, 3), np.uint8), "expected real faces"),
        (np.zeros((2, 3, 112, 112), np.float32), "float32"),
        (np.full((2, 3, 112, 112), 9, np.uint8), "single colour"),
    ],
)
def test_images_that_check_nothing_are_refused(tmp_path: Path, images: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export_onnx(make_tiny(112), Preprocessing(), tmp_path / "x.onnx", images=images)


def test_a_network_that_is_no_embedder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"answers \[B, D\], found \(2, 3, 112, 112\)"):
        export_onnx(nn.Identity(), Preprocessing(), tmp_path / "x.onnx", images=make_faces(2))


def test_a_network_that_cannot_be_exported_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        try:
            raise ValueError("data-dependent\nand much more")
        except ValueError as inner:
            raise RuntimeError("pages of advice") from inner

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UserError, match=r"cannot be exported to ONNX: ValueError: data-dependent$"):
        export_onnx(make_tiny(112), Preprocessing(), tmp_path / "x.onnx", images=make_faces(2))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    with pytest.raises(UserError, match="returned nothing"):
        export_onnx(make_tiny(112), Preprocessing(), tmp_path / "x.onnx", images=make_faces(2))
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_to_proto", lambda *_: onnx.load(exported.path))
    with pytest.raises(UserError, match="expected a folder to write to"):
        export_onnx(exported.model, PREPROCESSING, tmp_path / "no" / "x.onnx", images=exported.faces)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_missing_packages_name_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"'{package}': pip install 'proxylesskd\[onnx\]'"):
        export_onnx(make_tiny(112), Preprocessing(), tmp_path / "x.onnx", images=make_faces(2))
