from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from proxylesskd.errors import UserError
from proxylesskd.models.onnx_network import OnnxNetwork
from tests.models.graphs import DIM, SIZE, embed_by_loops, images, write_graph


def _value(name: str, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


QUIRKS: dict[str, dict[str, Any]] = {
    "free batch": {},
    "weights among the inputs": {"weights_as_inputs": True},
    "batch 1, tail [1, -1]": {"batch": 1, "tail": (1, -1)},
    "batch 2, tail [2, D]": {"batch": 2, "tail": (2, DIM)},
    "batch 2, channels last": {"batch": 2, "tail": (2, DIM), "nhwc": True},
    "batch 1, weights among the inputs": {"batch": 1, "tail": (1, DIM), "weights_as_inputs": True},
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_quirks_give_the_embedding_of_the_loops(tmp_path: Path, quirk: str) -> None:
    network = OnnxNetwork(write_graph(tmp_path / "m.onnx", **QUIRKS[quirk]), threads=1)
    assert (network.batch, network.dim, network.size) == (None, DIM, SIZE)
    pixels = images(5)
    fed = pixels.transpose(0, 2, 3, 1) if network.input.layout == "nhwc" else pixels
    found = network(torch.from_numpy(np.ascontiguousarray(fed)).float()).numpy()
    np.testing.assert_allclose(found, embed_by_loops(pixels), rtol=1e-4, atol=1e-3)


def test_a_batch_that_cannot_be_freed_stays(tmp_path: Path) -> None:
    # [2, 4, 2, 2] -> [32] -> [2, 16]: the first constant hides the batch, so that other sizes fail.
    nodes = [helper.make_node("Reshape", ["flat", "rows"], ["embedding"])]
    path = write_graph(
        tmp_path / "m.onnx",
        batch=2,
        tail=(2 * DIM,),
        after=nodes,
        constants={"rows": np.array([2, DIM], np.int64)},
        output=("embedding", [2, DIM]),
    )
    network = OnnxNetwork(path, threads=1)
    assert network.batch == 2
    pixels = images(2)
    found = network(torch.from_numpy(pixels).float()).numpy()
    np.testing.assert_allclose(found, embed_by_loops(pixels), rtol=1e-4, atol=1e-3)


def test_a_graph_that_mixes_images_is_not_freed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["flat", "mean"], ["embedding"]),
    ]
    path = write_graph(tmp_path / "m.onnx", batch=2, tail=(2, DIM), after=nodes, output=("embedding", [2, DIM]))
    assert OnnxNetwork(path, threads=1).batch == 2


def test_maps_of_one_pixel_and_a_quality_beside_the_embedding(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["flat", "square"], ["embedding"]),
        helper.make_node("ReduceMean", ["flat"], ["quality"], axes=[1], keepdims=1),
    ]
    path = write_graph(
        tmp_path / "m.onnx",
        after=nodes,
        constants={"square": np.array([-1, DIM, 1, 1], np.int64)},
        output=("embedding", ["n", DIM, 1, 1]),
        extra_outputs=[_value("quality", ["n", 1])],
    )
    network = OnnxNetwork(path, threads=1)
    pixels = images(3)
    found = network(torch.from_numpy(pixels).float())
    assert found.shape == (3, DIM)
    np.testing.assert_allclose(found.numpy(), embed_by_loops(pixels), rtol=1e-4, atol=1e-3)


def test_pixels_as_bytes(tmp_path: Path) -> None:
    cast = helper.make_node("Cast", ["input"], ["v"], to=TensorProto.FLOAT)
    path = write_graph(tmp_path / "m.onnx", before=[cast], pixels="v", kind=TensorProto.UINT8)
    pixels = images(3)
    found = OnnxNetwork(path, threads=1)(torch.from_numpy(pixels).float()).numpy()
    np.testing.assert_allclose(found, embed_by_loops(pixels), rtol=1e-4, atol=1e-3)


def test_a_free_size_is_the_callers(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", size="side")
    assert OnnxNetwork(path, size=SIZE, threads=1).dim == DIM
    fixed = write_graph(tmp_path / "f.onnx")
    with pytest.raises(UserError, match=r"expected size=16 .* found size=32"):
        OnnxNetwork(fixed, size=32)


def test_a_size_that_the_graph_cannot_take_is_named(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", size="side")
    with pytest.raises(UserError, match=r"to take images of shape \[2, 3, 4, 4\]"):
        OnnxNetwork(path, size=4, threads=1)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"tail": None, "output": ("maps", ["n", 4, 2, 2])}, r"1 output\(s\) in .*: maps \[\?, 4, 2, 2\]"),
        ({"tail": (-1, 4, 4), "output": ("flat", ["n", 4, 4])}, r"flat \[\?, 4, 4\]"),
        ({"tail": (-1, 4), "output": ("flat", ["n", "d"])}, r"flat \[8, 4\]"),
    ],
)
def test_other_outputs_are_refused(tmp_path: Path, options: dict, found: str) -> None:
    path = write_graph(tmp_path / "m.onnx", **options)
    with pytest.raises(UserError, match=f"no face-recognition model: .*{found}"):
        OnnxNetwork(path, threads=1)


def test_two_embeddings_are_ambiguous(tmp_path: Path) -> None:
    double = helper.make_node("Add", ["flat", "flat"], ["twice"])
    path = write_graph(tmp_path / "m.onnx", after=[double], extra_outputs=[_value("twice", ["n", DIM])])
    with pytest.raises(UserError, match=r"found 2 output\(s\)"):
        OnnxNetwork(path, threads=1)


def test_a_classifier_is_refused(tmp_path: Path) -> None:
    softmax = helper.make_node("Softmax", ["flat"], ["p"])
    path = write_graph(tmp_path / "m.onnx", after=[softmax], output=("p", ["n", DIM]))
    with pytest.raises(UserError, match="found probabilities from Softmax"):
        OnnxNetwork(path, threads=1)


def test_a_graph_that_onnxruntime_refuses(tmp_path: Path) -> None:
    unknown = helper.make_node("NoSuchOperator", ["flat"], ["e"])
    path = write_graph(tmp_path / "m.onnx", after=[unknown], output=("e", ["n", DIM]))
    with pytest.raises(UserError, match="that onnxruntime can run"):
        OnnxNetwork(path, threads=1)


def test_cuda_needs_the_other_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    path = write_graph(tmp_path / "m.onnx")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match="found its CPU build"):
        OnnxNetwork(path, device="cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    asked: list[list[str]] = []
    real = onnxruntime.InferenceSession

    def session(content: bytes, options: Any, providers: list[Any]) -> Any:
        asked.append(providers)
        return real(content, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    OnnxNetwork(path, device="cuda:0")
    assert asked == [[("CUDAExecutionProvider", {"device_id": 0}), ("CPUExecutionProvider", {})]]


def test_without_onnxruntime_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_graph(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'proxylesskd\[onnx\]'"):
        OnnxNetwork(path)
