from __future__ import annotations

import dataclasses
import hashlib
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
from proxylesskd.export import deliver
from proxylesskd.export.agreement import LIMITS
from proxylesskd.export.assemble import FLOAT, KINDS
from proxylesskd.export.contract import read_contract
from proxylesskd.export.deliver import Material, check, make_files, write_file
from proxylesskd.teacher import load_teacher
from tests.export.material import WANTED, make_material, make_small, retold, small_body


@pytest.fixture(scope="module")
def made() -> tuple[nn.Module, Any]:
    model = make_small()
    return model, small_body(model)


@pytest.fixture(scope="module")
def material(made: tuple[nn.Module, Any]) -> Material:
    return make_material(*made, FLOAT)


def _by_hand(model: nn.Module, faces: np.ndarray) -> np.ndarray:
    """The preprocessing by Pillow, the network by PyTorch."""
    small = [np.asarray(Image.fromarray(f.transpose(1, 2, 0)).resize((56, 56), Image.BOX)) for f in faces]
    pixels = torch.from_numpy((np.stack(small)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) - 120) / 64)
    with torch.no_grad():
        found = model(pixels).double().numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _fed(path: Path, faces: np.ndarray, kind: str) -> np.ndarray:
    """What the file makes of the plain pixels of its kind, by onnxruntime alone."""
    pixels = faces[:, ::-1] if "bgr" in kind else faces
    pixels = pixels.transpose(0, 2, 3, 1) if "nhwc" in kind else pixels
    pixels = pixels.astype(np.float32) if kind == "pixels" else pixels
    return onnxruntime.InferenceSession(str(path)).run(["embedding"], {"image": np.ascontiguousarray(pixels)})[0]


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "float"])
@pytest.mark.parametrize("flip", [False, True])
def test_files_take_pixels_and_answer_what_the_network_would(
    made: tuple[nn.Module, Any], tmp_path: Path, kind: str, flip: bool
) -> None:
    material = make_material(*made, KINDS[kind], flip_fusion=flip)
    path = tmp_path / "student.onnx"
    write_file(material, "onnx", path)
    faces = material.truth.faces[:5]
    expected = _by_hand(made[0], faces)
    if flip:
        expected = expected + _by_hand(made[0], faces[..., ::-1])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    for batch in (1, 5):
        found = _fed(path, faces[:batch], kind)
        # Pillow rounds what it resizes to whole numbers, the file does not
        assert (found * expected[:batch]).sum(1).min() > 0.9995
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert check(path, material, LIMITS["float32"])[1] == ""
    told = read_contract(path)
    assert told.preprocessing.size == 112
    assert told.flip_fusion is flip
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert properties["card"] == "the card"


def test_a_file_of_pixels_is_a_teacher_too(made: tuple[nn.Module, Any], tmp_path: Path) -> None:
    material = make_material(*made, KINDS["uint8-nhwc-bgr"])
    write_file(material, "onnx", tmp_path / "student.onnx")
    faces = torch.from_numpy(material.truth.faces[:4])
    with torch.no_grad():
        expected = torch.nn.functional.normalize(made[0](WANTED(faces)))
    found = load_teacher(tmp_path / "student.onnx").embed(faces)
    assert float((found * expected).sum(1).min()) > 0.9999


