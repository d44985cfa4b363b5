from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from proxylesskd.errors import UserError
from proxylesskd.models.onnx_cut import cut_at
from proxylesskd.models.onnx_graph import read_graph
from proxylesskd.teacher import load_teacher
from tests.models.graphs import DIM, embed_by_loops, images, unit, write_graph


def _teacher(path: Path, shapes: bool = False) -> Path:
    w = np.random.default_rng(0).normal(size=(DIM, 50)).astype(np.float32)
    after = [helper.make_node("MatMul", ["flat", "w"], ["x"]), helper.make_node("Softmax", ["x"], ["p"])]
    write_graph(path, after=after, constants={"w": w}, output=("p", ["n", 50]))
    if shapes:
        model = onnx.load(str(path))
        model.graph.value_info.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", DIM]))
        onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("shapes", [False, True])
def test_what_is_not_needed_goes(tmp_path: Path, shapes: bool) -> None:
    model, _ = read_graph(_teacher(tmp_path / "t.onnx", shapes))
    cut = cut_at(model, "flat")
    assert [node.op_type for node in cut.graph.node] == ["Conv", "Reshape"]
    assert {weight.name for weight in cut.graph.initializer} == {"kernel", "bias", "tail"}
    assert len(model.graph.node) == 4
    pixels = np.random.default_rng(1).normal(size=(3, 3, 16, 16)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(cut.SerializeToString()).run(None, {"input": pixels})
    np.testing.assert_allclose(found, embed_by_loops(pixels), atol=1e-4)


def test_what_branches_read_stays(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["flat", "w"], ["y"])], "b", [], [helper.make_empty_tensor_value_info("y")]
    )
    after = [helper.make_node("If", ["yes"], ["e"], then_branch=inner, else_branch=inner)]
    constants = {"w": np.ones(DIM, np.float32), "yes": np.array(True), "spare": np.ones(3, np.float32)}
    path = write_graph(tmp_path / "t.onnx", after=after, constants=constants, output=("e", ["n", DIM]))
    cut = cut_at(read_graph(path)[0], "e")
    assert {weight.name for weight in cut.graph.initializer} == {"kernel", "bias", "tail", "w", "yes"}
    assert [node.op_type for node in cut.graph.node] == ["Conv", "Reshape", "If"]


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    model, _ = read_graph(_teacher(tmp_path / "t.onnx"))
    with pytest.raises(UserError, match=r"output=flap .*did you mean 'flat'.*last ones are 'maps', 'flat', 'x', 'p'"):
        cut_at(model, "flap")


def test_a_teacher_is_cut_by_its_location(tmp_path: Path) -> None:
    path = _teacher(tmp_path / "t.onnx")
    with pytest.raises(UserError, match=r"probabilities from Softmax.*:output=NAME"):
        load_teacher(path)
    pixels = images(3)
    expected = unit(embed_by_loops(pixels))
    by_argument = load_teacher(path, output="flat", mean=0.0, std=1.0, threads=1)
    by_location = load_teacher(f"{path}:output=flat,mean=0,std=1", threads=1)
    for teacher in (by_argument, by_location):
        np.testing.assert_allclose(teacher.embed(torch.from_numpy(pixels)).numpy(), expected, atol=1e-5)
    logits = load_teacher(f"{path}:output=x,mean=0,std=1", threads=1)
    assert by_argument.fingerprint == by_location.fingerprint != logits.fingerprint


def test_only_graphs_are_cut(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "t.pt")
    with pytest.raises(UserError, match="output=flat with an ONNX file only"):
        load_teacher(f"{tmp_path}/t.pt:output=flat")
