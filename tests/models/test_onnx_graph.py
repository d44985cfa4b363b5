from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from proxylesskd.errors import UserError
from proxylesskd.models.onnx_graph import (
    detected_scaling,
    freed_batch,
    image_input,
    leading_affine,
    output_shapes,
    read_graph,
    recorded_preprocessing,
)
from proxylesskd.models.preprocess import Preprocessing
from tests.models.graphs import DIM, SIZE, write_graph

HALF = np.array(0.5, np.float32)
CENTRE = np.array([127.5], np.float32)
SHRINK = np.array([1 / 128], np.float32)


def _affine_graph(path: Path, *operators: tuple[str, np.ndarray]) -> Path:
    nodes, constants, source = [], {}, "input"
    for number, (operator, value) in enumerate(operators):
        constants[f"c{number}"] = value
        nodes.append(helper.make_node(operator, [source, f"c{number}"], [f"v{number}"]))
        source = f"v{number}"
    return write_graph(path, before=nodes, pixels=source, constants=constants)


def test_weights_and_left_over_names_are_taken_off_the_inputs(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", weights_as_inputs=True, batch=1)
    assert [i.name for i in onnx.load(str(path)).graph.input] == ["kernel", "bias", "tail", "input", "left_over"]
    model, digest = read_graph(path)
    assert [i.name for i in model.graph.input] == ["input"]
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (None, SIZE, "nchw")),
        ({"batch": 2}, (2, SIZE, "nchw")),
        ({"nhwc": True, "batch": 2}, (2, SIZE, "nhwc")),
        ({"size": "side"}, (None, None, "nchw")),
    ],
)
def test_image_input(tmp_path: Path, options: dict, expected: tuple) -> None:
    found = image_input(read_graph(write_graph(tmp_path / "m.onnx", **options))[0])
    assert (found.batch, found.size, found.layout) == expected


def test_output_shapes(tmp_path: Path) -> None:
    assert output_shapes(read_graph(write_graph(tmp_path / "m.onnx"))[0]) == {"flat": [None, DIM]}


@pytest.mark.parametrize(
    ("operators", "affine", "scaling"),
    [
        ([], (1.0, 0.0), (127.5, 127.5)),
        ([("Sub", CENTRE), ("Mul", SHRINK)], (1 / 128, -127.5 / 128), (0.0, 1.0)),
        ([("Add", -CENTRE)], (1.0, -127.5), (0.0, 1.0)),
        ([("Div", np.array([255.0], np.float32))], (1 / 255, 0.0), (0.0, 1.0)),
        ([("Sub", HALF), ("Div", HALF)], (2.0, -1.0), (0.0, 255.0)),
        ([("Mul", np.float32([0.9]))], (0.9, 0.0), (127.5, 127.5)),
        ([("Sub", np.float32([123, 117, 104]).reshape(1, 3, 1, 1))], (1.0, -114.666667), (0.0, 1.0)),
    ],
)
def test_scaling_is_read_from_the_first_nodes(
    tmp_path: Path, operators: list, affine: tuple[float, float], scaling: tuple[float, float]
) -> None:
    model, _ = read_graph(_affine_graph(tmp_path / "m.onnx", *operators))
    assert leading_affine(model) == pytest.approx(affine, rel=1e-6)
    mean, std, why = detected_scaling(model)
    assert (mean, std) == scaling
    assert (why == "assumed") == (scaling == (127.5, 127.5))


def _recorded(path: Path, text: str) -> Any:
    model, _ = read_graph(write_graph(path))
    model.metadata_props.add(key="proxylesskd", value=text)
    return model


def test_what_an_export_recorded(tmp_path: Path) -> None:
    fields = Preprocessing(size=16, mean=1.0, std=2.0, order="bgr").to_dict()
    assert (
        recorded_preprocessing(_recorded(tmp_path / "m.onnx", json.dumps({"preprocessing": {**fields, "more": 1}})))
        == fields
    )
    assert recorded_preprocessing(read_graph(tmp_path / "m.onnx")[0]) == {}