def test_all_onnx_formats_pass_and_stand(material: Material, tmp_path: Path) -> None:
    made, refused = make_files(material, tmp_path, "student", ["onnx", "fp16", "int8"])
    assert refused == []
    assert [one.path.name for one in made] == ["student.onnx", "student.fp16.onnx", "student.int8.onnx"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(one.path.name for one in made)
    for one in made:
        data = one.path.read_bytes()
        assert (one.size, one.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert one.agreement is not None
        assert one.agreement.accuracy is not None
        assert one.refused == ""
    whole, half, eight = made
    assert whole.agreement.cosine.worst_cosine > 0.99999
    assert half.agreement.cosine.worst_cosine > 0.999
    assert eight.agreement.cosine.mean_cosine > 0.98
    kinds = {t.data_type for t in onnx.load(half.path).graph.initializer if len(t.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}
    proto = onnx.load(eight.path)
    weights = {node.input[3] for node in _convolutions(proto)}
    assert [t.data_type for t in proto.graph.initializer if t.name in weights] == [onnx.TensorProto.INT8] * 3
    assert eight.notes["layers"] == 4


Fault = Callable[[onnx.ModelProto], None]


def _swap_colours(proto: onnx.ModelProto) -> None:
    """Turn round the input channels of the first convolution."""
    first = next(node for node in proto.graph.node if node.op_type == "Conv")
    kernel = next(tensor for tensor in proto.graph.initializer if tensor.name == first.input[1])
    values = onnx.numpy_helper.to_array(kernel)[:, ::-1].copy()
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))


def _other_mean(proto: onnx.ModelProto) -> None:
    tensor = next(n for n in proto.graph.node if n.name == "Sub_mean").input[1]
    mean = next(t for t in proto.graph.initializer if t.name == tensor)
    mean.CopyFrom(onnx.numpy_helper.from_array(np.array([0.0], np.float32), mean.name))


def _fix_batch(proto: onnx.ModelProto) -> None:
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def _fix_batch_inside(proto: onnx.ModelProto) -> None:
    shape = onnx.numpy_helper.from_array(np.array([1, 16], dtype=np.int64), "one_image")
    proto.graph.initializer.append(shape)
    next(node for node in proto.graph.node if "embedding" in node.output).output[0] = "before"
    proto.graph.node.append(onnx.helper.make_node("Reshape", ["before", "one_image"], ["embedding"]))


def _convolutions(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions in eight bits but for those that stand for a PReLU's slopes."""
    made = [node for node in proto.graph.node if node.op_type == "QLinearConv"]
    return [node for node in made if not node.output[0].endswith(".low.u8")]


def _break_scale(position: int) -> Fault:
    """Make the output scale of one quantised convolution forty times too coarse."""

    def plant(proto: onnx.ModelProto) -> None:
        node = _convolutions(proto)[position]
        scale = next(t for t in proto.graph.initializer if t.name == node.input[6])
        value = onnx.numpy_helper.to_array(scale) * 40
        scale.CopyFrom(onnx.numpy_helper.from_array(np.array(value, np.float32), scale.name))

    return plant


def _break_weights(proto: onnx.ModelProto) -> None:
    """Put the scales of a layer's channels in the wrong order, as a quantiser with the wrong axis would."""
    scales = next(t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16)
    value = onnx.numpy_helper.to_array(scales).copy()
    value[:8] *= np.array([8, 1 / 8] * 4, np.float16)  # the first layer's
    scales.CopyFrom(onnx.numpy_helper.from_array(value, scales.name))


CASES = {
    "colours": ("onnx", "float", _swap_colours, r"most likely red and blue are swapped: it says BGR"),
    "colours of pixels": ("onnx", "uint8-nhwc-rgb", _swap_colours, r"red and blue are swapped: it says RGB"),
    "mean of pixels": (
        "onnx", "uint8-nhwc-rgb", _other_mean,
        r"mean or scale is wrong: a pixel value v should become \(v - 120\) / 64, and becomes \(v - -?0\) / 64",
    ),
    "batch": ("onnx", "float", _fix_batch, r"batch dimension is fixed"),
    "batch inside": ("onnx", "float", _fix_batch_inside, r"its batch dimension is fixed: it runs 1 at a time but not"),
    "scale of layer 2": ("int8", "float", _break_scale(1), r"layer 2 of 4 .* is broken: .* eight-bit scale is wrong"),
    "scale of layer 3": ("int8", "float", _break_scale(2), r"layer 3 of 4 .* is broken"),
    "weights of layer 1": ("int8", "float", _break_weights, r"layer 1 of 4 .* is broken"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_planted_faults_are_caught_and_named(
    made: tuple[nn.Module, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    name, kind, fault, message = CASES[case]
    material = make_material(*made, KINDS[kind])
    right = deliver.write_file

    def wrongly(material: Material, name: str, path: Path) -> dict[str, Any]:
        notes = right(material, name, path)
        proto = onnx.load(path)
        fault(proto)
        onnx.save(proto, path)
        return notes

    ending = {"onnx": ".onnx", "int8": ".int8.onnx"}[name]
    (tmp_path / f"student{ending}").write_bytes(b"of an earlier export")
    monkeypatch.setattr(deliver, "write_file", wrongly)
    kept, refused = make_files(material, tmp_path, "student", [name])
    assert kept == []
    with pytest.raises(UserError, match=message):
        raise UserError(refused[0])
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"of an earlier export"]
    forced, _ = make_files(material, tmp_path, "student", [name], force=True)
    assert forced[0].refused
    assert onnx.load(forced[0].path).graph.node


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"mean": 127.5}, r"mean or scale is wrong: .* \(v - 120\) / 64, and becomes \(v - 127\.5\) / 64"),
        ({"std": 127.5}, r"mean or scale is wrong: .* becomes \(v - 120\) / 127\.5"),
        ({"order": "rgb"}, r"red and blue are swapped: it says RGB"),
    ],
)
def test_a_contract_that_lies_is_caught_and_the_lie_named(
    material: Material, tmp_path: Path, told: dict[str, Any], message: str
) -> None:
    _, refused = make_files(retold(material, **told), tmp_path, "student", ["onnx"])
    with pytest.raises(UserError, match=message):
        raise UserError(refused[0])


def test_what_is_off_everywhere_is_not_blamed_on_one_thing(material: Material, tmp_path: Path) -> None:
    """Another network altogether: no single suspicion holds."""
    random = np.random.default_rng(0).normal(size=material.truth.reference.shape).astype(np.float32)
    path = tmp_path / "student.onnx"
    write_file(material, "onnx", path)
    truth = dataclasses.replace(material.truth, reference=random)
    found, complaint = check(path, dataclasses.replace(material, truth=truth), LIMITS["float32"])
    assert found is not None
    assert "no single fault was found" in complaint


def test_too_few_faces_for_ranges_are_refused(material: Material, tmp_path: Path) -> None:
    few = dataclasses.replace(material, training=material.training[:15])
    with pytest.raises(UserError, match=r"at least 16 training faces .* found 15"):
        make_files(few, tmp_path, "student", ["int8"])
    assert not list(tmp_path.iterdir())