@pytest.mark.parametrize("text", ["{", "[1]", '{"size": 16}', "3"])
def test_a_record_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="expected the ONNX metadata 'proxylesskd'"):
        recorded_preprocessing(_recorded(tmp_path / "m.onnx", text))


def test_a_constant_minus_the_pixels_turns_the_sign(tmp_path: Path) -> None:
    node = helper.make_node("Sub", ["c", "input"], ["v"])
    path = write_graph(tmp_path / "m.onnx", before=[node], pixels="v", constants={"c": CENTRE})
    assert leading_affine(read_graph(path)[0]) == (-1.0, 127.5)


def test_a_constant_node_counts_like_a_weight(tmp_path: Path) -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [], [127.5])
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Sub", ["input", "c"], ["v"])]
    path = write_graph(tmp_path / "m.onnx", before=nodes, pixels="v")
    assert leading_affine(read_graph(path)[0]) == (1.0, -127.5)


def test_normalisation_by_a_batch_norm(tmp_path: Path) -> None:
    mean, var = np.float32([130, 120, 110]), np.float32([4096, 4096, 4096])
    norm = {"g": np.ones(3, np.float32), "b": np.zeros(3, np.float32), "m": mean, "v": var}
    node = helper.make_node("BatchNormalization", ["input", "g", "b", "m", "v"], ["normed"])
    path = write_graph(tmp_path / "m.onnx", before=[node], pixels="normed", constants=norm)
    scale, offset = leading_affine(read_graph(path)[0])
    assert (scale, offset) == pytest.approx((1 / 64, -120 / 64), rel=1e-5)
    assert detected_scaling(read_graph(path)[0])[:2] == (0.0, 1.0)


def test_a_branch_or_an_operand_that_is_no_constant_ends_the_search(tmp_path: Path) -> None:
    doubled = helper.make_node("Add", ["input", "input"], ["v"])
    assert leading_affine(read_graph(write_graph(tmp_path / "a.onnx", before=[doubled], pixels="v"))[0]) == (1.0, 0.0)
    unknown = {"g": np.ones(3, np.float32), "b": np.zeros(3, np.float32), "m": np.ones(3, np.float32)}
    nodes = [
        helper.make_node("Identity", ["m"], ["v"]),
        helper.make_node("BatchNormalization", ["input", "g", "b", "m", "v"], ["n"]),
    ]
    path = write_graph(tmp_path / "b.onnx", before=nodes, pixels="n", constants=unknown)
    assert leading_affine(read_graph(path)[0]) == (1.0, 0.0)


def test_freeing_edits_only_what_the_pixels_pass(tmp_path: Path) -> None:
    # The kernel is stored flat and reshaped by a constant that also starts with the batch size.
    reshape = helper.make_node("Reshape", ["flat_kernel", "kernel_shape"], ["unused_kernel"])
    constants = {"flat_kernel": np.zeros(32, np.float32), "kernel_shape": np.array([2, 16], np.int64)}
    path = write_graph(tmp_path / "m.onnx", batch=2, tail=(2, DIM), before=[reshape], constants=constants)
    model, _ = read_graph(path)
    freed = freed_batch(model, 2)
    shapes = {t.name: onnx.numpy_helper.to_array(t).tolist() for t in freed.graph.initializer if t.data_type == 7}
    by_output = {n.output[0]: n.input[1] for n in freed.graph.node if n.op_type == "Reshape"}
    assert shapes[by_output["unused_kernel"]] == [2, 16]
    assert shapes[by_output["flat"]] == [0, DIM]
    assert image_input(freed).batch is None
    assert output_shapes(freed) == {"flat": [None, DIM]}
    assert image_input(model).batch == 2  # the original is untouched


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"channels": 1}, r"shape \[\?, 1, 16, 16\]"),
        ({"kind": TensorProto.INT32}, "element type INT32"),
    ],
)
def test_other_inputs_are_refused(tmp_path: Path, options: dict, found: str) -> None:
    model, _ = read_graph(write_graph(tmp_path / "m.onnx", **options))
    with pytest.raises(UserError, match=f"no face-recognition model.*{found}"):
        image_input(model)


def test_two_inputs_and_oblong_images_are_refused(tmp_path: Path) -> None:
    two = helper.make_node("Add", ["input", "left_over"], ["v"])
    path = write_graph(tmp_path / "m.onnx", before=[two], pixels="v", weights_as_inputs=True)
    with pytest.raises(UserError, match="found inputs input, left_over"):
        image_input(read_graph(path)[0])
    model, _ = read_graph(write_graph(tmp_path / "o.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 24
    with pytest.raises(UserError, match=r"\[\?, 3, 16, 24\]"):
        image_input(model)


@pytest.mark.parametrize("content", [b"", b"not a protobuf at all", b"\x08\x07"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UserError, match="expected an ONNX model at"):
        read_graph(tmp_path / "m.onnx")


def test_weights_in_a_second_file_count_into_the_digest(tmp_path: Path) -> None:
    plain = onnx.load(str(write_graph(tmp_path / "m.onnx")))
    onnx.save(plain, str(tmp_path / "e.onnx"), save_as_external_data=True, location="e.data", size_threshold=0)
    model, digest = read_graph(tmp_path / "e.onnx")
    kernel = next(t for t in model.graph.initializer if t.name == "kernel")
    assert onnx.numpy_helper.to_array(kernel).any()
    data = bytearray((tmp_path / "e.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "e.data").write_bytes(bytes(data))
    assert read_graph(tmp_path / "e.onnx")[1] != digest


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    plain = onnx.load(str(write_graph(tmp_path / "m.onnx")))
    onnx.save(plain, str(folder / "e.onnx"), save_as_external_data=True, location="e.data", size_threshold=0)
    (folder / "e.data").rename(tmp_path / "e.data")
    content = (folder / "e.onnx").read_bytes()
    model = onnx.load_model_from_string(content)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../e.data"
    (folder / "e.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="expected an ONNX model at"):
        read_graph(folder / "e.onnx")


def test_without_the_package_the_command_to_install_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'proxylesskd\[onnx\]'"):
        read_graph(tmp_path / "m.onnx")


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Identity", ["input"], ["input"]))
    del model.graph.node[1:]


def _short_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].raw_data = b"\0" * 8


def _no_kind(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].data_type = 0


def _unknown_pixels(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 33


def _text(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]
    model.graph.initializer.append(helper.make_tensor("half", TensorProto.STRING, [1], [b"0.5"]))
    model.graph.node.insert(0, helper.make_node("Sub", ["input", "half"], ["x"]))
    del model.graph.node[1:]


def _uneven_norm(model: onnx.ModelProto) -> None:
    for name, size in (("g", 3), ("b", 2), ("m", 3), ("v", 4)):
        model.graph.initializer.append(numpy_helper.from_array(np.ones(size, np.float32), name))
    model.graph.node.insert(0, helper.make_node("BatchNormalization", ["input", "g", "b", "m", "v"], ["x"]))
    del model.graph.node[1:]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_cycle, None),
        (_short_weights, "expected whole tensors in the ONNX model, found 'bias'"),
        (_no_kind, "expected whole tensors in the ONNX model, found 'bias'"),
        (_unknown_pixels, "found element type 33"),
        (_text, None),
        (_uneven_norm, None),
    ],
)
def test_hostile_graphs_are_refused_or_passed_over(
    tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], found: str | None
) -> None:
    path = write_graph(tmp_path / "m.onnx")
    model = onnx.load(path)
    spoil(model)
    onnx.save(model, path)
    graph, _ = read_graph(path)
    if found is None:
        assert leading_affine(graph) == (1.0, 0.0)
        return
    refuses = image_input if spoil is _unknown_pixels else detected_scaling
    with pytest.raises(UserError, match=found):
        refuses(graph)
